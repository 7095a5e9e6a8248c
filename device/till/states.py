"""Every state the till can be in; all of it frozen, none of it secret in a repr."""

from dataclasses import dataclass, field

from device.till.contents import (
    AskToCancel,
    AskToPostAgain,
    AskToPostOffline,
    AskToRefund,
    AskToSignOut,
    Pin,
    SaidAgain,
)
from device.till.entries import Entry, RefundOpened, SaleOpened
from device.till.signals import Light, PrinterState
from device.till.spell import OfflineRecord
from device.till.standing import OpenSale
from device.till.terms import Terms
from device.till.trusted_time import Anchor
from protocol.messages import JournalKnown, SaleName, SignedIn
from protocol.money import Money


@dataclass(frozen=True)
class Sighting:
    """A code, and when it was last in view (monotonic seconds)."""

    text: str = field(repr=False)
    seen_at: float
    payer_id: str = ""
    """Whose wallet it is, once the till is done with that wallet."""


@dataclass(frozen=True)
class ScannedFirst:
    """A wallet QR that was shown before the amount was keyed: `#` deducts from it at once."""

    text: str = field(repr=False)
    jws: str = field(repr=False)
    payer_id: str
    scanned_at_ms: int
    scanned_s: float
    """The same moment in monotonic seconds."""
    until: float
    balance: Money | None = None
    key: str = ""
    """Of the question what is in this wallet; empty where nobody could be asked."""
    request_hash: str | None = None


@dataclass(frozen=True)
class RefundWanted:
    """What staff want to give back; `amount` is None for all that is left of the sale."""

    sale: SaleName
    amount: Money | None


@dataclass(frozen=True)
class LeftOfSale:
    """What the cloud said last is left of a sale that was given back in part."""

    sale: SaleName
    left: Money


@dataclass(frozen=True)
class Starting:
    """The journal has not been opened yet: nothing is known."""


@dataclass(frozen=True)
class WaitingForPolicy:
    """Without a policy the till knows neither its stall nor whom to believe."""


@dataclass(frozen=True)
class NobodySignedIn:
    """Looking for a badge."""

    refused: Sighting | None = None


@dataclass(frozen=True)
class KeyingPin:
    badge: str = field(repr=False)
    pin: Pin
    until: float
    approving: RefundWanted | None = None
    """The refund that this PIN approves; None: it signs somebody in."""


@dataclass(frozen=True)
class Keyed:
    """A badge and the PIN that was keyed for it; in memory alone, and no longer than need be."""

    badge: str = field(repr=False)
    pin: Pin


@dataclass(frozen=True)
class KeyingPinAgain:
    """The badge has no PIN yet: `first` becomes it, if the same is keyed once more."""

    first: Keyed
    pin: Pin
    until: float


@dataclass(frozen=True)
class SigningIn:
    key: str
    until: float
    resend_at: tuple[float, ...]
    request_hash: str | None = None
    keyed: Keyed | None = None
    """Kept until the cloud has said that the badge has a PIN; None: this PIN is being chosen."""

    @property
    def kind(self) -> str:
        """Of the request that is out, as `protocol.messages` names it."""
        return "choose_pin" if self.keyed is None else "sign_in"


@dataclass(frozen=True)
class Ready:
    scanned: ScannedFirst | None = None


@dataclass(frozen=True)
class KeyingAmount:
    """The digits stand in no repr: staff may key their PIN at the wrong moment."""

    digits: str = field(repr=False)
    scanned: ScannedFirst | None = None


@dataclass(frozen=True)
class KeyingProducts:
    """`numbers` are complete; `digits` follow the last `A`. The price list is asked at `#`."""

    numbers: tuple[int, ...] = ()
    digits: str = field(default="", repr=False)
    scanned: ScannedFirst | None = None


@dataclass(frozen=True)
class BalanceWanted:
    """`C` was pressed: the next wallet QR is asked about, and nothing else."""

    until: float
    refused: Sighting | None = None


@dataclass(frozen=True)
class ReceiptWanted:
    """`B` was pressed: the next receipt's QR says what is to be given back."""

    until: float
    refused: Sighting | None = None


@dataclass(frozen=True)
class KeyingRefund:
    """How much of this sale is given back; no digits: all that is left of it."""

    sale: SaleName
    until: float
    digits: str = field(default="", repr=False)


@dataclass(frozen=True)
class SupervisorWanted:
    """One person alone may not give this back: a supervisor's badge, then their PIN."""

    wanted: RefundWanted
    until: float
    refused: Sighting | None = None


@dataclass(frozen=True)
class Scanning:
    """The sale is journaled; nothing has been published under its key."""

    sale: SaleOpened
    until: float
    refused: Sighting | None = None


@dataclass(frozen=True)
class Asking:
    """The deduct is out. From here on only a journaled decision ends the sale."""

    sale: SaleOpened
    text: str = field(repr=False)
    until: float
    resend_at: tuple[float, ...]
    request_hash: str | None = None
    scanned_s: float | None = None
    """When the code was before the camera (monotonic seconds); None: when it was asked about."""


@dataclass(frozen=True)
class BalanceOf:
    """This wallet's balance is being asked, for a slip."""

    text: str = field(repr=False)
    scanned: ScannedFirst | None
    """The same QR, where it waits for an amount."""


@dataclass(frozen=True)
class LastReceiptOf:
    """The last receipt is being asked, for whoever has these initials."""

    initials: str


@dataclass(frozen=True)
class ApprovalOf:
    """A supervisor's badge and PIN are being judged."""

    wanted: RefundWanted


@dataclass(frozen=True)
class Inquiring:
    """The cloud was asked something that moves no money; staff wait for the answer."""

    about: BalanceOf | LastReceiptOf | ApprovalOf
    kind: str
    key: str
    until: float
    resend_at: tuple[float, ...]
    request_hash: str | None = None


@dataclass(frozen=True)
class Refunding:
    """Staff wait for the answer to a refund. The outbox asks for it, also once nobody waits."""

    refund: RefundOpened
    until: float


Watching = (
    NobodySignedIn
    | Ready
    | KeyingAmount
    | KeyingProducts
    | BalanceWanted
    | ReceiptWanted
    | SupervisorWanted
    | Scanning
)
"""The phases in which the camera looks."""


@dataclass(frozen=True)
class Showing:
    """A result is lit until `until`; then the till goes on looking, or rests."""

    light: Light
    until: float
    then: Watching | None = None
    sale: SaleOpened | None = None
    """The sale whose decision this is."""


@dataclass(frozen=True)
class LeaveAsked:
    """`D` was held: `#` signs out. The shift's figures come on paper, the cloud's if it answers."""

    until: float
    report_by: float | None = None
    """Until then the cloud's are awaited; None: they are printed, or will not come."""
    key: str = ""
    request_hash: str | None = None


@dataclass(frozen=True)
class HandedOverAsked:
    """Sales that were approved and perhaps never shown, the one being asked about first."""

    sales: tuple[OpenSale, ...]


@dataclass(frozen=True)
class JournalBroken:
    """No sale until the journal is open and sound; `unwritten` is what it must learn then."""

    unwritten: tuple[Entry, ...]
    open_at: float
    light: Light


Phase = (
    Starting
    | WaitingForPolicy
    | NobodySignedIn
    | KeyingPin
    | KeyingPinAgain
    | SigningIn
    | Ready
    | KeyingAmount
    | KeyingProducts
    | BalanceWanted
    | ReceiptWanted
    | KeyingRefund
    | SupervisorWanted
    | Scanning
    | Asking
    | Inquiring
    | Refunding
    | Showing
    | LeaveAsked
    | HandedOverAsked
    | JournalBroken
)


@dataclass(frozen=True)
class Link:
    """What the till knows of its way to the cloud. Alive is only what answers with a signature."""

    is_up: bool = False
    is_answering: bool = False
    """A signed answer came since the link was up."""
    heard_at: float = 0.0
    """When the link came up or the last signed answer came."""
    heartbeat_at: float = 0.0
    """When the next heartbeat is due."""
    heartbeat_key: str = ""
    heartbeat_hash: str | None = None


@dataclass(frozen=True)
class Unanswered:
    """A message that is sent again, ever more rarely, until the cloud's signed answer comes."""

    content: AskToCancel | AskToSignOut | AskToPostOffline | AskToPostAgain | AskToRefund
    next_at: float
    times: int = 1
    request_hash: str | None = None


@dataclass(frozen=True)
class Resending:
    """The cloud came back from a backup: `rest` is to be said again, a few at a time."""

    restore_id: str
    from_entry: int
    rest: tuple[SaidAgain, ...] | None = None
    """None: the journal has not been read yet."""


@dataclass(frozen=True)
class Updating:
    """Nothing begins meanwhile. Whoever presses a key is told, once on paper."""

    has_told: bool = False


@dataclass(frozen=True)
class Till:
    """The whole till. Its first `Tick` opens the journal; everything else follows from that."""

    phase: Phase = field(default_factory=Starting)
    terms: Terms | None = None
    session: SignedIn | None = None
    link: Link = field(default_factory=Link)
    outbox: tuple[Unanswered, ...] = ()
    resending: Resending | None = None
    resent_for: str = ""
    journal_told: JournalKnown | None = None
    """What the cloud said it knows of the journal, when a heartbeat said less."""
    stray_until: float = 0.0
    """Until then a key belongs to a number whose beginning was passed over; see `pass_over`."""
    left_of_sale: LeftOfSale | None = None
    in_view: tuple[Sighting, ...] = ()
    """The codes that lay before the camera last: those the till has dealt with, see `viewing`."""
    printer: PrinterState = PrinterState.OK
    slips_waiting: int = 0
    anchor: Anchor | None = None
    """What makes the time a trusted one; None: nothing does so far."""
    record: OfflineRecord = field(default_factory=OfflineRecord)
    """As the journal has it, and whatever it is about to learn."""
    unsaved: tuple[Entry, ...] = ()
    """What the cloud said of denied payers and keys: journaled when no customer waits."""
    sync_saved_ms: int | None = None
    """The last signed answer to a heartbeat that the journal holds, or is about to."""
    alone_until: float = 0.0
    """Until then (monotonic seconds) the till may sell alone, if nothing else happens; 0: not."""
    updating: Updating | None = None


def may_beat(till: Till) -> bool:
    """Whether a heartbeat can be sent: its answer believed, and what it says of the journal true.

    A journal that is not open acknowledges no policy, and has no position to speak of.
    """
    if not till.link.is_up or till.terms is None:
        return False
    return not isinstance(till.phase, Starting | JournalBroken)


def is_unfinished(till: Till) -> bool:
    """Whether somebody is in the middle of something that must not be broken into.

    What a journal that cannot be opened holds, and what staff are asked about after a power cut,
    is there again after the next start.
    """
    match till.phase:
        case Starting() | WaitingForPolicy() | NobodySignedIn() | JournalBroken():
            return False
        case HandedOverAsked() | Ready(scanned=None):
            return False
        case _:
            return True


def deadline_of(till: Till) -> float | None:
    """When the next `Tick` is due (monotonic seconds), or None while only others can act."""
    deadlines = [each.next_at for each in till.outbox if till.link.is_up]
    if may_beat(till):
        deadlines.append(till.link.heartbeat_at)
    if till.alone_until and not (till.link.is_up and till.link.is_answering):
        deadlines.append(till.alone_until)
    match till.phase:
        case SigningIn() | Asking() | Inquiring():
            deadlines.append(till.phase.until)
            is_sent = till.link.is_up and till.phase.request_hash is not None
            deadlines += till.phase.resend_at[:1] if is_sent else ()
        case (
            KeyingPin(until=until)
            | KeyingPinAgain(until=until)
            | Scanning(until=until)
            | Showing(until=until)
        ):
            deadlines.append(until)
        case LeaveAsked(until=until, report_by=report_by):
            deadlines.append(until if report_by is None else min(until, report_by))
        case (
            Ready(scanned=ScannedFirst(until=until))
            | KeyingAmount(scanned=ScannedFirst(until=until))
            | KeyingProducts(scanned=ScannedFirst(until=until))
        ):
            deadlines.append(until)
        case (
            BalanceWanted(until=until)
            | ReceiptWanted(until=until)
            | KeyingRefund(until=until)
            | SupervisorWanted(until=until)
            | Refunding(until=until)
        ):
            deadlines.append(until)
        case JournalBroken(open_at=open_at):
            deadlines.append(open_at)
        case _:
            pass
    return min(deadlines, default=None)


def awaited_hashes(till: Till) -> frozenset[str]:
    """The requests whose bytes may have to be sent again."""
    hashes = {each.request_hash for each in till.outbox}
    match till.phase:
        case (
            SigningIn(request_hash=request_hash)
            | Asking(request_hash=request_hash)
            | Inquiring(request_hash=request_hash)
        ):
            hashes.add(request_hash)
        case _:
            pass
    return frozenset(each for each in hashes if each is not None)
