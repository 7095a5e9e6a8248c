"""What the loop needs of what surrounds it, and what reaches it from there."""

from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Protocol

from device.link import Incoming
from device.till.events import KeyPressed, PrinterChanged
from device.till.receipt import Slip
from device.till.signals import Light, Sound
from device.updating.facts import AtTheTill
from protocol.updates import System


@dataclass(frozen=True)
class Scanned:
    """A code, and when its frame was captured and decoded (monotonic seconds)."""

    text: str = field(repr=False)
    captured_at: float
    decoded_at: float


@dataclass(frozen=True)
class Stop:
    """End the loop; what is unfinished is in the journal."""


Happening = KeyPressed | Scanned | PrinterChanged | Incoming | Stop
Inbox = SimpleQueue[Happening]


class Lamp(Protocol):
    def show(self, light: Light) -> None: ...


class Buzzer(Protocol):
    def play(self, sound: Sound) -> None: ...


class Printer(Protocol):
    def print(self, slip: Slip) -> None: ...


class Scanner(Protocol):
    def look(self, looking: bool) -> None: ...


class Parts(Protocol):
    """What the loop needs of the hardware."""

    @property
    def lamp(self) -> Lamp: ...
    @property
    def buzzer(self) -> Buzzer: ...
    @property
    def printer(self) -> Printer: ...
    @property
    def scanner(self) -> Scanner: ...


class Wire(Protocol):
    """What the loop needs of the link."""

    def publish(self, payload: bytes, expiry_s: int | None = None) -> bool: ...

    def drop(self) -> None: ...


@dataclass(frozen=True)
class Rest:
    """How the till rests, when it does."""

    now_ms: int | None
    """Trusted time; None: nobody knows what time it is."""
    now_s: float
    """Monotonic."""
    is_idle: bool
    """Nobody is in the middle of anything."""
    has_sent_all: bool
    """Idle, and nothing waits for an answer."""
    link_is_up: bool


class Papers(Protocol):
    """The certificate by which the appliance is known: renewed while the till rests."""

    def rest(self, rest: Rest) -> bool:
        """Whether it is over, and nothing but a new claim helps."""
        ...

    def heard(self) -> None: ...

    def warning(self, now_ms: int | None) -> Slip | None:
        """What whoever signs in should know, if anything."""
        ...


class Updater(Protocol):
    """New versions of all this: fetched and installed while nobody needs the till."""

    def look(self, till: AtTheTill) -> bool:
        """Whether nothing may begin now."""
        ...

    def heard(self) -> None: ...

    def hold(self, *, is_waiting: bool) -> None: ...

    def system(self) -> System | None: ...


class Lock(Protocol):
    """What keeps an installation out of a sale, and a sale out of an installation."""

    @property
    def is_held(self) -> bool: ...

    def take(self) -> bool: ...

    def let_go(self) -> None: ...
