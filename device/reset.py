"""Makes an appliance anybody's again; refuses while the cloud is owed a word that only it knows."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.condition.health import FILE as HEALTH_FILE
from device.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    CREDENTIAL,
    FOLDER,
    KEY_FILE,
    TRUST_FILE,
)
from device.hardware.spool import drop
from device.hardware.spool import look as look_at_spool
from device.journal.chain import FILE_NAME
from device.journal.journal import JournalFault, LaterJournal, look_at
from device.journal.salvage import files_set_aside, salvage
from device.runtime import AlreadyRunningError, lock_state
from device.settings import Settings
from device.till.standing import Standing
from protocol.money import Money, format_cents

IDENTITY_FILES: Final = (KEY_FILE, CERTIFICATE_FILE, TRUST_FILE, AUTHORITY_FILE)
"""The key first: half a reset leaves nobody who can sign."""

_WHAT_TO_DO: Final = (
    "Nothing was erased. Start it (`systemctl start railtix-pos`) where it reaches the broker, wait"
    " until `railtix-pos status` says that nothing waits, stop it, and reset again. If it never"
    f" will: keep the card, {FILE_NAME} on it has them all."
)
_MEND_IT: Final = (
    "Start railtix-pos once: it sets a damaged journal aside and carries over what can be read of"
    " it. Then reset again."
)
_UPDATE_IT: Final = (
    "Nothing was erased. Install that release again (or a later one), and reset with it."
)
_REVOKE_IT: Final = (
    "A card's old blocks may still hold the key: revoke its certificate (`railtix-ops ca revoke`)."
)
_REMOVE_IT: Final = (
    f"The sealed key is not ours to erase: remove /etc/credstore.encrypted/{CREDENTIAL}."
)


@dataclass(frozen=True)
class Refused:
    """Nothing was touched; each line is for a person."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What was erased and what is kept, a line each."""

    lines: tuple[str, ...]


def reset(settings: Settings, *, keep_identity: bool) -> Refused | Done:
    """Set the journal aside and, unless it is to be kept, erase the identity. Raises OSError.

    May be cut off anywhere and run again.
    """
    state = settings.state.path
    if not state.is_dir():
        return Refused((f"There is no {state}.",))
    with ExitStack() as stack:
        try:
            lock_state(state, stack)
        except AlreadyRunningError as error:
            return Refused((f"{error}: stop it first (`systemctl stop railtix-pos`).",))
        try:
            owed = what_is_owed(state)
            if owed:
                return Refused(("The cloud has not answered for:", *owed, _WHAT_TO_DO))
            lines = _set_aside(state)
        except LaterJournal as later:
            reason = f"The journal cannot be read ({later}), so what it owes is not known."
            return Refused((reason, _UPDATE_IT))
        except (JournalFault, sqlite3.Error) as fault:
            reason = f"The journal cannot be read ({fault}), so what it owes is not known."
            return Refused((reason, _MEND_IT))
        if not keep_identity:
            lines += _erase(state)
            if settings.keys.kind == "credential":
                lines.append(_REMOVE_IT)
        return Done(tuple(lines))


def what_is_owed(state: Path) -> list[str]:
    """What no signed answer has closed: a line a kind, with how many and how much.

    Raises JournalFault where that cannot be known.
    """
    chain = look_at(state)
    if chain is not None:
        return _lines(chain.standing)
    # A new journal would begin with what the damaged ones still owe; none has begun.
    saved = salvage(files_set_aside(state))
    return [f"  {len(saved.keys)} in a damaged journal"] if saved.keys else []


def _lines(standing: Standing) -> list[str]:
    cancelled = [each.sale.amount for each in standing.sales if each.is_cancelled]
    undecided = [each.sale.amount for each in standing.sales if each.is_undecided]
    unseen = [
        each.sale.amount
        for each in standing.sales
        if each.approval is not None and not each.is_cancelled
    ]
    refunds = [each.refund.amount for each in standing.refunds]
    return [
        *_line("sale taken offline", "sales taken offline", [e.amount for e in standing.unsynced]),
        *_line("cancelled sale", "cancelled sales", cancelled),
        *_line("sale without a decision", "sales without a decision", undecided),
        *_line("sale that staff may not have seen", "sales that staff may not have seen", unseen),
        *_line("refund", "refunds", refunds),
        *_line("sign-out", "sign-outs", [None] * len(standing.sign_outs)),
    ]


def _line(one: str, several: str, amounts: Sequence[Money | None]) -> list[str]:
    if not amounts:
        return []
    sums: dict[str, int] = {}
    for amount in amounts:
        if amount is not None:
            sums[amount.currency] = sums.get(amount.currency, 0) + amount.amount_in_cents
    told = " and ".join(f"{format_cents(cents)} {name}" for name, cents in sorted(sums.items()))
    count = f"  {len(amounts)} {one if len(amounts) == 1 else several}"
    return [f"{count}, {told}" if told else count]


def _set_aside(state: Path) -> list[str]:
    """Rename the journal, whole: under a name that no later start takes for a damaged one."""
    journal = state / FILE_NAME
    (state / HEALTH_FILE).unlink(missing_ok=True)
    if not journal.exists():
        return ["There was no journal."]
    with closing(sqlite3.connect(journal)) as connection:
        # The last to close a journal folds its log into it: then one file is all there is.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    aside = next(
        path
        for path in (state / f"journal-before-reset-{n}.db" for n in range(1, 10_000))
        if not path.exists()
    )
    journal.rename(aside)
    _fsync(state)
    return [f"The journal is kept as {aside.name}: everything in it is settled."]


def _erase(state: Path) -> list[str]:
    folder = state / FOLDER
    erased = [name for name in IDENTITY_FILES if (folder / name).exists()]
    for name in erased:
        (folder / name).unlink()
        _fsync(folder)
    slips = sum(drop(each.path) for each in look_at_spool(state))
    lines = [f"The identity is erased: {', '.join(erased)}.", _REVOKE_IT] if erased else []
    if slips:
        lines.append(f"Slips that waited for the printer are dropped: {slips}.")
    return lines or ["There was no identity."]


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
