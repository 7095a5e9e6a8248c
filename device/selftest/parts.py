"""The parts under somebody's hands and eyes: keys, lamp, buzzer, camera, printer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep  # noqa: TID251 -- frames are counted and slips awaited as they come
from typing import Final

from device.hardware.build import Hardware
from device.hardware.keypad import LAYOUT
from device.hardware.lamp import pattern_of
from device.hardware.printer import EscposPrinter
from device.hardware.settings import HardwareSettings, KeypadPins, LampPins
from device.selftest.findings import Finding, Part, failed, ok, skipped
from device.selftest.person import Person
from device.till.receipt import Columns, Qr, Rule, Slip, SlipKind, Text
from device.till.signals import Light, PrinterState, Sound

COUNT_S: Final = 2.0
FIRST_FRAME_S: Final = 30.0
"""Until the decoders are loaded and the camera is open."""
FRAMES_A_SECOND_MIN: Final = 5.0
PAPER_S: Final = 15.0
TRIED: Final = (Sound.APPROVED, Sound.DECLINED, Sound.FAULT)
"""What decides about goods."""

LETTERS: Final = "ÄÖÜäöüß ÀÉÈÊçñ Åøæ ŁłŚśŻż Őőű Řřž Ğış ΑΒΓαβγ АБВабв € £ 12,30"
"""Of every code page that receipts are printed with."""


@dataclass
class Senses:
    """What the parts report while they are tried; filled in by their own threads."""

    qr_lengths: list[int] = field(default_factory=list[int])
    """Never what a code says: it may be a customer's, or a badge."""
    printer: PrinterState | None = None
    stuck_lead: str | None = None
    """Of the lamp."""

    def on_qr(self, text: str, captured_at: float, decoded_at: float) -> None:
        del captured_at, decoded_at
        self.qr_lengths.append(len(text))

    def on_printer(self, state: PrinterState, waiting: int) -> None:
        del waiting
        self.printer = state

    def on_stuck_lamp(self, lead: str) -> None:
        self.stuck_lead = lead


def wait_for_paper(hardware: Hardware) -> bool:
    """Whether the printer took all it was given; one that is not there takes none."""
    printer = hardware.printer
    return isinstance(printer, EscposPrinter) and _comes(lambda: not printer.waiting, PAPER_S)


def try_keys(person: Person, pins: KeypadPins) -> Finding:
    """Each of the 16 in turn; a row or column without any sign of life is named with its pin."""
    person.tell("Keys: press each key once, as it is asked for.")
    dead: set[str] = set()
    swapped: list[str] = []
    for key in "".join(LAYOUT):
        person.tell(f"  press {key}")
        pressed = person.next_key()
        if pressed is None:
            dead.add(key)
        elif pressed != key:
            swapped.append(f"for {key} came {pressed}")
    if not dead and not swapped:
        return ok(Part.KEYS, "all 16")
    return failed(Part.KEYS, *name_the_dead(dead, pins), *swapped)


def name_the_dead(dead: set[str], pins: KeypadPins) -> list[str]:
    """A whole row or column is one broken wire; what is left over are keys."""
    if dead == set("".join(LAYOUT)):
        return ["no key at all: is the keypad plugged in?"]
    columns = ["".join(row[at] for row in LAYOUT) for at in range(4)]
    lines = [("row", at, keys, pins.rows[at]) for at, keys in enumerate(LAYOUT)]
    lines += [("column", at, keys, pins.columns[at]) for at, keys in enumerate(columns)]
    said: list[str] = []
    explained: set[str] = set()
    for what, at, keys, pin in lines:
        if set(keys) <= dead:
            said.append(f"{what} {at + 1} ({' '.join(keys)}) is dead: look at GPIO {pin}")
            explained |= set(keys)
    left = sorted(dead - explained)
    if left:
        said.append(f"dead: {' '.join(left)}")
    return said


def try_lamp(person: Person, hardware: Hardware, pins: LampPins, senses: Senses) -> Finding:
    wrong: list[str] = []
    for light in Light:
        if light is Light.DARK:
            continue
        hardware.lamp.show(light)
        match person.agrees(f"Lamp: {looks_of(light)} ({light.value})?"):
            case True:
                pass
            case False:
                wrong.append(f"{light.value}: not {looks_of(light)}")
            case None:
                wrong.append("nobody answered")
                break
        if senses.stuck_lead is not None:
            pin = getattr(pins, senses.stuck_lead)
            wrong.append(f"{senses.stuck_lead} does not do what it was told: look at GPIO {pin}")
            break
    hardware.lamp.show(Light.DARK)
    if wrong:
        return failed(Part.LAMP, *wrong)
    return ok(Part.LAMP, f"{len(Light) - 1} lights")


def looks_of(light: Light) -> str:
    """A light's colours in words, in the order they are shown; with what its rhythm is."""
    pattern = pattern_of(light)
    colours: list[str] = []
    for step in (*pattern.once, *pattern.forever):
        name = _colour_of(step.colour)
        if name is not None and name not in colours:
            colours.append(name)
    is_dark_between = any(_colour_of(step.colour) is None for step in pattern.forever)
    rhythm = "blinking" if is_dark_between else "breathing"
    if not pattern.forever:
        changes = sum(_colour_of(step.colour) is not None for step in pattern.once)
        rhythm = "steady" if changes == 1 else f"{changes} times"
    return f"{' and '.join(colours)}, {rhythm}"


def _colour_of(colour: tuple[float, float, float]) -> str | None:
    names = {
        (False, False, False): None,
        (True, False, False): "red",
        (False, True, False): "green",
        (False, False, True): "blue",
        (True, True, False): "amber",
        (False, True, True): "cyan",
        (True, False, True): "violet",
        (True, True, True): "white",
    }
    red, green, blue = colour
    return names[(red > 0, green > 0, blue > 0)]


def try_buzzer(person: Person, hardware: Hardware) -> Finding:
    wrong: list[str] = []
    for sound in TRIED:
        hardware.buzzer.play(sound)
        match person.agrees(f"Buzzer: {sound.value}?"):
            case True:
                pass
            case False:
                wrong.append(f"not heard: {sound.value}")
            case None:
                wrong.append("nobody answered")
                break
    return failed(Part.BUZZER, *wrong) if wrong else ok(Part.BUZZER, f"{len(TRIED)} sounds")


def try_camera(person: Person | None, hardware: Hardware, senses: Senses) -> Finding:
    """Frames a second and sharpness; with somebody there, also a code held up to be read."""
    hardware.scanner.look(True)
    try:
        began_at = hardware.scanner.health().frames
        if not _comes(lambda: hardware.scanner.health().frames > began_at, FIRST_FRAME_S):
            restarts = hardware.scanner.health().restarts
            return failed(Part.CAMERA, f"no frame; its process was started anew {restarts} times")
        first, since = hardware.scanner.health().frames, monotonic()
        sleep(COUNT_S)
        health = hardware.scanner.health()
        rate = (health.frames - first) / (monotonic() - since)
        told = f"{rate:.1f} frames a second, sharpness {health.sharpness or 0.0:.1f}"
        if rate < FRAMES_A_SECOND_MIN:
            return failed(Part.CAMERA, told, f"fewer than {FRAMES_A_SECOND_MIN:.0f} a second")
        if person is None:
            return ok(Part.CAMERA, told, "no code was asked for")
        person.tell(f"Camera: {told}. Hold a printed card or a phone's QR in front of it.")
        if not person.waits_for(lambda: bool(senses.qr_lengths)):
            return failed(Part.CAMERA, told, "no code was read: distance, light, focus?")
        sharpness = hardware.scanner.health().sharpness or 0.0
        read = f"a code of {senses.qr_lengths[0]} characters was read (sharpness {sharpness:.1f})"
        return ok(Part.CAMERA, told, read)
    finally:
        hardware.scanner.look(False)


def try_printer(
    person: Person | None, hardware: Hardware, settings: HardwareSettings, senses: Senses
) -> Finding:
    printer = hardware.printer
    if not isinstance(printer, EscposPrinter):
        return skipped(Part.PRINTER, "none is attached by setting")
    printer.print(trial_slip())
    if not wait_for_paper(hardware):
        state = PrinterState.AWAY if senses.printer is None else senses.printer
        where = f"{settings.printer.kind}, {settings.printer.profile}"
        return failed(Part.PRINTER, f"{state.value}: the slip did not print ({where})")
    told = f"{(senses.printer or PrinterState.OK).value}, took the slip"
    if person is None:
        return ok(Part.PRINTER, told)
    if person.agrees("Printer: did the slip come, with every letter and a QR code?"):
        return ok(Part.PRINTER, told)
    return failed(Part.PRINTER, told, "what it printed was not right: profile, code_pages, qr?")


def trial_slip() -> Slip:
    return Slip(
        (
            Text("Self-test", bold=True, large=True, centred=True),
            Rule(),
            Columns("left", "right"),
            Text(LETTERS),
            Qr("https://example.org/railtix-self-test", "A phone reads this code."),
        ),
        SlipKind.NOTICE,
    )


def _comes(look: Callable[[], bool], seconds: float) -> bool:
    until = monotonic() + seconds
    while not look():
        if monotonic() >= until:
            return False
        sleep(0.05)
    return True
