"""Makes an appliance anybody's again; refuses while the cloud is owed a word that only it knows."""

import os
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.bundles.folder import BundleFolder
from device.bundles.record import KeptRecord
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
from device.identity.files import CLOUD_FILE, NEW, NEXT, OLD, WELCOME_FILE, remove
from device.journal.chain import FILE_NAME
from device.journal.journal import JournalFault, LaterJournal
from device.journal.owed import what_is_owed
from device.journal.setting_aside import set_aside
from device.settings import Settings
from device.state_lock import AlreadyRunningError, lock_state

IDENTITY_FILES: Final = (
    *(KEY_FILE, CERTIFICATE_FILE, TRUST_FILE, AUTHORITY_FILE),
    *(CLOUD_FILE, WELCOME_FILE),
)
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
    "A card's old blocks may still hold the key: revoke it"
    " (`railtix-ops device revoke NAME --reason reset`)."
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


def _set_aside(state: Path) -> list[str]:
    (state / HEALTH_FILE).unlink(missing_ok=True)
    aside = set_aside(state)
    if not aside:
        return ["There was no journal."]
    return [f"The journal is kept as {aside}: everything in it is settled."]


def _erase(state: Path) -> list[str]:
    folder = state / FOLDER
    erased = [name for name in IDENTITY_FILES if (folder / name).exists()]
    for name in erased:
        (folder / name).unlink()
        _fsync(folder)
    # What was drafted for the next identity, or kept of the one before, signs as well as it does.
    for draft in (state / NEW, state / NEXT, state / OLD):
        remove(draft)
    # What was on trial can prove itself to nobody any more: the next start calls it good.
    KeptRecord(state).forget()
    BundleFolder(state).keep_only(frozenset())
    _fsync(state)
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
