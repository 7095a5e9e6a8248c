"""The keypad: a 4x4 matrix scanned at 100 Hz, with debounce, long presses and no ghosts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from threading import Event, Thread
from time import monotonic  # noqa: TID251 -- the keypad is an edge: it times a long press
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from device.hardware.settings import KeypadPins

if TYPE_CHECKING:
    from gpiozero.pins import Factory

LAYOUT: Final = ("123A", "456B", "789C", "*0#D")
"""Row by row, as printed on the keypad."""

HOLDABLE: Final = frozenset("*D")
"""Keys that mean something else when held; they report at release or after HOLD_S."""

SCAN_INTERVAL_S: Final = 0.01
PRESS_SCANS: Final = 2
RELEASE_SCANS: Final = 3
HOLD_S: Final = 0.8

OnKey = Callable[[str, bool], None]
"""Called with a key of LAYOUT and whether it was held."""

_POSITION: Final = {
    key: (row, column) for row, keys in enumerate(LAYOUT) for column, key in enumerate(keys)
}

_log = structlog.get_logger(__name__)


class Keypad(Protocol):
    """Sixteen keys, reported through the callback it was made with."""

    def close(self) -> None: ...


def is_ghosted(down: frozenset[str]) -> bool:
    """Whether two rows share two columns: with four corners low, three keys or four are down."""
    columns: list[set[int]] = [set() for _ in LAYOUT]
    for key in down:
        row, column = _POSITION[key]
        columns[row].add(column)
    return any(len(one & other) >= 2 for one, other in combinations(columns, 2))


@dataclass
class _Key:
    scans: int = 0
    """How many scans in a row contradicted `down_since`."""
    down_since: float | None = None
    reported: bool = False


@dataclass
class KeyWatch:
    """Turns scans into key presses; no pins and no clock, so that every bounce can be tested."""

    _keys: dict[str, _Key] = field(default_factory=lambda: {key: _Key() for key in _POSITION})

    def see(self, down: frozenset[str], now: float) -> tuple[tuple[str, bool], ...]:
        """The presses that a scan completes, as (key, held)."""
        if is_ghosted(down):
            # One of the corners may be nobody's finger: believe none until it is clear again.
            return ()
        reports: list[tuple[str, bool]] = []
        for name, key in self._keys.items():
            is_down = name in down
            was_down = key.down_since is not None
            key.scans = key.scans + 1 if is_down != was_down else 0
            if key.down_since is None:
                if key.scans >= PRESS_SCANS:
                    key.scans, key.down_since, key.reported = 0, now, name not in HOLDABLE
                    if key.reported:
                        reports.append((name, False))
            elif key.scans >= RELEASE_SCANS:
                if not key.reported:
                    reports.append((name, False))
                key.scans, key.down_since = 0, None
            elif not key.reported and now - key.down_since >= HOLD_S:
                key.reported = True
                reports.append((name, True))
        return tuple(reports)


class MatrixKeypad:
    """The real keypad on GPIO pins: rows are pulled low in turn, columns are read."""

    def __init__(self, pins: KeypadPins, on_key: OnKey, pin_factory: "Factory") -> None:
        self._on_key = on_key
        self._rows = [pin_factory.pin(number) for number in pins.rows]
        self._columns = [pin_factory.pin(number) for number in pins.columns]
        for column in self._columns:
            column.input_with_pull("up")
        for row in self._rows:
            row.output_with_state(0)
        self._watch = KeyWatch()
        self._is_astray = False
        """Whether a scan failed halfway: a row that it left released would hear no key again."""
        self._closing = Event()
        self._thread = Thread(target=self._run, name="keypad", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        for row in self._rows:
            row.input_with_pull("up")

    def _run(self) -> None:
        # Edges get lost on a Pi (gpiozero #1090, #550), so the matrix is scanned.
        while not self._closing.wait(SCAN_INTERVAL_S):
            try:
                for key, held in self._watch.see(self._scan(), monotonic()):
                    self._on_key(key, held)
            except Exception:  # noqa: BLE001 -- a faulty scan must not take the keypad away
                self._is_astray = True
                _log.exception("keypad scan failed")

    def _scan(self) -> frozenset[str]:
        if self._is_astray:
            for row in self._rows:
                row.output_with_state(0)
            self._is_astray = False
        # Between presses all rows are low and one look at the columns says that no key is down.
        if all(column.state for column in self._columns):
            return frozenset()
        down: set[str] = set()
        for row in self._rows:
            # Released rows float high: two keys in one column never short two outputs.
            row.input_with_pull("up")
        for keys, row in zip(LAYOUT, self._rows, strict=True):
            row.output_with_state(0)
            down |= {
                key for key, column in zip(keys, self._columns, strict=True) if not column.state
            }
            row.input_with_pull("up")
        for row in self._rows:
            row.output_with_state(0)
        return frozenset(down)
