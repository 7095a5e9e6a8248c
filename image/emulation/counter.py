"""Staff and customers before an emulated appliance, with the real broker and cloud on this machine.

Codes are drawn when they are shown: a wallet's code lives a minute or two, and the guest is slow.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloud.ledger.receipts import short_code
from image.emulation.console import GuestError
from image.emulation.lamp import Hue
from image.emulation.machine import HOST
from image.emulation.stage import Stage, flat, now
from protocol.ids import TransactionId
from protocol.money import Money
from protocol.wallet_qr import to_digits
from venue.attendee import Attendee
from venue.desk import IssuedBadge
from venue.phone import badge, phone
from venue.stack import CURRENCY, DOCUMENT, EVENT, STALL, Venue

WITHIN_S: Final = 240.0
"""For one step of a guest that is a hundred times slower than a Pi."""

CODE_S: Final = 45.0
"""A code is younger than this, so that it is still good when it is read."""
CODES: Final = 4

CARDS: Final[dict[str, Any]] = DOCUMENT | {"reply_timeout_ms": 30_000}
"""An event like the demo's, with patience for an emulated processor."""

Tell = Callable[[str, str], None]
"""Who did or said something, and what."""


def nobody(_who: str, _what: str) -> None:
    """Told to nobody."""


def office(folder: Path | None = None) -> Venue:
    """mosquitto and the cloud on this machine, as the guest calls it; no appliance so far."""
    return Venue(folder, document=CARDS, appliances=0, enrols=True, host=HOST)


@dataclass(frozen=True)
class Sold:
    """How one attempt ended, by the lamp and the paper."""

    is_green: bool
    slip: str
    took_s: float
    """From the last key or the phone, whichever came later, to the light."""


@dataclass
class Counter:
    """One stage, and a venue behind it."""

    venue: Venue
    stage: Stage
    """Exchanged where the machine is another one after a power cut."""
    tell: Tell = field(default=nobody)

    def enrol(self, serial: str = "") -> str:
        """A claim before the camera of a box; the name it got."""
        self.wait_for_hue(Hue.VIOLET, 0.0)
        self.tell("lamp", "violet, swelling: show me a code")
        self._tell_slip(self.stage.wait_for_slip("Show me a code", 0.0, WITHIN_S))
        bound = {"serial": serial} if serial else {}
        claim = self.venue.desk.claim(EVENT, STALL, **bound)
        self.tell("ops", f"railtix-ops device claim --event {EVENT} --stall {STALL}")
        began = self.show(claim.qr_text)
        self.tell("camera", "the claim's code")
        self._tell_slip(self.stage.wait_for_slip("Welcome", began, WITHIN_S))
        self.stage.clear()
        self.wait_for_hue(Hue.WHITE, began)
        self.tell("lamp", "white, breathing: nobody signed in")
        return claim.device_id

    def sign_in(self, issued: IssuedBadge) -> None:
        """Badge before the camera, PIN on the keypad."""
        self.stage.show(badge(to_digits(issued.jws), self.venue.rng(), "easy"))
        self.wait_for_hue(Hue.CYAN, now())
        self.stage.clear()
        self.stage.type(f"{issued.pin}#")
        self.wait_for_hue(Hue.WHITE, now())
        self.tell("staff", "badge before the camera, PIN and #: signed in")

    def key(self, keys: str) -> None:
        """An amount or products, until the lamp asks for the phone."""
        self.stage.type(keys)
        self.wait_for_hue(Hue.BLUE, now())

    def sell(self, guest: Attendee, keys: str = "500#") -> Sold:
        """Key it, show the phone, see how it ends; with the receipt if it is green."""
        self.key(keys)
        self.tell("staff", f"{' '.join(keys)}: the lamp asks for the phone")
        began = self.show(guest.fresh_qr().digits)
        self.tell("camera", "the phone's code")
        is_green, at = self.stage.wait_for(lambda: self.word(began), "green or red", WITHIN_S)
        slip = ""
        if is_green:
            slip = self.stage.wait_for_slip("Total", began, WITHIN_S)
        self.stage.clear()
        return Sold(is_green, slip, at - began)

    def show_until(self, hue: Hue, guest: Attendee) -> float:
        """A phone whose page draws a new code now and then, until the lamp says it was read.

        A slow guest may start its camera for longer than a code lives.
        """
        for _ in range(CODES - 1):
            began = self.show(guest.fresh_qr().digits)
            with suppress(GuestError):
                self.wait_for_hue(hue, began, CODE_S)
                return began
        began = self.show(guest.fresh_qr().digits)
        self.wait_for_hue(hue, began)
        return began

    def word(self, since: float) -> tuple[bool, float] | None:
        """What the lamp said about a sale, and when: full green, or full red."""
        approved, refused = self.stage.lamp.approved_at(since), self.stage.lamp.refused_at(since)
        if approved is not None:
            return True, approved
        return None if refused is None else (False, refused)

    def show(self, text: str) -> float:
        return self.stage.show(phone(text, self.venue.rng(), "easy"))

    def wait_for_hue(self, hue: Hue, since: float, timeout_s: float = WITHIN_S) -> None:
        self.stage.wait_for(
            lambda: self.stage.lamp.hue(since) is hue or None, f"the lamp in {hue}", timeout_s
        )

    def guest(self, email: str, amount_in_cents: int = 2000) -> Attendee:
        """An attendee with so many Credits."""
        attendee = self.venue.attendee(email)
        attendee.top_up(Money(amount_in_cents, CURRENCY))
        return attendee

    def _tell_slip(self, slip: str) -> None:
        for line in slip.splitlines():
            if line.strip():
                self.tell("slip", line.rstrip())


@dataclass(frozen=True)
class Posting:
    """A sale in the cloud's ledger, and whether it was reversed."""

    key: str
    amount_in_cents: int
    is_reversed: bool
    code: str
    """What its receipt says."""


def ledger(venue: Venue) -> list[Posting]:
    """Every deduct there is, oldest first, read from the database itself."""
    file = venue.folder / "cloud" / "cloud.sqlite"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT sale.idempotency_key, sale.id, sale.amount_in_cents, EXISTS ("
            "SELECT 1 FROM credit_transactions AS back"
            " WHERE back.reversal_of_transaction_id = sale.id)"
            " FROM credit_transactions AS sale WHERE sale.type = 'Deduct' ORDER BY sale.id"
        ).fetchall()
    return [
        Posting(str(key), int(amount), bool(reversed_), short_code(TransactionId(id_)))
        for key, id_, amount, reversed_ in rows
    ]


def status(stage: Stage) -> dict[str, Any]:
    """`railtix-pos status --json` in the guest."""
    said = stage.run("/opt/railtix/bin/railtix-pos status --json").said
    try:
        return json.loads(said)
    except ValueError as fault:
        raise GuestError(f"railtix-pos status said {flat(said)[:300]!r}") from fault
