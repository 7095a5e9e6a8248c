"""All that bears on the next step of an update; gathered outside, judged in `deciding`."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from device.updating.slots import Slots
from protocol.updates import Progress, Update

GIVEN_UP_MAX = 20


class Stage(StrEnum):
    INSTALLING = "installing"
    """It was asked for; whether all of it was written nobody has said so far."""
    INSTALLED = "installed"
    """All of it is in the other slot, and the next start tries it."""
    UNWANTED = "unwanted"
    """The same, and it was paused since: the next start is not to try it."""


class Trying(msgspec.Struct, frozen=True, kw_only=True):
    """The version that is on its way in; on the disk before anybody is asked to install it."""

    version: str
    sha256: str
    stage: Stage = Stage.INSTALLING
    boot_id: str = ""
    """Of the life of this machine in which it came to this stage."""
    attempts: int = 1
    fetched_anew: int = 0
    """After which attempt what lay there was thrown away, the last time."""


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """Never tried again by itself: another bundle, or a person, has to come."""

    version: str
    sha256: str
    why: str = ""
    was_started: bool = False
    """It ran, did not prove itself, and the version before came back."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What must outlive a power cut. What a later release adds is passed over."""

    trying: Trying | None = None
    given_up: tuple[GivenUp, ...] = ()
    """Oldest first."""
    newest: Progress | None = None
    """What became of the newest one."""
    confirmed: tuple[str, ...] = ()
    """The versions that proved themselves, or ran when the first update came: the last two, newest
    last, since each slot may hold one. None: there was no update yet, and what runs is what was
    flashed."""

    def has_given_up(self, sha256: str) -> GivenUp | None:
        return next((each for each in self.given_up if each.sha256 == sha256), None)


LOST: Final = Record(confirmed=("unknown",))
"""Where there is a record and nobody can read it: whatever runs has to prove itself."""


@dataclass(frozen=True)
class Bundle:
    """What lies in the folder of the bundle that is announced."""

    bytes_there: int = 0
    is_whole: bool = False
    """Every byte of it, and they are those that were announced."""


@dataclass(frozen=True)
class Use:
    """What people do with the till."""

    is_at_rest: bool = False
    """Nobody is in the middle of anything."""
    is_signed_in: bool = False
    untouched_s: float = 0.0
    """Since the last key or code."""


@dataclass(frozen=True)
class AtTheTill:
    """What the till knows that bears on an update."""

    now_s: float
    """Monotonic."""
    use: Use = Use()
    announced: Update | None = None
    has_policy: bool = True
    """Where there is none, nobody has said that nothing is announced."""
    link_is_up: bool = False
    is_journal_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Known:
    running: str
    """The image's version."""
    boot_id: str
    record: Record = field(default_factory=Record)
    slots: Slots | None = None
    """None: nobody answers."""
    announced: Update | None = None
    """By the signed policy."""
    has_policy: bool = True
    bundle: Bundle = Bundle()
    is_fetching: bool = False
    use: Use = Use()
    is_updating: bool = False
    """The till says so, and begins nothing: since an installation was asked for."""
    is_proved: bool = False
    """This run has heard a signed answer to a heartbeat, and its self-test is over."""
    is_marked: bool = False
    """This run has had its slot marked good."""
    free_bytes: int = 0
    now_s: float = 0.0
    """Monotonic."""
    fetch_at: float = 0.0
    """Not before."""
    install_at: float = 0.0
