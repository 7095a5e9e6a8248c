"""What is to be done: imperatives for the edge, performed in the order given."""

from dataclasses import dataclass

from device.till.contents import Content
from device.till.entries import Entry
from device.till.receipt import Slip
from device.till.shift import OwnWord
from device.till.signals import Light, Sound


@dataclass(frozen=True)
class Journal:
    """Write these entries in one fsynced commit before anything that follows.

    If it fails, nothing that follows is done, and the till hears `JournalFailed`.
    """

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class OpenJournal:
    """Open the journal, again if need be; the till hears `JournalOpened` or `JournalFailed`."""


@dataclass(frozen=True)
class RecallSettled:
    """Read what was settled from this entry on; the till hears `SettledRecalled`."""

    restore_id: str
    from_entry: int


@dataclass(frozen=True)
class RecallOwn:
    """What the journal itself knows of this; the till hears `OwnRecalled`."""

    what: OwnWord
    initials: str
    """Of whoever asks."""


@dataclass(frozen=True)
class SendRequest:
    """Sign it, publish it if the link is up, and report `RequestSigned`."""

    content: Content
    expiry_s: int | None = None
    """After this long the broker drops it undelivered."""


@dataclass(frozen=True)
class SendAgain:
    """Publish the same bytes once more, if the link is up."""

    request_hash: str
    expiry_s: int | None = None


@dataclass(frozen=True)
class Reconnect:
    """The link looks alive and is not: drop it and connect anew."""


@dataclass(frozen=True)
class ShowLight:
    light: Light


@dataclass(frozen=True)
class MakeSound:
    sound: Sound


@dataclass(frozen=True)
class Print:
    slip: Slip


@dataclass(frozen=True)
class Look:
    """Whether the camera looks for codes."""

    looking: bool


@dataclass(frozen=True)
class AccountForSale:
    """The light of this sale is on: say where its milliseconds went."""

    key: str
    correlation_id: str
    outcome: str


@dataclass(frozen=True)
class Note:
    """Something for the log; never a secret."""

    what: str
    key: str = ""
    detail: str = ""


Effect = (
    Journal
    | OpenJournal
    | RecallSettled
    | RecallOwn
    | SendRequest
    | SendAgain
    | Reconnect
    | ShowLight
    | MakeSound
    | Print
    | Look
    | AccountForSale
    | Note
)
Effects = tuple[Effect, ...]
