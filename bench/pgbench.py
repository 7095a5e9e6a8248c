"""pgbench beside the deducts: the same server, the same disk, a workload everybody knows."""

import re
from pathlib import Path
from typing import Final

from venue.programs import ProgramError, run_to_end
from venue.servers import LOOPBACK, Postgres

CLIENTS: Final = 8
THREADS: Final = 2
DATABASE: Final = "pgbench"
_TPS: Final = re.compile(r"^tps = ([0-9.]+) ", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: ([0-9]+) ", re.MULTILINE)


class Pgbench:
    """Its TPC-B-like script, as it comes: one account, one teller, one branch, one history row."""

    def __init__(self, postgres: Postgres, scale: int) -> None:
        """Fill a database of its own on the server."""
        postgres.create_database(DATABASE)
        self._program: Final[Path] = postgres.programs() / "pgbench"
        self._address: Final = ["-h", LOOPBACK, "-p", str(postgres.port), "-U", "railtix"]
        run_to_end([self._program, *self._address, "-i", "-q", "-s", str(scale), DATABASE])

    def run(self, seconds: int, *, skip_shared_rows: bool = False) -> float:
        """Transactions a second. Raises ProgramError where one failed.

        `skip_shared_rows`: without tellers and branches, which many sessions queue for (`-N`).
        """
        output = run_to_end(
            [
                *(self._program, *self._address, "-c", str(CLIENTS), "-j", str(THREADS)),
                *("-T", str(seconds), *(["-N"] if skip_shared_rows else []), DATABASE),
            ],
            within_s=seconds + 60.0,
        )
        rate, failed = _TPS.search(output), _FAILED.search(output)
        if rate is None or failed is None or failed[1] != "0":
            raise ProgramError(f"pgbench did not do its work:\n{output}")
        return float(rate[1])
