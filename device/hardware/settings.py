"""Which parts an appliance has and where they are wired: plain values, read from its settings."""

from typing import Literal

import msgspec


class KeypadPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BCM numbers of a 4x4 matrix, top row and left column first."""

    rows: tuple[int, int, int, int] = (5, 6, 13, 19)
    columns: tuple[int, int, int, int] = (12, 16, 20, 21)


class LampPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BCM numbers of an RGB lamp with a common cathode."""

    red: int = 17
    green: int = 27
    blue: int = 22


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed focus and exposure: phones come to the same place, and hunting costs frames."""

    width: int = 1280
    height: int = 720
    lens_position: float | None = 6.5
    """Dioptres (1 / metres): 6.5 is 15 cm. None for a camera whose focus is not motorised."""
    exposure_us: int = 10_000
    """A multiple of the mains' half period: 10 000 at 50 Hz, 8 333 at 60 Hz."""
    analogue_gain: float = 4.0


class PrinterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the receipt printer is attached, and which one it is to python-escpos."""

    kind: Literal["usb", "serial", "network", "none"] = "usb"
    profile: str = "TM-T20II"
    """A python-escpos profile: paper width, characters a line, code pages, cutter."""
    qr: Literal["image", "native"] = "image"
    usb_vendor: int = 0x04B8
    usb_product: int = 0x0E15
    serial_path: str = "/dev/serial0"
    serial_baud: int = 38_400
    host: str = ""
    port: int = 9100
    deadline_s: float = 5.0
    """How long one write may take before the printer counts as gone."""


class HardwareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `open_hardware` needs; the defaults are the wiring in docs/wiring.md."""

    kind: Literal["pi", "simulated"] = "pi"
    socket: str | None = None
    """Where the simulated edge listens; only with `kind = "simulated"`."""
    keypad: KeypadPins = KeypadPins()
    lamp: LampPins = LampPins()
    buzzer: int = 18
    camera: CameraSettings = CameraSettings()
    printer: PrinterSettings = PrinterSettings()

    def __post_init__(self) -> None:
        pins = (
            *(*self.keypad.rows, *self.keypad.columns),
            *(self.lamp.red, self.lamp.green, self.lamp.blue),
            self.buzzer,
        )
        twice = sorted({pin for pin in pins if pins.count(pin) > 1})
        if twice:
            raise ValueError(f"GPIO {', '.join(map(str, twice))} is wired to two parts")
        if self.kind == "simulated" and self.socket is None:
            raise ValueError('kind "simulated" needs a socket')
