"""A thousand appliances at once: connect, beat, get a policy, and come back to a broker that fell.

Each has its own certificate and its own TLS connection, from a few processes; broker, database and
worker are the real ones. What a heartbeat costs the worker is told in verifications of a signature,
which the same run measures: that ratio is steadier than any machine.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
import typer
from rich.console import Console
from sqlalchemy import select, update

from bench.cpu import CpuReading, read_cpu
from bench.fair import EVENT, keys_in, lay_out
from bench.machine import Machine, describe_machine
from bench.results import keep
from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import assigned_devices, issue_policies
from cloud.store.database import Database, migrate
from cloud.store.locks import lock_devices, lock_event
from cloud.store.presence import read_presence
from cloud.store.tables import devices, products
from protocol.ids import DeviceId
from venue.programs import Program
from venue.servers import Authority, Broker, Postgres

WAIT_S: Final = 300.0
DESCRIPTORS_BESIDE: Final = 512
_CONSOLE: Final = Console(stderr=True)


class Kind(StrEnum):
    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


class Stage(msgspec.Struct, frozen=True):
    """What one part of the run took; processor time of each program and of the crowd."""

    seconds: float
    cpu_s: dict[str, float]
    memory_in_mib: dict[str, float]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    database: str
    appliances: int
    crowd_processes: int
    connect: Stage
    """From the first connection until each is subscribed and was answered once."""
    beating: Stage
    heartbeats: int
    round_trip_ms: list[dict[str, float]]
    worker_us_per_heartbeat: float
    broker_us_per_heartbeat: float
    heartbeat_in_verifications: float
    """Of the worker's processor time: one ES256 signature verified on this machine is one."""
    issue_s: float
    """A price changed, and a policy for each signed and stored: one transaction."""
    policy: Stage
    """From that commit until each had said in a signed heartbeat that it has the policy."""
    presence_s: float
    """How much longer until the database had each of them online."""
    restart: Stage | None = None
    """From a broker that was killed and started again until each was there and answered."""
    refused: int
    """Connections and requests that failed, outside a restart."""


class _Crowd:
    """A process with its part of the fleet."""

    def __init__(self, folders: Sequence[Path], port: int, folder: Path) -> None:
        named = folder / f"crowd-{folders[0].name}.txt"
        named.write_text("\n".join(map(str, folders)), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.fleet_crowd", str(port), str(named)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def report(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, "the crowd has ended"
        return json.loads(said)


class _Fleet:
    """Broker, database, worker and the crowd, all private to this run."""

    def __init__(
        self, folder: Path, running: ExitStack, appliances: int, processes: int, kind: Kind
    ) -> None:
        authority = Authority(folder / "authority")
        (worker,) = authority.certify_workers("bench-1")
        server = authority.certify_server("broker")
        names = [f"till-{number + 1}" for number in range(appliances)]
        _say(f"issuing {appliances} certificates")
        credentials = authority.certify_devices(*names)
        self.broker: Final = running.enter_context(Broker(folder / "broker", authority.ca, server))
        self.postgres: Postgres | None = None
        url = f"sqlite:///{folder / 'cloud.sqlite'}"
        if kind is Kind.POSTGRESQL:
            self.postgres = running.enter_context(Postgres())
            url = self.postgres.create_database("railtix")
        migrate(url)
        state = folder / "state"
        self.keys: Final[KeyRing] = keys_in(state)
        self.database: Final = Database(url)
        running.callback(self.database.close)
        _say("entering them")
        lay_out(self.database, self.keys, credentials, 1)
        config, ready = folder / "cloud.toml", folder / "worker.ready"
        config.write_text(
            f'state = "{state}"\n'
            f'database = "{url.replace("+psycopg", "")}"\n'
            f'[broker]\nhost = "localhost"\nport = {self.broker.port}\n'
            f'certificate = "{worker.certificate}"\nkey = "{worker.key}"\n'
            f'authorities = "{worker.ca}"\n'
        )
        argv = [sys.executable, "-m", "cloud", "worker", "--config", str(config)]
        self.worker: Final = running.enter_context(
            Program(
                "worker",
                [*argv, "--ready-file", str(ready)],
                folder / "worker.log",
                ready=ready.exists,
            )
        )
        self.appliances: Final = appliances
        self._shares = [
            [each.folder for each in credentials[start::processes]] for start in range(processes)
        ]
        self._folder = folder
        self._running = running
        self.crowds: list[_Crowd] = []

    def let_them_come(self) -> None:
        self.crowds = [
            self._running.enter_context(_Crowd(share, self.broker.port, self._folder))
            for share in self._shares
        ]

    def reports(self) -> list[dict[str, Any]]:
        return [each.report() for each in self.crowds]

    def programs(self) -> dict[str, list[int]]:
        programs = {"worker": [self.worker.pid], "mosquitto": [self.broker.pid]}
        if self.postgres is not None:
            programs["postgres"] = [self.postgres.pid]
        return programs | {"crowd": [each.pid for each in self.crowds]}

    def stage(self, work: Callable[[], float]) -> Stage:
        """`work` returns the seconds it took."""
        before = self._read_cpu()
        seconds = work()
        cpu = self._read_cpu().since(before)
        memory = {
            name: sum(map(_memory_in_mib, pids))
            for name, pids in self.programs().items()
            if name in {"worker", "mosquitto"}
        }
        return Stage(round(seconds, 2), _rounded(cpu.seconds), _rounded(memory))

    def await_all(self, is_so: Callable[[Mapping[str, Any]], int], what: str) -> float:
        """Until `is_so` counts every appliance over all reports; the seconds it took."""
        began = time.perf_counter()
        while (count := sum(is_so(each) for each in self.reports())) < self.appliances:
            waited = time.perf_counter() - began
            assert waited < WAIT_S, f"{count} of {self.appliances} {what} after {waited:.0f} s"
            time.sleep(0.05)
        return time.perf_counter() - began

    def online(self) -> int:
        with self.database.reading() as connection:
            return sum(read_presence(connection).values())

    def acknowledged(self) -> int:
        """How many have their newest policy; a worker may have renewed one meanwhile."""
        with self.database.reading() as connection:
            found = select(devices.c.device_id).where(
                devices.c.policy_acked == devices.c.policy_version
            )
            return len(connection.execute(found).all())

    def change_price(self) -> float:
        """As `railtix-ops event apply` does it: a price, and a policy for each in one go."""
        began = time.perf_counter()
        with self.database.transaction() as connection:
            lock_event(connection, EVENT)
            lock_devices(connection, assigned_devices(connection, EVENT))
            connection.execute(
                update(products)
                .where(products.c.event_id == EVENT, products.c.number == 1)
                .values(price_in_cents=products.c.price_in_cents + 10)
            )
            issued: dict[DeviceId, int] = issue_policies(connection, self.keys, EVENT, _now())
        assert len(issued) == self.appliances
        return time.perf_counter() - began

    def _read_cpu(self) -> CpuReading:
        return read_cpu(self.programs())


def measure(
    folder: Path,
    *,
    appliances: int,
    processes: int,
    seconds: float,
    kind: Kind,
    restart_broker: bool,
) -> Figures:
    """Raises AssertionError where an appliance never came, or never got its policy."""
    _allow_descriptors(appliances)
    with ExitStack() as running:
        fleet = _Fleet(folder, running, appliances, processes, kind)
        machine = describe_machine(None if fleet.postgres is None else fleet.postgres.programs())
        _say("they come")
        fleet.let_them_come()
        connect = fleet.stage(
            lambda: fleet.await_all(lambda told: _acknowledged(told, 1), "answered")
        )
        online_s = _await(lambda: fleet.online() >= appliances, "online")
        _say(f"all there after {connect.seconds} s; they beat for {seconds:.0f} s")
        before = _sum(fleet.reports(), "answers")
        beating = fleet.stage(lambda: _sleep(seconds))
        reports = fleet.reports()
        heartbeats = _sum(reports, "answers") - before
        _say(f"{heartbeats} heartbeats; a price changes")
        issue_s = fleet.change_price()
        policy = fleet.stage(
            lambda: _await(lambda: fleet.acknowledged() >= appliances, "with their policy")
        )
        refused = _sum(fleet.reports(), "refused") + _sum(fleet.reports(), "lost")
        restart = _restart(fleet) if restart_broker else None
    worker_us = beating.cpu_s["worker"] / max(1, heartbeats) * 1e6
    return Figures(
        machine=machine,
        database=kind.value,
        appliances=appliances,
        crowd_processes=processes,
        connect=connect,
        beating=beating,
        heartbeats=heartbeats,
        round_trip_ms=[each["round_trip_ms"] for each in reports],
        worker_us_per_heartbeat=round(worker_us, 1),
        broker_us_per_heartbeat=round(beating.cpu_s["mosquitto"] / max(1, heartbeats) * 1e6, 1),
        heartbeat_in_verifications=round(worker_us / machine.es256_verify_us, 2),
        issue_s=round(issue_s, 2),
        policy=policy,
        presence_s=round(online_s, 2),
        restart=restart,
        refused=refused,
    )


def _restart(fleet: _Fleet) -> Stage:
    _say("the broker falls")
    answers = [each["answers"] for each in fleet.reports()]
    fleet.broker.kill()
    _await(lambda: not _sum(fleet.reports(), "connected"), "gone")
    fleet.broker.start()

    def come_back() -> float:
        took = fleet.await_all(lambda told: int(told["connected"]), "back")
        began = time.perf_counter()
        _await(
            lambda: all(
                told["answers"] > before
                for told, before in zip(fleet.reports(), answers, strict=True)
            ),
            "answered",
        )
        return took + time.perf_counter() - began

    return fleet.stage(come_back)


def _await(is_so: Callable[[], bool], what: str) -> float:
    began = time.perf_counter()
    while not is_so():
        assert time.perf_counter() - began < WAIT_S, f"not all {what} after {WAIT_S:.0f} s"
        time.sleep(0.05)
    return time.perf_counter() - began


def _acknowledged(told: Mapping[str, Any], version: int) -> int:
    counts: Mapping[str, int] = told["acknowledged"]
    return sum(count for each, count in counts.items() if int(each) >= version)


def _sum(reports: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(each[name]) for each in reports)


def _sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def _memory_in_mib(pid: int) -> float:
    """Resident, of one process."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        name, _, said = line.partition(":")
        if name == "VmRSS":
            return int(said.split()[0]) / 1024
    return 0.0


def _allow_descriptors(appliances: int) -> None:
    """A connection is a file, here and at the broker; what we start inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * appliances + DESCRIPTORS_BESIDE
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"ulimit -Hn allows only {hard} files"
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


def _say(what: str) -> None:
    _CONSOLE.print(f"[dim]{what}[/]")


def main(
    appliances: Annotated[int, typer.Option(min=1, max=10_000)] = 1000,
    processes: Annotated[int, typer.Option(min=1, max=16)] = 3,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long they only beat.")] = 60.0,
    database: Annotated[Kind, typer.Option()] = Kind.POSTGRESQL,
    restart_broker: Annotated[
        bool, typer.Option("--restart-broker", help="Then kill the broker, and await them all.")
    ] = False,
) -> None:
    """Measure, print and keep the figures."""
    with tempfile.TemporaryDirectory(prefix="railtix-bench-fleet-") as folder:
        figures = measure(
            Path(folder),
            appliances=appliances,
            processes=processes,
            seconds=seconds,
            kind=database,
            restart_broker=restart_broker,
        )
    Console().print_json(msgspec.json.encode(figures).decode())
    _say(f"kept as {keep('fleet', figures)}")


if __name__ == "__main__":
    typer.run(main)
