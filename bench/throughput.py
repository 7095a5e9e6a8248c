"""Deducts a second through real parts, beside pgbench on the same server in the same run.

Fifty appliances send signed requests over mutual-TLS MQTT; worker processes verify, deduct durably
in PostgreSQL and reply, signed. Requests are signed before a round, replies verified after it.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench.cpu import CpuReading, read_cpu
from bench.fair import AMOUNT, Fair, SignedSale, keys_in, lay_out, sign_sale, tidy
from bench.load import Crowd, Round
from bench.machine import Machine, describe_machine
from bench.percentiles import percentiles
from bench.pgbench import Pgbench, Run
from bench.results import RESULTS, keep
from cloud.keys import KeyRing
from cloud.store.database import Database, migrate
from protocol.messages import Approved, Declined, Reply, decode_reply
from protocol.signing import Profile, PublicKey, Verified, verify
from venue.programs import Program
from venue.servers import Authority, Broker, Postgres

_WARM_UP_SALES: Final = 40
"""Of each appliance, before anything is measured."""
_ROUND_SALES_MAX: Final = 1000
_CONSOLE: Final = Console(stderr=True)


class Flow(msgspec.Struct, frozen=True):
    """One round of deducts: every request of it was answered, or is counted as failed."""

    deducts: int
    failed: int
    seconds: float
    deducts_per_s: float
    round_trip_ms: dict[str, float]
    cloud_ms: dict[str, float]
    """From a request's arrival at the worker to its reply's signature, by the replies' own word."""
    cpu_us_per_deduct: dict[str, float]
    """User and system time of each program; `load` is this program's own, `others` whatever
    else the machine was busy with."""
    refusals: dict[str, int]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    appliances: int
    in_flight: int
    workers: int
    wallets: int
    deducts_per_s: float
    deducts_on_one_wallet_per_s: float
    pgbench_tps: float
    pgbench_without_shared_rows_tps: float
    deducts_to_pgbench_ratio: float
    deducts_to_pgbench_without_shared_rows_ratio: float
    one_wallet_to_spread_ratio: float
    failed: int
    ledger_balanced: bool
    cpu_us_per_deduct: dict[str, float]
    pgbench_cpu_us_per_transaction: dict[str, float]
    pgbench_to_deduct_cpu_ratio: float
    """What the rates' ratio comes to where both keep all cores busy; on a machine that others use
    too, the steadier of the two."""
    rounds: list[Flow]
    one_wallet_rounds: list[Flow]
    pgbench_rounds: list[Run]


class _Venue:
    """Broker, database, workers and a fair, all private to this run."""

    def __init__(
        self, folder: Path, running: ExitStack, appliances: int, workers: int, wallets: int
    ) -> None:
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        authority = Authority(folder / "authority")
        worker_names = [f"bench-{number + 1}" for number in range(workers)]
        worker_credentials = authority.certify_workers(*worker_names)
        names = [f"till-{number + 1}" for number in range(appliances)]
        credentials = authority.certify_devices(*names)
        server = authority.certify_server("broker")
        self.broker: Final = Broker(folder / "broker", authority.ca, server)
        running.enter_context(self.broker)
        self.postgres: Final = Postgres(folder / "postgres")
        running.enter_context(self.postgres)
        url = self.postgres.create_database("railtix")
        migrate(url)
        state = folder / "state"
        self.keys: Final[KeyRing] = keys_in(state)
        self.database: Final = Database(url)
        running.callback(self.database.close)
        self.fair: Final[Fair] = lay_out(self.database, self.keys, credentials, wallets)
        self.config: Final = folder / "cloud-bench-1.toml"
        self.workers: Final[list[Program]] = []
        for name, own in zip(worker_names, worker_credentials, strict=True):
            config = folder / f"cloud-{name}.toml"
            config.write_text(
                f'state = "{state}"\n'
                f'database = "{url.replace("+psycopg", "")}"\n'
                f'[broker]\nhost = "localhost"\nport = {self.broker.port}\n'
                f'certificate = "{own.certificate}"\nkey = "{own.key}"\nauthorities = "{own.ca}"\n'
            )
            ready = folder / f"{name}.ready"
            worker = Program(
                name,
                [
                    *(sys.executable, "-m", "cloud", "worker"),
                    *("--config", config, "--ready-file", ready),
                ],
                folder / f"{name}.log",
                ready=ready.exists,
            )
            self.workers.append(running.enter_context(worker))
        self._entries: Final = dict.fromkeys(range(appliances), 0)

    def sign(self, sales_each: int, *, on_one_wallet: bool) -> list[list[SignedSale]]:
        """Fresh sales for every appliance, on wallets taken in turn or all on one."""
        fair, number = self.fair, sum(self._entries.values())
        signed: list[list[SignedSale]] = []
        for index, appliance in enumerate(fair.appliances):
            own: list[SignedSale] = []
            for _ in range(sales_each):
                number += 1
                self._entries[index] += 1
                # A stride without a factor of the number of wallets visits each before any again.
                payer = fair.payers[number * 7919 % len(fair.payers)]
                own.append(
                    sign_sale(
                        fair,
                        appliance,
                        fair.rich_payer if on_one_wallet else payer,
                        self._entries[index],
                    )
                )
            signed.append(own)
        return signed

    def find_reply_key(self, kid: str) -> PublicKey | None:
        return self.keys.reply.private.public_key() if kid == self.keys.reply.kid else None

    def read_cpu(self) -> CpuReading:
        return read_cpu(
            {
                "worker": [worker.pid for worker in self.workers],
                "postgres": [self.postgres.pid],
                "mosquitto": [self.broker.pid],
            }
        )

    def is_balanced(self) -> bool:
        """`railtix-cloud reconcile`, as an operator would run it."""
        argv = [sys.executable, "-m", "cloud", "reconcile", "--config", str(self.config)]
        return subprocess.run(argv, check=False, stdout=subprocess.DEVNULL).returncode == 0

    def posted(self) -> int:
        with self.database.reading() as connection:
            found = connection.exec_driver_sql(
                "SELECT count(*) FROM credit_transactions WHERE type = 'Deduct'"
            )
            return int(found.scalar_one())


def _play(
    venue: _Venue, crowd: Crowd, sales_each: int, in_flight: int, *, on_one_wallet: bool = False
) -> Flow:
    sales = venue.sign(sales_each, on_one_wallet=on_one_wallet)
    cpu_before, own_before = venue.read_cpu(), time.process_time()
    played = crowd.play(sales, in_flight)
    own_s, cpu = time.process_time() - own_before, venue.read_cpu().since(cpu_before)
    return _judge(venue, sales, played, cpu, own_s)


def _judge(
    venue: _Venue, sales: list[list[SignedSale]], played: Round, cpu: CpuReading, own_s: float
) -> Flow:
    """Verify every reply and add up; whatever was not approved is a failure."""
    round_trips_ms: list[float] = []
    cloud_ms: list[float] = []
    refusals: dict[str, int] = {}
    for own, sent_s, replies in zip(sales, played.sent_s, played.replies, strict=True):
        waiting = {sale.key: (sale, at) for sale, at in zip(own, sent_s, strict=False)}
        for answered in replies:
            reply = _open_reply(venue, answered.reply)
            sale, at = waiting.pop(reply.key)
            assert reply.request_hash == sale.request_hash, "a reply to another request"
            match reply.outcome:
                case Approved(amount=amount) if amount == AMOUNT:
                    round_trips_ms.append((answered.arrived_s - at) * 1000)
                    cloud_ms.append(reply.cloud_us / 1000)
                case Declined(reason=reason):
                    refusals[reason.value] = refusals.get(reason.value, 0) + 1
                case other:
                    name = type(other).__name__
                    refusals[name] = refusals.get(name, 0) + 1
    asked, approved = sum(map(len, sales)), len(round_trips_ms)
    assert approved, f"not one deduct was approved: {refusals or 'no replies'}"
    seconds = played.ended_s - played.began_s
    taken = {**cpu.seconds, "load": own_s}
    taken["others"] = max(0.0, cpu.machine_busy - sum(taken.values()))
    return Flow(
        deducts=approved,
        failed=asked - approved,
        seconds=seconds,
        deducts_per_s=approved / seconds,
        round_trip_ms=percentiles(round_trips_ms),
        cloud_ms=percentiles(cloud_ms),
        cpu_us_per_deduct={name: s / approved * 1e6 for name, s in taken.items()},
        refusals=refusals,
    )


def _open_reply(venue: _Venue, token: bytes) -> Reply:
    verified = verify(Profile.REPLY, token, venue.find_reply_key)
    assert isinstance(verified, Verified), f"a reply that is not the cloud's: {verified}"
    reply = decode_reply(verified.payload)
    assert isinstance(reply, Reply), f"not a reply: {reply}"
    return reply


def run(  # noqa: PLR0917  # options: nobody passes them by position
    appliances: Annotated[int, typer.Option(min=1, help="How many sell at once.")] = 50,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    in_flight: Annotated[int, typer.Option(min=1, help="Unanswered requests an appliance.")] = 4,
    seconds: Annotated[int, typer.Option(min=1, help="Length of a round.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each kind, alternating.")] = 3,
    wallets: Annotated[int, typer.Option(min=2, help="Attendees who pay.")] = 10_000,
    scale: Annotated[int, typer.Option(min=1, help="pgbench's scale.")] = 10,
    profile: Annotated[
        bool, typer.Option(help="Record the first worker with py-spy (on PATH), one round long.")
    ] = False,
) -> None:
    """Deducts a second through mTLS MQTT and durable PostgreSQL, beside pgbench."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="railtix-bench-")))
        with _CONSOLE.status("Founding a venue: certificates, broker, database, workers"):
            machine = describe_machine()
            venue = _Venue(folder, running, appliances, workers, wallets)
            machine = msgspec.structs.replace(
                machine, postgresql=describe_machine(venue.postgres.programs()).postgresql
            )
            pgbench = Pgbench(venue.postgres, scale)
            crowd = Crowd(venue.fair.appliances, venue.broker.port)
            running.callback(crowd.close)
        spread: list[Flow] = []
        one_wallet: list[Flow] = []
        bank: list[Run] = []

        def say(what: str) -> None:
            _CONSOLE.log(what)

        _play(venue, crowd, _WARM_UP_SALES, in_flight)
        tidy(venue.database)
        rate = _play(venue, crowd, _WARM_UP_SALES, in_flight).deducts_per_s
        for number in range(rounds):
            sales_each = min(_ROUND_SALES_MAX, max(1, round(rate * seconds / appliances)))
            spread.append(
                _recorded(venue, crowd, sales_each, in_flight, seconds)
                if profile and number == 0
                else _play(venue, crowd, sales_each, in_flight)
            )
            rate = spread[-1].deducts_per_s
            say(f"round {number + 1}: {rate:,.0f} deducts/s, {_cpu_line(spread[-1])}")
            bank.append(pgbench.run(seconds))
            say(f"round {number + 1}: pgbench {bank[-1].transactions_per_s:,.0f} tps")
            sales_each = max(1, sales_each // 3)
            one_wallet.append(_play(venue, crowd, sales_each, in_flight, on_one_wallet=True))
            say(f"round {number + 1}: on one wallet {one_wallet[-1].deducts_per_s:,.0f} deducts/s")
        without_shared_rows = pgbench.run(seconds, skip_shared_rows=True).transactions_per_s
        approved = 2 * _WARM_UP_SALES * appliances + sum(f.deducts for f in (*spread, *one_wallet))
        assert venue.posted() == approved, "the ledger holds other deducts than were approved"
        deducts_per_s = statistics.median(flow.deducts_per_s for flow in spread)
        one_wallet_per_s = statistics.median(flow.deducts_per_s for flow in one_wallet)
        pgbench_tps = statistics.median(each.transactions_per_s for each in bank)
        cpu_us = _medians([flow.cpu_us_per_deduct for flow in spread])
        pgbench_cpu_us = _medians([each.cpu_us_per_transaction for each in bank])
        figures = Figures(
            machine=machine,
            appliances=appliances,
            in_flight=in_flight,
            workers=workers,
            wallets=wallets,
            deducts_per_s=deducts_per_s,
            deducts_on_one_wallet_per_s=one_wallet_per_s,
            pgbench_tps=pgbench_tps,
            pgbench_without_shared_rows_tps=without_shared_rows,
            deducts_to_pgbench_ratio=deducts_per_s / pgbench_tps,
            deducts_to_pgbench_without_shared_rows_ratio=deducts_per_s / without_shared_rows,
            one_wallet_to_spread_ratio=one_wallet_per_s / deducts_per_s,
            failed=sum(flow.failed for flow in (*spread, *one_wallet)),
            ledger_balanced=venue.is_balanced(),
            cpu_us_per_deduct=cpu_us,
            pgbench_cpu_us_per_transaction=pgbench_cpu_us,
            pgbench_to_deduct_cpu_ratio=sum(pgbench_cpu_us.values())
            / sum(us for name, us in cpu_us.items() if name != "others"),
            rounds=spread,
            one_wallet_rounds=one_wallet,
            pgbench_rounds=bank,
        )
    file = keep("throughput", figures)
    _show(figures)
    Console().print(f"Kept in {file}")
    raise typer.Exit(0 if figures.failed == 0 and figures.ledger_balanced else 1)


def _recorded(venue: _Venue, crowd: Crowd, sales_each: int, in_flight: int, seconds: int) -> Flow:
    """One round with py-spy looking on; it costs the worker a little."""
    assert shutil.which("py-spy"), "--profile needs py-spy on PATH"
    RESULTS.mkdir(exist_ok=True)
    recorder = subprocess.Popen(
        [
            *("py-spy", "record", "--pid", str(venue.workers[0].pid), "--format", "raw"),
            *("--rate", "200", "--duration", str(seconds), "--threads", "--nonblocking"),
            *("--output", str(RESULTS / "worker.profile")),
        ]
    )
    try:
        return _play(venue, crowd, sales_each, in_flight)
    finally:
        recorder.wait(timeout=60)


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _cpu_line(flow: Flow) -> str:
    return ", ".join(f"{name} {us:.0f} us" for name, us in flow.cpu_us_per_deduct.items())


def _show(figures: Figures) -> None:
    table = Table(title=f"Deducts beside pgbench ({figures.machine.cores} cores)")
    for heading in ("", "a second", "round trip p50 / p99", "failed"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rate, flows in (
        ("deducts, wallets in turn", figures.deducts_per_s, figures.rounds),
        (
            "deducts, all on one wallet",
            figures.deducts_on_one_wallet_per_s,
            figures.one_wallet_rounds,
        ),
    ):
        p50 = statistics.median(flow.round_trip_ms["p50"] for flow in flows)
        p99 = statistics.median(flow.round_trip_ms["p99"] for flow in flows)
        failed = sum(flow.failed for flow in flows)
        table.add_row(name, f"{rate:,.0f}", f"{p50:.1f} / {p99:.1f} ms", str(failed))
    table.add_row("pgbench, TPC-B-like, 8 clients", f"{figures.pgbench_tps:,.0f}", "", "0")
    table.add_row("pgbench -N", f"{figures.pgbench_without_shared_rows_tps:,.0f}", "", "0")
    costs = Table(title="Processor time, us")
    for heading in ("", "a deduct", "a pgbench transaction"):
        costs.add_column(heading, justify="left" if not heading else "right")
    banks = figures.pgbench_cpu_us_per_transaction
    for name in (*figures.cpu_us_per_deduct, "pgbench"):
        pair = (figures.cpu_us_per_deduct.get(name), banks.get(name))
        costs.add_row(name, *("" if us is None else f"{us:.0f}" for us in pair))
    console = Console()
    console.print(table, costs)
    console.print(
        f"deducts_to_pgbench_ratio {figures.deducts_to_pgbench_ratio:.2f}, "
        f"pgbench_to_deduct_cpu_ratio {figures.pgbench_to_deduct_cpu_ratio:.2f}, "
        f"one_wallet_to_spread_ratio {figures.one_wallet_to_spread_ratio:.2f}, "
        f"ledger {'balanced' if figures.ledger_balanced else 'NOT BALANCED'}"
    )


if __name__ == "__main__":
    typer.run(run)
