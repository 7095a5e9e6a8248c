"""The deny list as tills are told it: versions that name one list, and pages of its changes."""

from collections.abc import Sequence
from typing import Final

import msgspec

from protocol.outcomes import DENIED_CHANGES_MAX, DeniedChanges

TAGS: Final = 2**16
NEVER_BEGUN: Final = 1
"""The version of a list on which nobody ever was; a list that was begun has a tag of 1 or more
and a serial of 1 or more, and so never this version."""


class ListState(msgspec.Struct, frozen=True):
    """Where a currency's deny list stands."""

    tag: int
    """Which list: another currency's, or one from before a restore, has another."""
    serial: int

    @property
    def version(self) -> int:
        return self.serial * TAGS + self.tag


class DeniedChange(msgspec.Struct, frozen=True, order=True):
    """How one wallet stands, and the serial of the change that made it so."""

    serial: int
    payer_id: str
    is_denied: bool


def newest_version(state: ListState | None) -> int:
    return NEVER_BEGUN if state is None else state.version


def serial_held(state: ListState | None, version: int) -> int:
    """How far a till that says this version has read this very list; 0: not at all."""
    serial, tag = divmod(version, TAGS)
    if state is None or tag != state.tag or serial > state.serial:
        return 0
    return serial


def page(state: ListState | None, held: int, changes: Sequence[DeniedChange]) -> DeniedChanges:
    """What a till that has read to `held` is told now.

    `changes`: those after `held`, oldest first, one more than fit where there are as many.
    """
    told, is_last = changes[:DENIED_CHANGES_MAX], len(changes) <= DENIED_CHANGES_MAX
    version = newest_version(state)
    if not is_last:
        assert state is not None, "a list with changes was begun"
        version = ListState(state.tag, told[-1].serial).version
    return DeniedChanges(
        version=version,
        is_whole=held == 0,
        added=tuple(each.payer_id for each in told if each.is_denied),
        # Who begins anew holds nothing that could be taken off.
        removed=tuple(each.payer_id for each in told if not each.is_denied and held > 0),
        more=not is_last,
    )
