"""A million transactions as a file of each kind: how long, and in how much memory.

They are laid straight into the database. Each export is `railtix-cloud export` in a process of its
own; the most memory that it ever held is what the kernel says of it afterwards.
"""

import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from bench.machine import Machine, describe_machine
from bench.results import keep
from cloud.store.database import Database, migrate
from cloud.store.tables import credit_transactions, events, stalls, users
from venue.servers import Postgres

_MEMORY_MAX_IN_MB: Final = 200
_PEAK: Final = Path(__file__).with_name("peak.py")
_FORMATS: Final = ("csv", "jsonl", "xlsx")
_EVENT: Final = "bench-fair"
_STALLS: Final = 50
_WALLETS: Final = 1000
_BATCH: Final = 20_000
_BEGAN: Final = datetime(2026, 6, 20, 8, tzinfo=UTC)
_CONSOLE: Final = Console(stderr=True)


class Exported(msgspec.Struct, frozen=True):
    database: str
    format: str
    seconds: float
    transactions_per_s: float
    file_in_mb: float
    peak_memory_in_mb: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    transactions: int
    memory_max_in_mb: int
    exports: list[Exported]


def main(
    transactions: Annotated[int, typer.Option(min=1)] = 1_000_000,
    database: Annotated[
        str, typer.Option(help="sqlite, postgresql, or both with a comma.")
    ] = "sqlite,postgresql",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Export this many transactions in each format; exit 1 above 200 MB of memory."""
    machine, exports = describe_machine(), list[Exported]()
    for kind in database.split(","):
        with _database(kind) as (url, folder):
            _lay_out(url, transactions)
            exports += [_export(kind, url, folder, each, transactions) for each in _FORMATS]
    figures = Figures(
        machine=machine,
        transactions=transactions,
        memory_max_in_mb=_MEMORY_MAX_IN_MB,
        exports=exports,
    )
    kept = keep("export", figures)
    if as_json:
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    else:
        _show(figures, kept)
    if any(each.peak_memory_in_mb > _MEMORY_MAX_IN_MB for each in exports):
        raise typer.Exit(1)


@contextmanager
def _database(kind: str) -> Generator[tuple[str, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="railtix-bench-export-"))
    with ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        if kind == "postgresql":
            folder.chmod(0o755)  # PostgreSQL runs as a user of its own
            url = running.enter_context(Postgres(folder / "postgres")).create_database("railtix")
        else:
            url = f"sqlite:///{folder / 'cloud.sqlite'}"
        migrate(url)
        yield url, folder


def _lay_out(url: str, transactions: int) -> None:
    """Sales with two lines each, three a second, of wallets in turn."""
    database = Database(url)
    wallets = [uuid7() for _ in range(_WALLETS)]
    try:
        with database.transaction() as connection:
            connection.execute(
                insert(events).values(
                    event_id=_EVENT, name="Bench fair", currency="EUR", created_at=_BEGAN
                )
            )
            connection.execute(
                insert(stalls),
                [
                    {"event_id": _EVENT, "stall_id": f"stall-{number}", "name": f"Stall {number}"}
                    for number in range(_STALLS)
                ],
            )
            connection.execute(
                insert(users),
                [
                    {"user_id": each, "payer_id": secrets.token_urlsafe(9), "created_at": _BEGAN}
                    for each in wallets
                ],
            )
        for first in range(0, transactions, _BATCH):
            numbers = range(first, min(first + _BATCH, transactions))
            with database.transaction() as connection:
                connection.execute(
                    insert(credit_transactions),
                    [_sale(number, wallets[number % _WALLETS]) for number in numbers],
                )
            _CONSOLE.print(f"{database.dialect}: {numbers.stop:,} laid")
    finally:
        database.close()


def _sale(number: int, user_id: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "id": uuid7(),
        "type": "Deduct",
        "direction": "out",
        "amount_in_cents": 1150,
        "currency": "EUR",
        "reference": secrets.token_hex(4).upper(),
        "idempotency_key": secrets.token_urlsafe(16),
        "correlation_id": secrets.token_urlsafe(16),
        "created_at": _BEGAN + timedelta(milliseconds=333 * number),
        "created_by": "staff:mia",
        "event_id": _EVENT,
        "stall_id": f"stall-{number % _STALLS}",
        "device_id": f"till-{number % _STALLS}",
        "staff_id": "mia",
        "lines": [
            {"product": 1, "quantity": 2, "unit_price_in_cents": 350},
            {"product": 7, "quantity": 1, "unit_price_in_cents": 450},
        ],
    }


def _export(kind: str, url: str, folder: Path, form: str, transactions: int) -> Exported:
    out = folder / f"out.{form}"
    config = folder / "cloud.toml"
    config.write_text(f'state = "{folder / "state"}"\ndatabase = "{url.replace("+psycopg", "")}"\n')
    argv = [sys.executable, "-m", "cloud", "export", "--format", form, "--out", str(out)]
    peak, launcher = folder / "peak", [sys.executable, "-I", str(_PEAK)]
    began_s = time.perf_counter()
    ended = subprocess.run(
        [*launcher, str(peak), *argv, "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began_s
    if ended.returncode != 0 or not ended.stdout.startswith(f"{transactions} "):
        _CONSOLE.print(ended.stderr)
        raise typer.Exit(2)
    done = Exported(
        database=kind,
        format=form,
        seconds=round(seconds, 1),
        transactions_per_s=round(transactions / seconds),
        file_in_mb=round(out.stat().st_size / 1e6, 1),
        peak_memory_in_mb=round(int(peak.read_text("ascii")) * 1024 / 1e6, 1),
    )
    out.unlink()
    _CONSOLE.print(f"{kind}: {form} in {seconds:.0f} s, {done.peak_memory_in_mb:.0f} MB at most")
    return done


def _show(figures: Figures, kept: Path) -> None:
    table = Table(title=f"{figures.transactions:,} transactions")
    for name in ("", "format", "seconds", "a second", "file, MB", "peak memory, MB"):
        table.add_column(name, justify="left" if name in {"", "format"} else "right")
    for each in figures.exports:
        table.add_row(
            each.database,
            each.format,
            f"{each.seconds:.1f}",
            f"{each.transactions_per_s:,.0f}",
            f"{each.file_in_mb:,.1f}",
            f"{each.peak_memory_in_mb:.0f}",
        )
    Console().print(table)
    Console().print(f"Kept in {kept}.", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
