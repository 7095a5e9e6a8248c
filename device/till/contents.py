"""What the till wants to say to the cloud; the edge adds who, when, and the journal's position."""

from dataclasses import dataclass, field
from typing import assert_never

from device.till.entries import RefundOpened, SaleAcceptedOffline, SaleOpened
from protocol.messages import JournalKnown, SaleName
from protocol.money import Money


@dataclass(frozen=True, repr=False)
class Pin:
    """The digits of a PIN, which no log, journal or repr ever shows: not even how many."""

    digits: str = ""

    def __repr__(self) -> str:
        return "Pin()"


@dataclass(frozen=True)
class AskToSignIn:
    key: str
    badge: str = field(repr=False)
    pin: Pin


@dataclass(frozen=True)
class AskToChoosePin:
    """The badge's first PIN, keyed twice."""

    key: str
    badge: str = field(repr=False)
    pin: Pin


@dataclass(frozen=True)
class AskToSignOut:
    key: str
    session_id: str


@dataclass(frozen=True)
class AskToDeduct:
    sale: SaleOpened
    wallet_qr: str = field(repr=False)
    scanned_at_ms: int

    @property
    def key(self) -> str:
        return self.sale.key


@dataclass(frozen=True)
class AskToCancel:
    sale: SaleOpened

    @property
    def key(self) -> str:
        return self.sale.key


@dataclass(frozen=True)
class AskToPostOffline:
    """A sale that the till took alone: to be posted, now or whenever the cloud is there."""

    sale: SaleOpened
    acceptance: SaleAcceptedOffline
    number: int = 0
    """Of the sale's own journal entry, where it is settled and said again; 0: it is open."""

    @property
    def key(self) -> str:
        return self.sale.key


@dataclass(frozen=True)
class AskToPostAgain:
    """A settled sale with the cloud's own signed reply, for a cloud that lost it."""

    sale: SaleOpened
    number: int
    """Of the sale's own journal entry."""
    token: str = field(repr=False)

    @property
    def key(self) -> str:
        return self.sale.key


SaidAgain = AskToPostAgain | AskToCancel | AskToPostOffline
"""What is said of a settled sale to a cloud that may have lost it."""


@dataclass(frozen=True)
class AskToRefund:
    refund: RefundOpened

    @property
    def key(self) -> str:
        return self.refund.key


@dataclass(frozen=True)
class AskToApprove:
    """A supervisor's badge and PIN for a refund of exactly this sale and amount."""

    key: str
    session_id: str
    event_id: str
    stall_id: str
    sale: SaleName
    amount: Money | None
    badge: str = field(repr=False)
    pin: Pin


@dataclass(frozen=True)
class AskForBalance:
    key: str
    session_id: str
    wallet_qr: str = field(repr=False)


@dataclass(frozen=True)
class AskForLastReceipt:
    key: str
    session_id: str


@dataclass(frozen=True)
class AskForShiftReport:
    key: str
    session_id: str


@dataclass(frozen=True)
class AskForHeartbeat:
    key: str
    policy_version: int
    queue: int
    resent_for: str = ""
    denied_version: int = 0
    journal_told: JournalKnown | None = None
    session_id: str | None = None


Content = (
    AskToSignIn
    | AskToChoosePin
    | AskToSignOut
    | AskToDeduct
    | AskToCancel
    | AskToPostOffline
    | AskToPostAgain
    | AskToRefund
    | AskToApprove
    | AskForBalance
    | AskForLastReceipt
    | AskForShiftReport
    | AskForHeartbeat
)


def kind_of(content: Content) -> str:  # noqa: PLR0912 -- a branch a kind
    """The kind of the request that will carry it, as `protocol.messages` names it."""
    match content:
        case AskToSignIn():
            return "sign_in"
        case AskToChoosePin():
            return "choose_pin"
        case AskToSignOut():
            return "sign_out"
        case AskToDeduct():
            return "deduct"
        case AskToCancel():
            return "cancel"
        case AskToPostOffline():
            return "offline_acceptance"
        case AskToPostAgain():
            return "resubmission"
        case AskToRefund():
            return "refund"
        case AskToApprove():
            return "approve"
        case AskForBalance():
            return "balance"
        case AskForLastReceipt():
            return "last_receipt"
        case AskForShiftReport():
            return "shift_report"
        case AskForHeartbeat():
            return "heartbeat"
        case _:
            assert_never(content)
