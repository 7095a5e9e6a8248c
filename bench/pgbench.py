"""pgbench beside the deducts: the same server, the same disk, a workload everybody knows."""

import re
import resource
from pathlib import Path
from typing import Final

import msgspec

from bench.cpu import read_cpu
from venue.programs import ProgramError, run_to_end
from venue.servers import LOOPBACK, Postgres

CLIENTS: Final = 8
THREADS: Final = 2
DATABASE: Final = "pgbench"
_TPS: Final = re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE)
_DONE: Final = re.compile(r"^number of transactions actually processed: ([0-9]+)", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: ([0-9]+) ", re.MULTILINE)


class Run(msgspec.Struct, frozen=True):
    transactions_per_s: float
    cpu_us_per_transaction: dict[str, float]
    """User and system time of the server and of pgbench itself."""


class Pgbench:
    """Its TPC-B-like script, as it comes: one account, one teller, one branch, one history row."""

    def __init__(self, postgres: Postgres, scale: int) -> None:
        """Fill a database of its own on the server."""
        postgres.create_database(DATABASE)
        self._server: Final = postgres
        self._program: Final[Path] = postgres.programs() / "pgbench"
        self._address: Final = ["-h", LOOPBACK, "-p", str(postgres.port), "-U", "railtix"]
        run_to_end([self._program, *self._address, "-i", "-q", "-s", str(scale), DATABASE])

    def run(self, seconds: int, *, skip_shared_rows: bool = False) -> Run:
        """`skip_shared_rows`: without tellers and branches, which many sessions queue for (`-N`).

        Raises ProgramError where a transaction failed.
        """
        server = {"postgres": [self._server.pid]}
        cpu_before, own_before = read_cpu(server), _children_s()
        output = run_to_end(
            [
                *(self._program, *self._address, "-c", str(CLIENTS), "-j", str(THREADS)),
                *("-T", str(seconds), *(["-N"] if skip_shared_rows else []), DATABASE),
            ],
            within_s=seconds + 60.0,
        )
        own_s, cpu = _children_s() - own_before, read_cpu(server).since(cpu_before)
        rate, done, failed = _TPS.search(output), _DONE.search(output), _FAILED.search(output)
        if rate is None or done is None or failed is None or failed[1] != "0":
            raise ProgramError(f"pgbench did not do its work:\n{output}")
        taken = {**cpu.seconds, "pgbench": own_s}
        return Run(
            transactions_per_s=float(rate[1]),
            cpu_us_per_transaction={name: s / int(done[1]) * 1e6 for name, s in taken.items()},
        )


def _children_s() -> float:
    """Processor time of the programs that we started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
