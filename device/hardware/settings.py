"""Which parts an appliance has and where they are wired: plain values, read from its settings."""

from typing import Annotated, Literal

import msgspec

Pin = Annotated[int, msgspec.Meta(ge=2, le=27)]
"""A BCM number on the header; 0 and 1 belong to the boards' own EEPROM."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
UsbId = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class KeypadPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BCM numbers of a 4x4 matrix, top row and left column first."""

    rows: tuple[Pin, Pin, Pin, Pin] = (5, 6, 13, 19)
    columns: tuple[Pin, Pin, Pin, Pin] = (12, 16, 20, 21)


class LampPins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BCM numbers of an RGB lamp, and which end its three colours have in common."""

    red: Pin = 17
    green: Pin = 27
    blue: Pin = 22
    common: Literal["cathode", "anode"] = "cathode"
    """Anode: the colours share the plus, and shine when their pins are low."""


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed focus and exposure: phones come to the same place, and hunting costs frames."""

    width: Annotated[int, msgspec.Meta(ge=160, le=4608, multiple_of=2)] = 1280
    height: Annotated[int, msgspec.Meta(ge=120, le=2592, multiple_of=2)] = 720
    lens_position: Annotated[float, msgspec.Meta(ge=0, le=32)] | Literal["fixed"] = 6.5
    """Dioptres (1 / metres): 6.5 is 15 cm. "fixed" for a camera whose focus is not motorised."""
    exposure_us: Annotated[int, msgspec.Meta(ge=50, le=200_000)] = 10_000
    """A multiple of the mains' half period: 10 000 at 50 Hz, 8 333 at 60 Hz."""
    analogue_gain: Annotated[float, msgspec.Meta(ge=1, le=64)] = 4.0
    hflip: bool = False
    vflip: bool = False
    """Both for a sensor mounted upside down; one of them for a mirror in the way."""
    start_s: Annotated[float, msgspec.Meta(ge=5, le=600)] = 30.0
    """Until the decoders are loaded and the camera is open, before the process that reads is
    started anew; picamera2 alone takes seconds on a Pi."""


class PrinterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the receipt printer is attached, and which one it is to python-escpos."""

    kind: Literal["usb", "serial", "network", "none"] = "usb"
    profile: str = "TM-T20II"
    """A python-escpos profile: paper width, characters a line, code pages, cutter."""
    code_pages: tuple[str, ...] = ()
    """Only these of the profile's pages, by its names for them; all of them where none is named."""
    qr: Literal["image", "native"] = "image"
    usb_vendor: UsbId = 0x04B8
    usb_product: UsbId = 0x0E15
    serial_path: str = "/dev/serial0"
    serial_baud: Annotated[int, msgspec.Meta(ge=1200, le=1_000_000)] = 38_400
    serial_flow: Literal["none", "xonxoff", "rtscts"] = "none"
    host: str = ""
    port: Port = 9100
    answers: Literal["auto", "always", "never"] = "auto"
    """Whether it says how it is when asked: "always": silence means that it is switched off;
    "never": do not ask; "auto": silence means so once it has answered."""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """How long one write may take before the printer counts as gone."""


class HardwareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `open_hardware` needs; the defaults are the wiring in docs/wiring.md."""

    kind: Literal["pi", "simulated"] = "pi"
    socket: str | None = None
    """Where the simulated edge listens; only with `kind = "simulated"`."""
    pins: Literal["lgpio"] = "lgpio"
    """The library that moves the pins of a Pi; another one is never taken in its place."""
    keypad: KeypadPins = KeypadPins()
    lamp: LampPins = LampPins()
    buzzer: Pin = 18
    camera: CameraSettings = CameraSettings()
    printer: PrinterSettings = PrinterSettings()

    def __post_init__(self) -> None:
        # A refusal that begins with a key is shown with that key's line.
        wired: dict[int, str] = {}
        for part, pin in self._leads():
            if pin in wired:
                raise ValueError(f"{part}: GPIO {pin} is wired to two parts, here and {wired[pin]}")
            wired[pin] = part
        if self.kind == "simulated" and self.socket is None:
            raise ValueError('kind: "simulated" needs a socket')

    def _leads(self) -> tuple[tuple[str, int], ...]:
        return (
            *(("keypad.rows", pin) for pin in self.keypad.rows),
            *(("keypad.columns", pin) for pin in self.keypad.columns),
            ("lamp.red", self.lamp.red),
            ("lamp.green", self.lamp.green),
            ("lamp.blue", self.lamp.blue),
            ("buzzer", self.buzzer),
        )
