"""Draws what `railtix-ops device watch` shows of a made-up fleet: the picture in the README.

python -m bench.fleet_picture docs/pictures/fleet-watch.svg
"""

import io
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from provisioning.cli.fleet_feed import Told
from provisioning.cli.fleet_watch import View, draw

WIDTH: Final = 80
HEIGHT: Final = 22
NOW: Final = datetime(2026, 6, 20, 21, 47, 8, tzinfo=UTC)
_STALLS: Final = ("bar-north", "bar-south", "grill", "coffee", "merch")


def fleet(count: int = 1000) -> list[dict[str, Any]]:
    """So many that are well, and one with each trouble that there is."""
    well = [_device(number) for number in range(1, count - 8)]
    return [
        *well,
        _device(992, problems=["quarantined"], status="quarantined"),
        _device(993, problems=["offline"], online=False, queue=2, sold_s=760),
        _device(994, problems=["offline", "money_waits"], online=False, queue=4, cents=3150),
        _device(995, problems=["silent"], seen_s=262),
        _device(996, problems=["money_waits"], queue=1, cents=1200),
        _device(997, problems=["clock"], clock="unset"),
        _device(998, problems=["certificate"], days=6),
        _device(999, problems=["printer"], printer="no paper"),
        _device(1000, problems=["policy", "hot"], acked=6, warmth=83),
    ]


def picture(width: int = WIDTH, height: int = HEIGHT) -> str:
    """As SVG."""
    before = fleet()
    after = [_sold(each) if number in {2, 5} else each for number, each in enumerate(before)]
    view = View().after(Told(before, NOW - timedelta(seconds=3))).after(Told(after, NOW))
    console = Console(
        record=True, width=width, height=height, force_terminal=True, file=io.StringIO()
    )
    console.print(draw(view, width, height))
    # A picture in a README loads nothing from elsewhere.
    loads_nothing = re.sub(r"@font-face {{.*?}}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    drawn = console.export_svg(
        title="railtix-ops device watch", code_format=loads_nothing, unique_id="fleet-watch"
    )
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def _device(
    number: int,
    *,
    problems: list[str] | None = None,
    status: str = "active",
    online: bool = True,
    queue: int = 0,
    cents: int = 0,
    sold_s: int | None = None,
    seen_s: int | None = None,
    clock: str = "cloud",
    days: int = 61,
    printer: str = "ok",
    acked: int = 7,
    warmth: int | None = None,
) -> dict[str, Any]:
    stall = _STALLS[number % len(_STALLS)]
    return {
        "device_id": f"{stall}-{number}",
        "status": status,
        "event_id": "harbour",
        "stall_id": stall,
        "problems": problems or [],
        "online": online,
        "policy_version": 7,
        "policy_acked": acked,
        "queue": queue,
        "queue_in_cents": cents,
        "currency": "EUR",
        "firmware": "1.5.0",
        "printer": printer,
        "clock": clock,
        "temperature_c": number % 17 + 41 if warmth is None else warmth,
        "last_sale_at": _ago(number * 7 % 400 if sold_s is None else sold_s),
        "last_seen_at": _ago(number % 15 if seen_s is None else seen_s),
        "certificate_expires_at": (NOW + timedelta(days=days, hours=5)).isoformat(),
        "uptime_s": 3600,
    }


def _sold(device: dict[str, Any]) -> dict[str, Any]:
    return device | {"queue": 1, "last_sale_at": _ago(1)}


def _ago(seconds: int) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
