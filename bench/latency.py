"""Frame to light: one real venue, one appliance, one attendee, and where the milliseconds went."""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.echo import Echo
from bench.machine import Machine, describe_machine
from bench.percentiles import percentiles
from bench.results import keep
from protocol.money import Money
from venue.attendee import Attendee
from venue.counter import Counter
from venue.lights import Light
from venue.servers import Postgres
from venue.stack import CURRENCY, Venue

STAGES: Final = ("decode", "frame", "sign", "wire", "cloud", "journal", "light")
"""In their order; `decode` begins when the frame is captured (device/timing.py)."""
_WARM_UP_SALES: Final = 3
_KEYS: Final = "100#"
_PRICE: Final = Money(100, CURRENCY)
_TOP_UP: Final = Money(5000, CURRENCY)
_RECORD: Final = b"j" * 4096
"""One page of a journal."""


class DatabaseKind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    database: DatabaseKind
    sales: int
    failed: int
    scan_to_light_ms: dict[str, float]
    """From the frame's capture to the green edge, as seen at the lamp's pins."""
    stages_ms: dict[str, dict[str, float]]
    """By the appliance's own account."""
    round_trip_ms: dict[str, float]
    """Of as many bytes over the same broker, with nothing done to them."""
    fsync_ms: dict[str, float]
    scan_to_light_to_round_trip_ratio: float
    wire_to_round_trip_ratio: float
    journal_to_fsync_ratio: float
    ledger_balanced: bool
    every_scan_to_light_ms: list[float]


def _sell(counter: Counter, attendee: Attendee) -> tuple[Light, float, Mapping[str, float]]:
    if attendee.balance(CURRENCY) < _PRICE:
        attendee.top_up(_TOP_UP)
    sale = counter.sell(_KEYS, attendee.fresh_qr().digits, paper=False)
    if sale.light is Light.REFRESH_QR:
        counter.abandon()
    return sale.light, sale.scan_to_light_ms, sale.ms


def _fsync_ms(folder: Path) -> float:
    """What the disk alone takes for a record of the journal's size."""
    with (folder / "fsync-probe").open("ab") as probe:
        probe.write(_RECORD)
        probe.flush()
        began_s = time.perf_counter()
        os.fdatasync(probe.fileno())
        return (time.perf_counter() - began_s) * 1000


def run(
    sales: Annotated[int, typer.Option(min=2, help="Approved sales to measure.")] = 100,
    database: Annotated[
        DatabaseKind, typer.Option(help="What the cloud keeps its books in.")
    ] = DatabaseKind.SQLITE,
) -> None:
    """Frame to light at one appliance, split by stage, beside a bare MQTT round trip."""
    console = Console(stderr=True)
    with ExitStack() as running:
        programs = None
        url = None
        with console.status("Starting a venue: authority, broker, cloud, appliance"):
            machine = describe_machine()
            if database is DatabaseKind.POSTGRESQL:
                postgres = running.enter_context(Postgres())
                programs, url = postgres.programs(), postgres.create_database("railtix")
            venue = running.enter_context(Venue(database=url))
            counter = venue.appliances[0].counter
            counter.sign_in(venue.badge)
            attendee = venue.attendee("bench@example.org")
            echo = Echo(venue.authority, venue.broker, ["cloud-worker-1"])
            running.callback(echo.close)
        for _ in range(_WARM_UP_SALES):
            _sell(counter, attendee)
            echo.round_trip_ms()
        scan_to_light: list[float] = []
        stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
        round_trips: list[float] = []
        fsyncs: list[float] = []
        failed = 0
        for _ in track(range(sales), "Selling", console=console):
            light, took_ms, ms = _sell(counter, attendee)
            if light is Light.APPROVED:
                scan_to_light.append(took_ms)
                for stage in STAGES:
                    stages[stage].append(ms[stage])
            else:
                failed += 1
            round_trips.append(echo.round_trip_ms())
            fsyncs.append(_fsync_ms(venue.folder))
        balanced = bool(venue.reconcile()["balanced"])
    figures = Figures(
        machine=msgspec.structs.replace(machine, postgresql=describe_machine(programs).postgresql),
        database=database,
        sales=len(scan_to_light),
        failed=failed,
        scan_to_light_ms=percentiles(scan_to_light),
        stages_ms={stage: percentiles(values) for stage, values in stages.items()},
        round_trip_ms=percentiles(round_trips),
        fsync_ms=percentiles(fsyncs),
        scan_to_light_to_round_trip_ratio=_ratio(scan_to_light, round_trips),
        wire_to_round_trip_ratio=_ratio(stages["wire"], round_trips),
        journal_to_fsync_ratio=_ratio(stages["journal"], fsyncs),
        ledger_balanced=balanced,
        every_scan_to_light_ms=scan_to_light,
    )
    file = keep("latency", figures)
    _show(figures)
    Console().print(f"Kept in {file}")
    raise typer.Exit(0 if failed == 0 and balanced else 1)


def _ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    return statistics.median(values) / statistics.median(reference)


def _show(figures: Figures) -> None:
    table = Table(title=f"Frame to light: {figures.sales} sales on {figures.database}")
    table.add_column("ms")
    for name in ("p50", "p95", "p99"):
        table.add_column(name, justify="right")
    rows = {
        **figures.stages_ms,
        "frame to light": figures.scan_to_light_ms,
        "bare round trip": figures.round_trip_ms,
        "bare fsync": figures.fsync_ms,
    }
    for name, values in rows.items():
        if name in {"frame to light", "bare round trip"}:
            table.add_section()
        table.add_row(name, *(f"{values[each]:.1f}" for each in ("p50", "p95", "p99")))
    console = Console()
    console.print(table)
    books = "balanced" if figures.ledger_balanced else "NOT BALANCED"
    console.print(
        f"scan_to_light_to_round_trip_ratio {figures.scan_to_light_to_round_trip_ratio:.1f}, "
        f"journal_to_fsync_ratio {figures.journal_to_fsync_ratio:.1f}, "
        f"failed {figures.failed}, ledger {books}"
    )


if __name__ == "__main__":
    typer.run(run)
