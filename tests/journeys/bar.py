"""One bar of a running venue, and what a test may look at: lamp, tones, paper, log, ledger."""

import itertools
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from sqlalchemy import select

from cloud.keys import KeyRing
from cloud.store.database import Database
from cloud.store.tables import audit_records, credit_transactions, users
from device.journal.chain import FILE_NAME
from device.till.entries import Entry, decode
from protocol.money import Money
from venue.attendee import Attendee, Published
from venue.counter import Counter
from venue.desk import IssuedBadge
from venue.edge import Edge
from venue.lights import Light
from venue.paper import plain
from venue.programs import Program
from venue.stack import CURRENCY, DOCUMENT, EVENT, STAFF, Appliance, Venue

WITHIN_S: Final = 60.0
"""Far longer than anything takes: the machine may be busy, and no test measures time."""

PIN: Final = "83041729"
"""Mia's; long enough to be found nowhere by chance."""

SALE_MAX: Final = 5000
TOP_UP: Final = 2000

APPROVED_HZ: Final = 2640
DECLINED_HZ: Final = 440
REFRESH_HZ: Final = 880
FAULT_HZ: Final = 220

BAR_DOCUMENT: Final[dict[str, Any]] = DOCUMENT | {
    "sale_max_in_cents": SALE_MAX,
    # No test waits for a time-out, and a busy machine must not bring one about.
    "reply_timeout_ms": 20_000,
    "staff": [
        *DOCUMENT["staff"],
        {"id": "nia", "name": "Nia Doyle", "initials": "ND"},
    ],
}

T = TypeVar("T")


def now() -> float:
    return time.monotonic()  # noqa: TID251 -- the lamp's time


def eventually(look: Callable[[], T | None], what: str) -> T:
    """What `look` finds in the end."""
    deadline = now() + WITHIN_S
    while (found := look()) is None:
        assert now() < deadline, f"waited for {what}"
        time.sleep(0.02)
    return found


class Books:
    """The cloud's database, read beside the running cloud."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def postings(self) -> list[Any]:
        """Every transaction of every wallet, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(credit_transactions, users.c.email)
                .join(users, users.c.user_id == credit_transactions.c.user_id)
                .order_by(credit_transactions.c.id)
            )
            return list(rows)

    def audit(self) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(select(audit_records).order_by(audit_records.c.id)))


@dataclass(frozen=True)
class Guest:
    """An attendee whom no other test knows."""

    email: str
    attendee: Attendee

    def balance(self) -> int:
        return self.attendee.balance(CURRENCY).amount_in_cents

    def fresh_qr(self) -> Published:
        return self.attendee.fresh_qr()

    def top_up(self) -> None:
        self.attendee.top_up(Money(TOP_UP, CURRENCY))


class Watch:
    """What happened at the bar, and in the cloud, since it was made."""

    def __init__(self, bar: "Bar") -> None:
        self.since = now()
        self._bar = bar
        self._log_size = bar.appliance.program.log.stat().st_size
        self._posted = {row.id for row in bar.books.postings()}
        self._audited = {row.id for row in bar.books.audit()}
        self._entries = len(bar.journal())

    def posted(self) -> list[Any]:
        return [row for row in self._bar.books.postings() if row.id not in self._posted]

    def audited(self, action: str) -> list[Any]:
        return [
            row
            for row in self._bar.books.audit()
            if row.action == action and row.id not in self._audited
        ]

    def journaled(self, kind: type[Entry] | None = None) -> list[Any]:
        entries = self._bar.journal()[self._entries :]
        return [each for each in entries if kind is None or isinstance(each, kind)]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The appliance's own log lines about `event`."""
        with self._bar.appliance.program.log.open("rb") as log:
            log.seek(self._log_size)
            lines = [json.loads(line) for line in log if line.endswith(b"\n")]
        return [line for line in lines if line["event"] == event]

    def await_logged(self, event: str) -> dict[str, Any]:
        return eventually(lambda: next(iter(self.logged(event)), None), f"{event!r} in the log")

    def approvals(self) -> int:
        """How often the lamp turned green."""
        return sum(at > self.since for at in self._bar.edge.approvals())

    def await_light(self, light: Light) -> float:
        """When the lamp began to say this."""
        seen = self._bar.edge.wait_for_any_light(frozenset({light}), self.since, WITHIN_S)
        return seen.began_at

    def await_tones(self, hz: float, times: int) -> None:
        """Until the buzzer has sounded this tone so often."""

        def heard() -> bool | None:
            tones = [tone for tone in self._bar.edge.tones if tone.at > self.since]
            return sum(tone.hz == hz for tone in tones) >= times or None

        self._bar.edge.wait_for(heard, f"{times} tones of {hz} Hz", WITHIN_S)

    def await_paper(self) -> str:
        """What the first slip since says, its lines joined."""
        slip = self._bar.edge.wait_for_paper(self.since, WITHIN_S)
        return " ".join(plain(slip.printed).split())

    def papers(self) -> int:
        return sum(paper.at > self.since for paper in self._bar.edge.papers)


class Bar:
    """One appliance with Mia behind the counter."""

    def __init__(self, venue: Venue, books: Books, badge: IssuedBadge) -> None:
        self.venue = venue
        self.books = books
        self.badge = badge
        self.appliance: Appliance = venue.appliances[0]
        self._numbers: Iterator[int] = itertools.count(1)

    @property
    def counter(self) -> Counter:
        return self.appliance.counter

    @property
    def edge(self) -> Edge:
        return self.counter.edge

    @property
    def keys(self) -> KeyRing:
        """The cloud's own keys."""
        return KeyRing(self.venue.folder / "cloud" / "keys")

    def watch(self) -> Watch:
        return Watch(self)

    def guest(self, *, with_credits: bool = True) -> Guest:
        """A new attendee, with 20.00 in the wallet."""
        email = f"guest-{next(self._numbers)}@example.org"
        guest = Guest(email, self.venue.attendee(email))
        if with_credits:
            guest.top_up()
        return guest

    def journal(self) -> list[Entry]:
        """The appliance's journal, oldest entry first."""
        address = f"{(self.appliance.folder / FILE_NAME).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            rows = connection.execute("SELECT body FROM entries ORDER BY number").fetchall()
        return [decode(body) for (body,) in rows]

    def await_ready(self, since: float) -> None:
        self.edge.wait_for_light(Light.READY, since=since, timeout_s=WITHIN_S)

    def ask(self, keys: str, digits: str) -> None:
        """Key a sale and show the phone, until the till asks the cloud."""
        self.counter.key(keys)
        began = self.counter.show_phone(digits, "easy")
        self.edge.wait_for_light(Light.ASKING, since=began, timeout_s=WITHIN_S)

    def cancel_held(self) -> None:
        self.edge.hold("*")

    def sign_out(self) -> None:
        began = now()
        self.edge.hold("D")
        self.edge.wait_for_paper(began, WITHIN_S)
        self.edge.tap("#")
        self.edge.wait_for_light(Light.NOBODY_SIGNED_IN, since=began, timeout_s=WITHIN_S)

    def try_pin(self, badge: IssuedBadge, pin: str) -> Watch:
        """Badge and PIN, whatever comes of it."""
        self.counter.show_badge(badge)
        self.edge.wait_for_light(Light.KEY_THE_AMOUNT, since=now(), timeout_s=WITHIN_S)
        self.edge.clear()
        watch = self.watch()
        self.edge.type(f"{pin}#")
        return watch

    def come_to_rest(self) -> None:
        """Whatever the test before left: the wire is whole, Mia is signed in, nothing is keyed."""
        resume(self.venue.cloud)
        self.appliance.network.mend()
        self.edge.clear()
        deadline = now() + WITHIN_S
        while now() < deadline:
            match self.edge.light():
                case Light.READY:
                    self.edge.tap("*")
                    return
                case Light.NOBODY_SIGNED_IN:
                    self.counter.sign_in(self.badge)
                case Light.ASKING:
                    self.edge.hold("*")
                case None | Light.DARK | Light.OFFLINE_NOT_ALLOWED:
                    time.sleep(0.1)
                case _:
                    self.edge.tap("*")
                    time.sleep(0.1)
        pytest.fail(f"the till does not come to rest: {self.edge.light()}")


def open_bar(folder: Path, *, appliances: int = 1) -> Venue:
    """A venue for this bar's document; to be entered."""
    return Venue(folder, document=BAR_DOCUMENT, appliances=appliances)


def staff_it(venue: Venue) -> IssuedBadge:
    """A badge for Mia with a PIN that a search can tell from other digits."""
    return venue.desk.issue_badge(EVENT, STAFF, PIN)


@contextmanager
def frozen(program: Program) -> Generator[None]:
    """The program stands still meanwhile, and notices nothing of it."""
    os.kill(program.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        resume(program)


def resume(program: Program) -> None:
    os.kill(program.pid, signal.SIGCONT)
