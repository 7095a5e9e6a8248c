"""Takes pending records into the tree, and posts the receipts that attendees asked for by e-mail.

Both in one transaction: a sale costs nothing for its receipt, and each is posted exactly once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from cloud.audit.kept import keep, read_kept
from cloud.audit.sequencer import (
    Busy,
    DamagedTreeError,
    Drained,
    RolledBack,
    drain,
    newest_checkpoint,
)
from cloud.keys import KeyRing
from cloud.ledger.postings import TransactionType
from cloud.store.database import CommitUnknownError, Database
from cloud.store.letters import LetterLine, PosReceipt, post_letter
from cloud.store.tables import events, products, stalls, users
from protocol.money import Money

RECEIPTS_UNTIL: Final = timedelta(days=1)
"""A receipt that comes later helps nobody: the first epoch takes in everything there is."""

_ASKED_AT_ONCE: Final = 500

_log = structlog.stdlib.get_logger("cloud.audit")


def sequence_records(
    database: Database, keys: KeyRing, now: datetime, checkpoint_file: Path
) -> Drained | Busy | RolledBack:
    """One batch. Its checkpoint goes to the file after the commit, never before.

    Raises OSError where the file cannot be read or written; what was committed stands, and the
    next checkpoint is written again.
    """
    standing = read_kept(checkpoint_file)
    kept = None if standing is None else standing[1]
    newest: str | None = None
    with database.transaction() as connection:
        drained = drain(connection, keys.checkpoint, now, kept)
        if isinstance(drained, Drained):
            post_receipts(connection, drained.transactions, now)
            newest = drained.checkpoint or newest_checkpoint(connection)
    if newest is not None:
        keep(checkpoint_file, newest)
    return drained


def post_receipts(connection: Connection, taken: Sequence[Mapping[str, Any]], now: datetime) -> int:
    """A letter for each sale and refund at a stall whose attendee wants one; how many."""
    at_stalls = [
        row
        for row in taken
        if row["stall_id"] is not None
        and row["type"] in {TransactionType.DEDUCT.value, TransactionType.REFUND.value}
        and now - _aware(row["created_at"]) < RECEIPTS_UNTIL
    ]
    addresses = _addresses(connection, {row["user_id"] for row in at_stalls})
    wanted = [row for row in at_stalls if row["user_id"] in addresses]
    if not wanted:
        return 0
    places = _places(connection, {row["event_id"] for row in wanted})
    names = _products(connection, {row["event_id"] for row in wanted})
    for row in wanted:
        event_name, stall_name, locale, timezone = places.get(
            (row["event_id"], row["stall_id"]), (row["event_id"], row["stall_id"], "en_GB", "UTC")
        )
        lines = tuple(
            LetterLine(
                names.get((row["event_id"], row["stall_id"], each["product"]), ""),
                each["quantity"],
                each["unit_price_in_cents"],
            )
            for each in row["lines"] or ()
        )
        letter = PosReceipt(
            locale=locale,
            timezone=timezone,
            at_ms=int(_aware(row["created_at"]).timestamp() * 1000),
            event_name=event_name,
            stall_name=stall_name,
            is_refund=row["type"] == TransactionType.REFUND.value,
            amount=Money(row["amount_in_cents"], row["currency"]),
            code=row["reference"],
            lines=lines,
        )
        post_letter(connection, addresses[row["user_id"]], letter, now)
    return len(wanted)


class SequencerThread:
    """Sequences every few seconds while the program runs; a fault is said and tried again."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        clock: Callable[[], datetime],
        *,
        every_s: float,
        checkpoint_file: Path,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._every_s = every_s
        self._checkpoint_file = checkpoint_file
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sequencer")
        self._last_fault = ""

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What was written until now is in the tree when this returns, where that can be done."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._sequence()
        self._sequence()

    def _sequence(self) -> None:
        try:
            self._sequence_all()
        except (
            SQLAlchemyError,
            CommitUnknownError,
            DamagedTreeError,
            OSError,
            ValueError,
        ) as error:
            self._say("not_sequenced", error=type(error).__name__, reason=_reason(error))
        except Exception:  # noqa: BLE001  # logged with its traceback; the next round tries again
            _log.exception("sequencer_met_a_bug")

    def _sequence_all(self) -> None:
        while True:
            done = sequence_records(
                self._database, self._keys, self._clock(), self._checkpoint_file
            )
            match done:
                case RolledBack(kept=kept, found=found):
                    self._say(
                        "database_rolled_back",
                        kept_epoch=kept.epoch,
                        kept_size=kept.size,
                        found=found,
                        next_step="After a restore: `railtix-cloud audit begin-epoch --reason ...`",
                    )
                    return
                case Busy() | Drained(has_more=False):
                    self._last_fault = ""
                    return
                case Drained():
                    continue

    def _say(self, event: str, **details: object) -> None:
        """Once, until it changes: an hour of the same fault is not a thousand lines."""
        fault = f"{event} {details}"
        if fault != self._last_fault:
            _log.error(event, **details)
        self._last_fault = fault


class NewestCheckpoint:
    """The audit log's newest checkpoint, as heartbeat replies carry it: asked for in a thread of
    its own, so that no sale waits for it."""

    def __init__(self, database: Database, every_s: float) -> None:
        self._database = database
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="newest-checkpoint", daemon=True)
        self._newest: str | None = None

    def __call__(self) -> str | None:
        return self._newest

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def refresh(self) -> None:
        with self._database.reading() as connection:
            self._newest = newest_checkpoint(connection)

    def _run(self) -> None:
        while True:
            try:
                self.refresh()
            except SQLAlchemyError as error:
                _log.warning("checkpoint_not_read", error=type(error).__name__)
            if self._stopping.wait(self._every_s):
                return


def _reason(error: Exception) -> str:
    """A database's own text may hold what it was given."""
    return "" if isinstance(error, SQLAlchemyError) else str(error)


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _addresses(connection: Connection, user_ids: set[UUID]) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    asked = sorted(user_ids)
    for at in range(0, len(asked), _ASKED_AT_ONCE):
        rows = connection.execute(
            select(users.c.user_id, users.c.email).where(
                users.c.user_id.in_(asked[at : at + _ASKED_AT_ONCE]),
                users.c.pos_receipts,
                users.c.email.is_not(None),
            )
        )
        found |= {row.user_id: row.email for row in rows}
    return found


def _places(
    connection: Connection, event_ids: set[str]
) -> dict[tuple[str, str], tuple[str, str, str, str]]:
    rows = connection.execute(
        select(
            events.c.event_id,
            stalls.c.stall_id,
            events.c.name,
            stalls.c.name.label("stall_name"),
            events.c.locale,
            events.c.timezone,
        )
        .join(stalls, stalls.c.event_id == events.c.event_id)
        .where(events.c.event_id.in_(sorted(event_ids)))
    )
    return {
        (row.event_id, row.stall_id): (row.name, row.stall_name, row.locale, row.timezone)
        for row in rows
    }


def _products(connection: Connection, event_ids: set[str]) -> dict[tuple[str, str, int], str]:
    rows = connection.execute(
        select(products.c.event_id, products.c.stall_id, products.c.number, products.c.name).where(
            products.c.event_id.in_(sorted(event_ids))
        )
    )
    return {(row.event_id, row.stall_id, row.number): row.name for row in rows}
