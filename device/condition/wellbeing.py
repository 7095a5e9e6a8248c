"""How the appliance is, as its heartbeat tells the cloud: read from memory, never waited for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from device.till.standing import Standing
from device.till.states import Till
from protocol.messages import ClockTrust

SENSORS: Final = Path("/sys/class/thermal")
"""The kernel's: a folder a sensor, in it `temp` in thousandths of a degree Celsius."""
FEEL_EVERY_S: Final = 10.0
FELT_FOR_S: Final = 300.0
"""A till that was busy for longer than this does not know how warm it is."""
_MILLI_MIN: Final = -40_000
_MILLI_MAX: Final = 150_000
"""What a sensor says beyond these it does not measure: an unplugged one says -273 or 0x7FFF."""


@dataclass(frozen=True)
class Wellbeing:
    """The part of a heartbeat that decides nothing; see `protocol.requests.Heartbeat`."""

    clock: ClockTrust
    uptime_s: int
    queue_in_cents: int
    temperature_c: int | None = None
    last_sale_ms: int | None = None


def wellbeing(
    till: Till, standing: Standing, temperature_c: int | None, uptime_s: float
) -> Wellbeing:
    last = standing.last_sale
    return Wellbeing(
        clock=clock_trust(till),
        uptime_s=max(0, int(uptime_s)),
        queue_in_cents=sum(each.amount.amount_in_cents for each in standing.unsynced),
        temperature_c=temperature_c,
        last_sale_ms=None if last is None else last.at_ms,
    )


def clock_trust(till: Till) -> ClockTrust:
    if till.anchor is None:
        return "unset"
    return "cloud" if till.anchor.is_signed else "network"


def hottest_c(sensors: Path = SENSORS) -> int | None:
    """The hottest of the machine's sensors; None where it has none that can be read."""
    said = [milli for path in sorted(sensors.glob("*/temp")) for milli in _read(path)]
    return None if not said else round(max(said) / 1000)


def _read(path: Path) -> tuple[int, ...]:
    try:
        milli = int(path.read_bytes()[:16])
    except (OSError, ValueError):
        # A sensor that is switched off answers EAGAIN or ENODATA.
        return ()
    return (milli,) if _MILLI_MIN <= milli <= _MILLI_MAX else ()


@dataclass
class Thermometer:
    """Read only while nobody waits; in between it says what it felt last."""

    read: Callable[[], int | None] = hottest_c
    _felt_c: int | None = field(default=None, init=False)
    _felt_at: float | None = field(default=None, init=False)

    def feel(self, now_s: float) -> None:
        if self._felt_at is None or now_s - self._felt_at >= FEEL_EVERY_S:
            self._felt_c, self._felt_at = self.read(), now_s

    def says(self, now_s: float) -> int | None:
        if self._felt_at is None or now_s - self._felt_at > FELT_FOR_S:
            return None
        return self._felt_c
