"""The power goes in the middle of a sale: light, paper, journal and ledger agree afterwards."""

import base64
import io
import re
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.journal.chain import FILE_NAME
from device.journal.journal import look_at
from image.emulation.console import GuestError
from image.emulation.counter import WITHIN_S, Counter, Posting, ledger
from image.emulation.cutting import Bench, Row
from image.emulation.lamp import Hue
from image.emulation.stage import Stage, flat, now
from image.emulation.volatile_disk import Loss
from venue.attendee import Attendee
from venue.stack import Venue

STATE: Final = "/var/lib/railtix"
PRICE: Final = 500
HOLD_MS: Final = 1500
_CODE: Final = re.compile(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b")


@dataclass(frozen=True)
class Receipt:
    """A whole one on paper: whose it is, by the code printed on it."""

    code: str
    is_copy: bool


@dataclass(frozen=True)
class Journal:
    """What the guest's journal holds: the head of each entry's chain, by number."""

    heads: dict[int, str]
    is_settled: bool


@dataclass(frozen=True)
class Cut:
    """What is known of a sale when its power went; `receipts`: since its last key."""

    moment_s: float
    loss: Loss
    was_green: bool
    receipts: tuple[Receipt, ...]
    sales_before: int
    journal: Journal


def nothing_else() -> None:
    """The sale is all there is."""


def cut_sales(bench: Bench, venue: Venue, moments: int) -> list[Row]:
    """Enrol, sign in, and sell again and again, each time cut off at another moment."""
    counter = Counter(venue, bench.power_on())
    counter.enrol()
    counter.sign_in(venue.badge)
    rows = cut_sales_of(bench, counter, moments)
    bench.close()
    return rows


def cut_sales_of(
    bench: Bench, counter: Counter, moments: int, meanwhile: Callable[[], None] = nothing_else
) -> list[Row]:
    """The same at a counter where staff are signed in; the machine runs afterwards.

    `meanwhile`: begun before each sale, and cut off with it.
    """
    guest = counter.guest("cut@example.org", PRICE * (moments + 4))
    whole_s = _last_key_to_slip(counter, guest)
    bench.tell(f"a sale that nobody cuts takes {whole_s:.1f} s from the last key to its receipt")
    rows: list[Row] = []
    for number in range(moments):
        moment_s = bench.moment(number, moments, whole_s * 1.1)
        try:
            meanwhile()
            cut = _cut_one(bench, counter, guest, moment_s, number)
        except GuestError as fault:
            bench.tell(f"no sale could be begun: {fault}")
            break
        try:
            counter.stage = bench.power_on()
            row = _recover(counter, cut, keeps=number % 3 != 2)
        except GuestError as fault:
            row = Row("sale", cut.moment_s, cut.loss, _light(cut), "nothing", (str(fault),))
        rows.append(row)
        bench.tell(row.spell(number + 1))
        if row.faults:
            break  # what is broken is looked at, not built on
    return rows


def _cut_one(bench: Bench, counter: Counter, guest: Attendee, moment_s: float, number: int) -> Cut:
    before, journal = len(ledger(counter.venue)), read_journal(counter.stage)
    _key_up_to_the_last(counter, guest)
    began = now()
    counter.stage.start_tap("#")
    time.sleep(max(0.0, began + moment_s - now()))
    loss = bench.cut(loses=number % 2 == 0)
    was_green = any(each.is_full_green for each in counter.stage.lamp.glances if each.at > began)
    receipts = receipts_among(counter.stage.slips(began))
    return Cut(moment_s, loss, was_green, receipts, before, journal)


def _key_up_to_the_last(counter: Counter, guest: Attendee) -> None:
    """The phone first, then the amount: what is left is one key."""
    counter.show_until(Hue.CYAN, guest)
    counter.stage.type(str(PRICE))


def _last_key_to_slip(counter: Counter, guest: Attendee) -> float:
    _key_up_to_the_last(counter, guest)
    began = now()
    counter.stage.start_tap("#")
    counter.stage.wait_for_slip("Total", began, WITHIN_S)
    took_s = now() - began
    counter.stage.clear()
    counter.wait_for_hue(Hue.WHITE, now())
    return took_s


def _recover(counter: Counter, cut: Cut, *, keeps: bool) -> Row:
    """Let it recover, answer what it asks, and compare light, journal and ledger."""
    stage = counter.stage
    asked = stage.wait_for(lambda: _recovered(stage), "the till to recover", WITHIN_S) == "asked"
    if asked:
        began = now()
        stage.tap("#" if keeps else "*", 60 if keeps else HOLD_MS)
        counter.wait_for_hue(Hue.WHITE, began)
    journal = stage.wait_for(lambda: _settled(stage), "every message to be answered", WITHIN_S)
    known = ledger(counter.venue)
    sales, receipts = known[cut.sales_before :], receipts_among(stage.slips())
    faults = _faults(cut, sales, journal, asked=asked, keeps=keeps)
    faults += _paper_faults(cut, known, receipts, asked=asked)
    if stage.lamp.approved_at(0.0) is not None:
        faults.append("green lit for a past sale")
    stands = sum(not sale.is_reversed for sale in sales)
    found = f"{stands} deduct, {len(sales) - stands} reversed"
    if asked:
        found += f"; asked, and {'kept' if keeps else 'taken back'}"
    found += f"; {_paper(cut, sales, receipts)}"
    return Row("sale", cut.moment_s, cut.loss, _light(cut), found, tuple(faults))


def receipts_among(slips: Sequence[str]) -> tuple[Receipt, ...]:
    """Slips that are whole, and receipts."""
    texts = [flat(slip) for slip in slips if "Total" in slip]
    return tuple(
        Receipt(code.group(), "COPY" in text)
        for text in texts
        if (code := _CODE.search(text)) is not None
    )


def _paper(cut: Cut, sales: Sequence[Posting], after: Sequence[Receipt]) -> str:
    codes = {sale.code for sale in sales}
    if any(each.code in codes for each in cut.receipts):
        again = any(each.code in codes for each in after)
        return "receipt before" + ", and a copy after" * again
    return "receipt after" if any(each.code in codes for each in after) else "no receipt"


def _paper_faults(
    cut: Cut, known: Sequence[Posting], after: Sequence[Receipt], *, asked: bool
) -> list[str]:
    """docs/printing.md: a receipt is of a deduct that stands, and a second one says COPY.

    `known`: the whole ledger. What staff were asked about is theirs to take back, receipt or not.
    """
    by_code = {sale.code: sale for sale in known}
    new = {sale.code for sale in known[cut.sales_before :]}
    faults: list[str] = []
    for receipt in (*cut.receipts, *after):
        sale = by_code.get(receipt.code)
        if sale is None:
            faults.append(f"receipt {receipt.code} of a deduct that nobody knows")
        elif sale.is_reversed and receipt.code in new and not asked:
            faults.append(f"receipt {receipt.code} of a deduct that does not stand")
    given = {receipt.code for receipt in cut.receipts}
    faults += [
        f"receipt {receipt.code} came twice, and does not say COPY"
        for receipt in after
        if receipt.code in given and not receipt.is_copy
    ]
    return faults


def _faults(
    cut: Cut, sales: list[Posting], journal: Journal, *, asked: bool, keeps: bool
) -> list[str]:
    """docs/rules.md: what each light promises."""
    stands = sum(not sale.is_reversed for sale in sales)
    faults: list[str] = []
    lost = [
        number for number, head in cut.journal.heads.items() if journal.heads.get(number) != head
    ]
    if lost:
        faults.append(f"the journal lost {len(lost)} entries")
    if asked and stands != int(keeps):
        faults.append(f"staff {'kept it' if keeps else 'took it back'}, and {stands} deducts stand")
    if not asked and cut.was_green and stands != 1:
        faults.append(f"green, and {stands} deducts stand")
    if not asked and not cut.was_green and stands:
        faults.append("no green, nobody was asked, and a deduct stands")
    return faults


def _light(cut: Cut) -> str:
    return "green" if cut.was_green else "no green"


def _recovered(stage: Stage) -> str | None:
    if any("Handed over?" in flat(slip) for slip in stage.slips()):
        return "asked"
    return "ready" if stage.lamp.hue() is Hue.WHITE else None


def _settled(stage: Stage) -> Journal | None:
    journal = read_journal(stage)
    return journal if journal.is_settled else None


def read_journal(stage: Stage) -> Journal:
    """The guest's own file, copied out and checked entry by entry. Raises JournalFault."""
    said = stage.say(f"cd {STATE} && tar -cz {FILE_NAME}* | base64 -w0")
    with tempfile.TemporaryDirectory(prefix="railtix-journal-") as folder:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(said))) as archive:
            # One by one: Debian 12's tarfile has no filter for all of them.
            for member in archive.getmembers():
                source = archive.extractfile(member)
                assert source is not None, "a journal's files are no folders"
                (Path(folder) / Path(member.name).name).write_bytes(source.read())
        chain = look_at(Path(folder))
        assert chain is not None, "it has a journal"
        with closing(sqlite3.connect(Path(folder) / FILE_NAME)) as database:
            rows = database.execute("SELECT number, hex(head) FROM entries").fetchall()
    return Journal({int(number): str(head) for number, head in rows}, chain.is_settled)
