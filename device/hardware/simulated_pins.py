"""gpiozero's mock pins, wired: a key joins its row to its column, and changes are reported."""

from collections.abc import Callable
from threading import Lock
from time import monotonic  # noqa: TID251 -- pulses are in real time
from typing import Final

from gpiozero.pins import Pin, PinInfo
from gpiozero.pins.mock import MockFactory, MockPWMPin

from device.hardware.keypad import LAYOUT
from device.hardware.settings import HardwareSettings, KeypadPins

PULSES_HZ: Final = 100.0
"""As gpiozero's."""

OnColour = Callable[[float, float, float], None]
OnTone = Callable[[float | None], None]


class KeyMatrix:
    """Which keys are down, and so which lines of the matrix are one wire."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._down: set[str] = set()
        self._looks = [0] * 4

    def press(self, key: str) -> None:
        with self._lock:
            self._down.add(key)

    def release(self, key: str) -> None:
        with self._lock:
            self._down.discard(key)

    def looks(self, key: str) -> int:
        """How often a key's column was read: whether the driver can have noticed a change."""
        return self._looks[next(row.index(key) for row in LAYOUT if key in row)]

    def rows_joined_to(self, column: int) -> frozenset[int]:
        """Every row that a column is joined to, also by way of other keys that are down."""
        self._looks[column] += 1  # one driver scans, so one thread counts
        if not self._down:
            return frozenset()
        with self._lock:
            joins = [
                (row, keys.index(key))
                for row, keys in enumerate(LAYOUT)
                for key in self._down
                if key in keys
            ]
        rows: set[int] = set()
        columns = {column}
        size = 0
        while size != len(rows) + len(columns):
            size = len(rows) + len(columns)
            rows |= {row for row, at in joins if at in columns}
            columns |= {at for row, at in joins if row in rows}
        return frozenset(rows)


class SimulatedPin(MockPWMPin):
    """A pin that tells its factory of changes, and follows the key matrix where it is a column."""

    def __init__(self, factory: "SimulatedFactory", info: PinInfo) -> None:
        self._wiring = factory
        super().__init__(factory, info)

    def _get_state(self) -> float:
        column = self._wiring.column_of(self)
        if column is not None and self.function == "input":
            return float(not self._wiring.is_pulled_low(column))
        return super()._get_state()

    def _change_state(self, value: float) -> bool:
        changed = super()._change_state(value)
        self._wiring.on_state(self)
        return changed

    def _set_function(self, value: str) -> None:
        super()._set_function(value)
        self._wiring.on_state(self)

    def _set_frequency(self, value: float | None) -> None:
        super()._set_frequency(value)
        self._wiring.on_state(self)


class SimulatedFactory(MockFactory):
    """The pins of one appliance."""

    def __init__(
        self, settings: HardwareSettings, matrix: KeyMatrix, on_colour: OnColour, on_tone: OnTone
    ) -> None:
        self._is_wired = False  # pins change while they are being made
        super().__init__(pin_class=SimulatedPin)
        keypad: KeypadPins = settings.keypad
        self._columns = {f"GPIO{number}": at for at, number in enumerate(keypad.columns)}
        self._rows: list[Pin] = [self.pin(number) for number in keypad.rows]
        lamp = settings.lamp
        self._lamp: list[Pin] = [self.pin(number) for number in (lamp.red, lamp.green, lamp.blue)]
        self._is_lit_low = lamp.common == "anode"
        self._blue_name = f"GPIO{lamp.blue}"
        self._buzzer_name = f"GPIO{settings.buzzer}"
        self._matrix = matrix
        self._on_colour = on_colour
        self._on_tone = on_tone
        self._colour = (0.0, 0.0, 0.0)
        self._tone: float | None = None
        self._is_wired = True

    def level(self, number: int) -> bool:
        """Whether a line is high now: of a dimmed one in its part of each pulse."""
        state = float(self.pin(number).state)
        return (monotonic() * PULSES_HZ) % 1.0 < state

    def column_of(self, pin: SimulatedPin) -> int | None:
        return self._columns.get(pin.info.name)

    def is_pulled_low(self, column: int) -> bool:
        return any(
            self._rows[row].function == "output" and not self._rows[row].state
            for row in self._matrix.rows_joined_to(column)
        )

    def on_state(self, pin: SimulatedPin) -> None:
        """Report a whole colour or tone: RGBLED writes red, green, blue, so blue completes one."""
        if not self._is_wired:
            return
        if pin.info.name == self._blue_name:
            red, green, blue = (self._brightness(lead) for lead in self._lamp)
            if self._colour != (red, green, blue):
                self._colour = (red, green, blue)
                self._on_colour(red, green, blue)
        elif pin.info.name == self._buzzer_name:
            tone = pin.frequency if pin.state else None
            if tone != self._tone:
                self._tone = tone
                self._on_tone(tone)

    def _brightness(self, lead: Pin) -> float:
        if not self._is_lit_low:
            return float(lead.state)
        # A pin that is let go is an input: no current flows through it to either side.
        return 1 - float(lead.state) if lead.function == "output" else 0.0
