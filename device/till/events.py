"""What happened: past facts, each frozen; everything the till learns arrives as one of these."""

from dataclasses import dataclass, field
from datetime import tzinfo

from device.till.contents import SaidAgain
from device.till.entries import Entry
from device.till.shift import LastSale, OwnWord, Shift
from device.till.signals import PrinterState
from device.till.standing import Standing
from protocol.ids import CorrelationId, IdempotencyKey
from protocol.messages import Reply, SignedIn
from protocol.policy import Policy


@dataclass(frozen=True)
class Now:
    """What the edge alone can know or make, for one step: the time, and names never used before."""

    monotonic_s: float
    wall_ms: int
    fresh_key: IdempotencyKey
    fresh_correlation: CorrelationId
    fresh_heartbeat_key: IdempotencyKey
    wall_is_set: bool = False
    """Whether something trustworthy has set the wall clock since boot."""


@dataclass(frozen=True)
class JournalOpened:
    """The journal is open and sound; `policy` and `session` were verified again by the edge."""

    standing: Standing
    policy: Policy | None
    zone: tzinfo
    session: SignedIn | None


@dataclass(frozen=True)
class JournalFailed:
    """These entries were to be written together, and it is unknown whether they were.

    None at all: the journal could not be opened.
    """

    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class SettledRecalled:
    """What the journal says was settled: each sale with the cloud's reply, or cancelled."""

    restore_id: str
    settled: tuple[SaidAgain, ...]


@dataclass(frozen=True)
class OwnRecalled:
    """What the journal itself knows, for when the cloud's word cannot be had."""

    what: OwnWord
    initials: str
    last_sale: LastSale | None
    shift: Shift


@dataclass(frozen=True)
class PolicyArrived:
    """Signed by our cloud, for this appliance, and not older than the one journaled."""

    policy: Policy
    zone: tzinfo
    """The time zone that the policy names."""
    token: str = field(repr=False)


@dataclass(frozen=True)
class LinkUp:
    """Subscribed: what is published now can be answered."""


@dataclass(frozen=True)
class LinkDown:
    pass


@dataclass(frozen=True)
class KeyPressed:
    """One of 0-9, A-D, `*`, `#`. It may be a digit of a PIN, so it stands in no repr."""

    key: str = field(repr=False)
    held: bool = False


@dataclass(frozen=True)
class QrSeen:
    """The camera read a code. Whoever holds its text can pay or sign in: it stands in no repr."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class RequestSigned:
    """What the till asked for was signed, and went out if the link was up."""

    kind: str
    key: str
    request_hash: str


@dataclass(frozen=True)
class ReplyArrived:
    """A reply whose signature is the cloud's and whose addressee is this appliance."""

    reply: Reply
    token: str = field(repr=False)


@dataclass(frozen=True)
class PrinterChanged:
    """The printer said, or showed by taking no bytes, how it is."""

    state: PrinterState
    waiting: int
    """Slips not printed yet."""


@dataclass(frozen=True)
class UpdateBegan:
    """The appliance is being updated, or is about to start anew for it: no sale may begin."""


@dataclass(frozen=True)
class UpdateEnded:
    """It is not, or no more."""


@dataclass(frozen=True)
class Tick:
    """A deadline of the state has come."""


Event = (
    JournalOpened
    | JournalFailed
    | SettledRecalled
    | OwnRecalled
    | PolicyArrived
    | LinkUp
    | LinkDown
    | KeyPressed
    | QrSeen
    | RequestSigned
    | ReplyArrived
    | PrinterChanged
    | UpdateBegan
    | UpdateEnded
    | Tick
)
