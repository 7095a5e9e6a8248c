"""What a damaged journal still holds of what the cloud is owed, and of what bounds offline sales:
read, and written down again.

The cloud decides by the key alone, exactly once, so saying it twice or by a reader too willing to
believe does no harm; saying it never would.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from device.till.entries import (
    Entry,
    EpochBegan,
    MessageClosed,
    SaleAcceptedOffline,
    SaleAnswered,
    key_of,
)
from device.till.later_entries import decode_later
from device.till.spell import OfflineRecord
from device.till.standing import Standing
from protocol.messages import Approved

KEPT_MAX: Final = 5
"""Files set aside; more only while they hold what no cloud has answered."""
MISSES_MAX: Final = 5_000
"""After so many numbers without a readable entry there are no more."""

_NAME: Final = re.compile(r"journal-set-aside-(\d+)\.db")
_ROW: Final = "SELECT body FROM entries WHERE number = ?"


@dataclass(frozen=True)
class Salvaged:
    """What is owed, as it was journaled, oldest file first; and which files hold any of it.

    Beside it the codes that paid not long ago, and what counts towards the spell's limits.
    """

    entries: tuple[Entry, ...]
    keys: frozenset[str]
    unreadable: int
    needed: frozenset[Path]

    def __str__(self) -> str:
        return f"{len(self.keys)} carried over, {self.unreadable} entries unreadable"


def files_set_aside(folder: Path) -> tuple[Path, ...]:
    """Oldest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return tuple(sorted(found, key=_number))


def name_to_set_aside(folder: Path) -> Path:
    newest = max(map(_number, files_set_aside(folder)), default=0)
    return folder / f"journal-set-aside-{newest + 1}.db"


def salvage(files: tuple[Path, ...]) -> Salvaged:
    """What was promised under keys that no readable entry of any of these files has closed.

    A sale without a readable decision is none of these: whether it shone green nobody can tell
    from here, so its approval, if there is one, comes to the cloud's review list.
    """
    entries: dict[Path, list[Entry]] = {}
    unreadable = 0
    for file in files:
        entries[file] = []
        for entry in _readable(file):
            if entry is None:
                unreadable += 1
            else:
                entries[file].append(entry)
    standing = Standing()
    for number, entry in enumerate(_all(entries), start=1):
        standing = standing.after(number, entry)
    owed = owed_keys(standing)
    counting = _counting_keys(_all(entries))
    carried = {
        entry: None
        for entry in _all(entries)
        if key_of(entry) in owed
        or (
            isinstance(entry, SaleAnswered | SaleAcceptedOffline | MessageClosed)
            and entry.key in counting
        )
    }
    needed = {file for file in files if any(key_of(entry) in owed for entry in entries[file])}
    return Salvaged(tuple(carried), owed, unreadable, frozenset(needed))


def owed_keys(standing: Standing) -> frozenset[str]:
    """The keys of what is decided and waits for the cloud's signed answer."""
    return frozenset(
        {
            *(e.sale.key for e in standing.sales if e.is_cancelled or e.acceptance is not None),
            *(each.refund.key for each in standing.refunds if each.answer is None),
            *(each.key for each in standing.sign_outs),
        }
    )


def _counting_keys(entries: Iterable[Entry]) -> frozenset[str]:
    """The keys of the sales that bound what the till may sell alone, settled or not."""
    record = OfflineRecord()
    paid_by: dict[str, str] = {}
    in_spell: set[str] = set()
    for entry in entries:
        match entry:
            case EpochBegan():
                # Another file, and the same spell.
                continue
            case SaleAnswered(key=key, outcome=Approved(token_id=token_id)):
                paid_by[token_id] = key
            case SaleAcceptedOffline(key=key, token_id=token_id):
                paid_by[token_id] = key
                in_spell.add(key)
            case _:
                pass
        record = record.after(entry)
        if not record.spell.unanswered:
            in_spell.clear()
    return frozenset({*in_spell, *(paid_by[each.token_id] for each in record.tokens)})


def forget_needless(files: tuple[Path, ...], saved: Salvaged) -> None:
    """Delete the oldest of too many files, and never one that holds what is owed."""
    for file in files[: max(0, len(files) - KEPT_MAX)]:
        if file not in saved.needed:
            for suffix in ("-wal", "-shm", ""):
                # What cannot be deleted is met again at the next epoch.
                with suppress(OSError):
                    file.with_name(file.name + suffix).unlink(missing_ok=True)


def _all(entries: dict[Path, list[Entry]]) -> Iterator[Entry]:
    for each in entries.values():
        yield from each


def _readable(file: Path) -> Iterator[Entry | None]:
    """Every entry that can be read, in order, and None for each that cannot be understood."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as found:
            for body in _bodies(found):
                try:
                    yield decode_later(body)
                except msgspec.DecodeError:
                    yield None
    except sqlite3.Error:
        # No database at all: what it held, a person may find in the bytes.
        yield None


def _bodies(connection: sqlite3.Connection) -> Iterator[bytes]:
    """One look-up an entry: a broken page hides its own entries, and no more."""
    (number,) = connection.execute("SELECT coalesce(min(number), 1) FROM entries").fetchone()
    misses = 0
    while misses < MISSES_MAX:
        try:
            row = connection.execute(_ROW, (number,)).fetchone()
        except sqlite3.DatabaseError:
            row = None
        number += 1
        misses = misses + 1 if row is None else 0
        if row is not None and isinstance(row[0], bytes):
            yield row[0]


def _number(file: Path) -> int:
    found = _NAME.fullmatch(file.name)
    return 0 if found is None else int(found[1])
