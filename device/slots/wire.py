"""What is asked of `railtix-slots` over its socket, and what it answers: one JSON line each."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from device.updating.slots import Slots
from protocol.updates import ImageVersion, Sha256

SOCKET: Final = "/run/railtix-slots/socket"
LINE_BYTES_MAX: Final = 4096
NAME_PATTERN: Final = r"^[0-9a-f]{64}\.raucb\Z"
"""A bundle is named after its SHA-256, and lies in the one folder that there is for it."""


class AskStatus(msgspec.Struct, frozen=True, tag_field="ask", tag="status"):
    pass


class AskInstall(
    msgspec.Struct, frozen=True, tag_field="ask", tag="install", forbid_unknown_fields=True
):
    name: str
    sha256: Sha256
    version: ImageVersion
    """Which one it is said to be: its manifest must agree."""


class AskMarkGood(msgspec.Struct, frozen=True, tag_field="ask", tag="mark-good"):
    pass


class AskStay(msgspec.Struct, frozen=True, tag_field="ask", tag="stay"):
    """The next start is from the slot that runs, whatever was installed since."""


class AskReboot(msgspec.Struct, frozen=True, tag_field="ask", tag="reboot"):
    pass


Ask = AskStatus | AskInstall | AskMarkGood | AskStay | AskReboot


class Refusal(StrEnum):
    MALFORMED = "malformed"
    NAME = "name"
    """It names no bundle in the folder."""
    NO_BUNDLE = "no_bundle"
    """Not there, no plain file, or somebody else's."""
    IN_USE = "in_use"
    """The till holds the lock: a sale is open."""
    BUSY = "busy"
    """Something is being installed already."""
    RAUC = "rauc"
    """RAUC did not do it; `detail` has its words."""


class Told(msgspec.Struct, frozen=True, tag_field="said", tag="slots"):
    slots: Slots


class Done(msgspec.Struct, frozen=True, tag_field="said", tag="done"):
    """It is done; an installation has begun, and `status` tells how it goes."""


class Refused(msgspec.Struct, frozen=True, tag_field="said", tag="refused"):
    why: Refusal
    detail: Annotated[str, msgspec.Meta(max_length=400)] = ""


Answer = Told | Done | Refused

_ASK: Final[msgspec.json.Decoder[Ask]] = msgspec.json.Decoder(Ask)
_ANSWER: Final[msgspec.json.Decoder[Answer]] = msgspec.json.Decoder(Answer)


def line_of(said: Ask | Answer) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def read_ask(line: bytes) -> Ask | None:
    try:
        return _ASK.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_answer(line: bytes) -> Answer | None:
    try:
        return _ANSWER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
