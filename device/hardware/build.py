"""All the parts of one appliance, opened together and closed together."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar, assert_never

from device.hardware.buzzer import Buzzer, PiezoBuzzer
from device.hardware.keypad import Keypad, MatrixKeypad, OnKey
from device.hardware.lamp import Lamp, OnStuck, RgbLamp, end_the_program
from device.hardware.printer import EscposPrinter, NoPrinter, OnChange, Printer
from device.hardware.printer_line import Line, connect_to
from device.hardware.reader_process import ReaderCommand, reader_of_pi, reader_of_stage
from device.hardware.scanner import OnQr, Scanner
from device.hardware.settings import HardwareSettings
from device.hardware.wifi import NetworkManager, NoWifi, Wifi

if TYPE_CHECKING:
    from device.hardware.pi_pins import PiPins
    from device.hardware.simulated_pins import SimulatedFactory

    Connect = Callable[[], Line]

IMAGE_MARKER: Final = Path("/etc/railtix/image")
"""Present in the shipped image, where nobody may press keys through a socket."""


class _Part(Protocol):
    def close(self) -> None: ...


P = TypeVar("P", bound=_Part)


class HardwareRefusedError(Exception):
    """These parts may not be opened on this machine."""


@dataclass(frozen=True)
class Hardware:
    """The parts of an appliance, ready."""

    scanner: Scanner
    keypad: Keypad
    lamp: Lamp
    buzzer: Buzzer
    printer: Printer
    wifi: Wifi
    _parts: ExitStack

    def close(self) -> None:
        """Close every part, the last opened first; the lamp goes dark."""
        self._parts.close()


def open_hardware(
    settings: HardwareSettings,
    *,
    on_key: OnKey,
    on_qr: OnQr,
    on_printer: OnChange = lambda _state, _waiting: None,
    on_stuck_lamp: OnStuck = end_the_program,
    state: Path | None = None,
    wifi: Literal["networkmanager", "none"] = "none",
    image_marker: Path = IMAGE_MARKER,
) -> Hardware:
    """Open the parts; all that is named `on_` is called from the parts' own threads.

    `on_stuck_lamp`: its leads do not do what they were told, and its light means nothing.
    `state`: the folder in which slips wait for the printer over a restart; None: they do not.
    `wifi`: who joins networks, where the parts are real.

    Raises HardwareRefusedError for a simulation in a shipped image and for pins that cannot be
    moved, and whatever a part raises that cannot be opened; what was open by then is closed. A
    printer that is away is no error.
    """
    with ExitStack() as parts:
        match settings.kind:
            case "pi":
                reader, pin_factory, connect = _pi(settings, parts)
                joins: Wifi = NetworkManager() if wifi == "networkmanager" else NoWifi()
            case "simulated":
                if image_marker.exists():
                    raise HardwareRefusedError("a shipped image runs on real parts only")
                reader, pin_factory, connect, joins = _simulated(settings, parts)
            case _:
                assert_never(settings.kind)
        # Before the lamp: its pulse, which ends when it is closed, is not the last one begun.
        buzzer = _closing(parts, PiezoBuzzer(settings.buzzer, pin_factory))
        lamp = RgbLamp(settings.lamp, pin_factory, pin_factory.level, on_stuck_lamp)
        _closing(parts, lamp)
        printer = _closing(
            parts,
            NoPrinter(on_printer)
            if settings.printer.kind == "none"
            else EscposPrinter(settings.printer, connect, spool=state, on_change=on_printer),
        )
        # Before the scanner: its process, between fork and exec, holds every line of the chip, and
        # a line that is claimed anew meanwhile is busy.
        keypad = _closing(parts, MatrixKeypad(settings.keypad, on_key, pin_factory))
        scanner = _closing(parts, Scanner(reader, on_qr, start_s=settings.camera.start_s))
        return Hardware(scanner, keypad, lamp, buzzer, printer, joins, parts.pop_all())


def open_lamp(settings: HardwareSettings, parts: ExitStack) -> Lamp:
    """The real lamp alone, for who has something to say where nothing else can be opened.

    Nothing is sold there: a lamp that stands still is logged, and what is said goes on.

    Raises HardwareRefusedError.
    """
    _, pin_factory, _ = _pi(settings, parts)
    lamp = RgbLamp(settings.lamp, pin_factory, pin_factory.level, on_stuck=lambda _lead: None)
    return _closing(parts, lamp)


def _pi(settings: HardwareSettings, parts: ExitStack) -> "tuple[ReaderCommand, PiPins, Connect]":
    # Named here: gpiozero left to itself would fall back to another library without a word.
    try:
        from device.hardware.pi_pins import PiPins  # noqa: PLC0415 -- lgpio is a Pi's alone

        pin_factory = PiPins()
    except Exception as error:
        raise HardwareRefusedError(
            f"hardware.pins: {settings.pins} cannot move this machine's pins"
            f" ({type(error).__name__}: {error}); is it a Pi, is this user in the group gpio?"
        ) from error
    parts.callback(pin_factory.close)
    return reader_of_pi(settings.camera), pin_factory, lambda: connect_to(settings.printer)


def _simulated(
    settings: HardwareSettings, parts: ExitStack
) -> "tuple[ReaderCommand, SimulatedFactory, Connect, Wifi]":
    from device.hardware.simulated import SimulatedEdge  # noqa: PLC0415 -- not on a Pi

    edge = _closing(parts, SimulatedEdge(settings))
    return reader_of_stage(edge.stage), edge.pin_factory, edge.paper.connect, edge.wifi


def _closing(parts: ExitStack, part: "P") -> "P":
    parts.callback(part.close)
    return part
