"""What an appliance without an identity is in, what happens to it, and what it is to do."""

from dataclasses import dataclass, field
from enum import StrEnum

from device.till.effects import MakeSound, Print, ShowLight
from protocol.claim_qr import ClaimQr
from protocol.wifi_qr import WifiNetwork


class Need(StrEnum):
    """Why the appliance enrols."""

    BLANK = "blank"
    EXPIRED = "expired"
    """Its certificate has run out: the broker takes nothing of it any more."""


class Trouble(StrEnum):
    """Why it is not enrolled yet. Those of the cloud are the codes of its problem documents."""

    NO_WAY = "no_way"
    """No network, no such name, nobody listens, or no answer in time."""
    CLOUD_STRANGE = "cloud_strange"
    """Somebody answers, and not as our cloud does."""
    CLOUD_BUSY = "cloud_busy"
    ENROLMENT_CLOSED = "enrolment_closed"
    WRONG_FINGERPRINT = "wrong_fingerprint"
    NOT_BELIEVED = "not_believed"
    """The right authority is named, but this server's certificate is not for this address."""
    CLOCK = "clock"
    CLAIM_WRONG = "claim_wrong"
    CLAIM_EXPIRED = "claim_expired"
    CLAIM_USED = "claim_used"
    CLAIM_LOCKED = "claim_locked"
    CLAIM_WITHDRAWN = "claim_withdrawn"
    SERIAL_WRONG = "serial_wrong"
    DEVICE_REVOKED = "device_revoked"
    KEY_ON_ANOTHER_DEVICE = "key_on_another_device"
    CSR_NOT_USABLE = "csr_not_usable"
    OTHER_CERTIFICATE = "other_certificate"
    """What came back is for another key, or from another authority."""
    OTHER_NAME = "other_name"
    """The journal is another appliance's, and owes the cloud a word."""
    DISK = "disk"
    WIFI_NOT_JOINED = "wifi_not_joined"
    WIFI_NONE = "wifi_none"
    """This appliance has no Wi-Fi, or may not steer it."""
    WIFI_WEP = "wifi_wep"
    WIFI_ENTERPRISE = "wifi_enterprise"
    WIFI_MALFORMED = "wifi_qr_malformed"


PASSING = frozenset({Trouble.NO_WAY, Trouble.CLOUD_STRANGE, Trouble.CLOUD_BUSY, Trouble.DISK})
"""These may end by themselves: the same claim is tried again."""


@dataclass(frozen=True)
class Seen:
    """A code, and when it was last in view (monotonic seconds)."""

    text: str = field(repr=False)
    at: float


@dataclass(frozen=True)
class Enrolling:
    """All of it. Times are monotonic seconds."""

    need: Need = Need.BLANK
    serial: str = ""
    has_certificate: bool = False
    """The cloud's answer lies on the disk, and something was left to do: no claim is needed."""
    claim: ClaimQr | None = None
    claim_until: float = 0.0
    asking: ClaimQr | None = None
    """The claim that is being tried; only one at a time."""
    is_asking: bool = False
    network: WifiNetwork | None = None
    """The one that is being joined."""
    next_network: WifiNetwork | None = None
    trouble: Trouble | None = None
    detail: str = ""
    told: Trouble | None = None
    """What the last slip said: said again only when a person did something."""
    retry_at: float | None = None
    failures: int = 0
    seen: tuple[Seen, ...] = ()
    enrolled_as: str = ""


@dataclass(frozen=True)
class Began:
    """The program has started, or the till has found that its certificate has expired."""

    need: Need
    serial: str
    has_certificate: bool


@dataclass(frozen=True)
class CodeSeen:
    text: str = field(repr=False)


@dataclass(frozen=True)
class KeyTapped:
    """Any key: there is nothing to key here, and whoever presses one wants to know."""


@dataclass(frozen=True)
class Joined:
    pass


@dataclass(frozen=True)
class NotJoined:
    trouble: Trouble


@dataclass(frozen=True)
class Enrolled:
    """The identity is complete and in its place."""

    device_id: str


@dataclass(frozen=True)
class NotEnrolled:
    trouble: Trouble
    detail: str = ""
    """The id to claim, or where nobody answered; never a secret."""
    has_certificate: bool = False


@dataclass(frozen=True)
class Tick:
    """A deadline has come."""


Event = Began | CodeSeen | KeyTapped | Joined | NotJoined | Enrolled | NotEnrolled | Tick


@dataclass(frozen=True)
class Join:
    network: WifiNetwork


@dataclass(frozen=True)
class Ask:
    """Enrol with this claim; None: go on with the certificate that is there."""

    claim: ClaimQr | None


@dataclass(frozen=True)
class Finish:
    """Be a till."""


Effect = ShowLight | MakeSound | Print | Join | Ask | Finish
Effects = tuple[Effect, ...]
Step = tuple[Enrolling, Effects]
