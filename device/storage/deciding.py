"""What becomes of the data partition, from what is found there: no disk, no clock.

The partition's type in the table says whether it was ever made, so that a partition whose beginning
cannot be read, or reads as nothing, is never taken for a new one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, assert_never

Encryption = Literal["none", "serial", "tpm"]

NEVER_MADE: Final = 0xDA
"""The type that the image is flashed with ("non-FS data"): it may be formatted."""
MADE: Final = 0x83
"""Linux: it was made whole once, and nothing formats it again."""

MAKING: Final = "railtix-making"
"""What a file system or LUKS header is called until it is whole."""
FILE_SYSTEM: Final = "railtix-data"
CONTAINER: Final = "railtix-luks"


class Why(StrEnum):
    """Why there is no /data, for the person who stands before the appliance."""

    NOT_FOUND = "the card has no data partition, or is too slow to show it"
    UNREADABLE = "the data partition cannot be read"
    NOTHING_THERE = "the data partition was made once, and now nothing is found on it"
    FOREIGN = "the data partition holds something that this appliance did not make"
    SETTING = "railtix.toml on the card's boot partition is wrong"
    NO_SERIAL = "the board tells no serial number to make a key from"
    NO_TPM = "the TPM cannot make or give the key"
    OTHER_BOARD = "the data partition was made by another board, and opens on no other"
    DAMAGED = "the file system is damaged, and could not be mended"
    FAILED = "a tool failed"


@dataclass(frozen=True)
class Refused:
    """No /data, and nothing on the card was changed by this decision."""

    why: Why
    detail: str = ""


@dataclass(frozen=True)
class Blank:
    """Read, and nothing is known there."""


@dataclass(frozen=True)
class Ext4:
    label: str


@dataclass(frozen=True)
class Luks:
    label: str
    has_tpm: bool
    """A TPM holds the key; else it is made from the board's serial."""


@dataclass(frozen=True)
class Other:
    """Something else is known there, by blkid's name."""

    name: str


@dataclass(frozen=True)
class Unreadable:
    """Reading failed, again and again."""

    error: str


Content = Blank | Ext4 | Luks | Other | Unreadable


@dataclass(frozen=True)
class Make:
    """Format it: it was never in use."""


@dataclass(frozen=True)
class Open:
    """It is ours and whole; `mark_made` where the power went before the table could say so."""

    encryption: Encryption
    mark_made: bool


Decision = Make | Open | Refused


def decide(kind: int, content: Content) -> Decision:
    """What to do with a partition of this type in the table and with this content."""
    if kind not in {NEVER_MADE, MADE}:
        return Refused(Why.FOREIGN, f"its type is {kind:#04x}")
    is_made = kind == MADE
    match content:
        case Unreadable(error):
            return Refused(Why.UNREADABLE, error)
        case Other(name):
            # Even where it may be formatted: whoever put it there may want it back.
            return Refused(Why.FOREIGN, f"it holds {name}")
        case Blank():
            return Refused(Why.NOTHING_THERE) if is_made else Make()
        case Ext4(label):
            return _of_ours(label, FILE_SYSTEM, "none", is_made=is_made)
        case Luks(label, has_tpm):
            encryption: Encryption = "tpm" if has_tpm else "serial"
            return _of_ours(label, CONTAINER, encryption, is_made=is_made)
        case _:
            assert_never(content)


def _of_ours(label: str, whole: str, encryption: Encryption, *, is_made: bool) -> Decision:
    if label == whole:
        return Open(encryption, mark_made=not is_made)
    if label == MAKING and not is_made:
        return Make()
    return Refused(Why.FOREIGN, f'it is called "{label}"')


@dataclass(frozen=True)
class Sound:
    """May be mounted; `mended`: a power cut's traces were removed."""

    mended: bool


@dataclass(frozen=True)
class NeedsMending:
    """Nothing that preening repairs by itself, and the card could be read all over."""


def judge_check(code: int, said: str) -> Sound | NeedsMending | Refused:
    """What e2fsck's exit code (bits, e2fsck(8)) and words mean.

    Where reading failed nothing more is tried: mending would write zeros over blocks that a card
    may give back tomorrow.
    """
    if _could_not_read(said):
        return Refused(Why.UNREADABLE, _last_line(said))
    if code & ~0b111:
        return Refused(Why.FAILED, _last_line(said))
    if code & 0b100:
        return NeedsMending()
    return Sound(mended=code != 0)


def _could_not_read(said: str) -> bool:
    return any(
        sign in said
        for sign in ("Error reading", "short read", "Input/output error", "Can't read", "I/O error")
    )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""


SECTOR_BYTES: Final = 512
ROOM_MIN_BYTES: Final = 16 * 1024 * 1024
"""Less is not worth a new partition table."""


def has_room(disk_sectors: int, start: int, sectors: int) -> bool:
    """Whether the card goes on far enough behind the partition, the last one, to grow into."""
    return (disk_sectors - start - sectors) * SECTOR_BYTES >= ROOM_MIN_BYTES
