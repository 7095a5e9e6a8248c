"""What machine a figure was measured on, and what else it was doing at the time."""

import os
import platform
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_VERIFICATIONS: Final = 2000


class Machine(msgspec.Struct, frozen=True):
    processor: str
    cores: int
    memory_in_mib: int
    kernel: str
    load_1_min: float
    """Before the benchmark began: near 0 on an idle machine."""
    es256_verify_us: float
    """One signature's verification: how fast this core is now, neighbours included."""
    python: str
    openssl: str
    mosquitto: str
    postgresql: str


def describe_machine(postgres_programs: Path | None = None) -> Machine:
    """This machine, now; `postgres_programs` is the folder of the server that is measured."""
    return Machine(
        processor=_field(Path("/proc/cpuinfo"), "model name"),
        cores=len(os.sched_getaffinity(0)),
        memory_in_mib=int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        kernel=platform.release(),
        load_1_min=round(os.getloadavg()[0], 2),
        es256_verify_us=round(_es256_verify_us(), 1),
        python=sys.version.split()[0],
        openssl=ssl.OPENSSL_VERSION,
        mosquitto=_first_line("mosquitto", "-h"),
        postgresql="" if postgres_programs is None else _postgresql(postgres_programs),
    )


def _es256_verify_us() -> float:
    key, kind = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    signature, public_key = key.sign(b"", kind), key.public_key()
    began_s = time.perf_counter()
    for _ in range(_VERIFICATIONS):
        public_key.verify(signature, b"", kind)
    return (time.perf_counter() - began_s) / _VERIFICATIONS * 1e6


def _field(file: Path, name: str) -> str:
    for line in file.read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _postgresql(programs: Path) -> str:
    return _first_line(str(programs / "postgres"), "--version")


def _first_line(*argv: str) -> str:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    try:
        ended = subprocess.run(
            argv, capture_output=True, check=False, timeout=10, env={**os.environ, "PATH": path}
        )
    except OSError:
        return "unknown"
    return next(iter(ended.stdout.decode().splitlines()), "unknown")
