"""RAUC by its command line: the slots' state, a bundle's manifest, an installation."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, Timer
from typing import Final

import msgspec

from device.updating.slots import Failure

STATUS_S: Final = 30.0
INFO_S: Final = 120.0
INSTALL_S: Final = 30 * 60.0
"""A slow card takes some minutes."""
OUTPUT_MAX: Final = 64 * 1024
DETAIL_MAX: Final = 300

_PERCENT: Final = re.compile(r"^\s*(\d{1,3})%")
_LAST_ERROR: Final = re.compile(r"LastError: (.+)")
_SIGNS: Final = (
    # In this order: RAUC's sentences nest, and some of their words stand in several.
    (Failure.COMPATIBLE, ("compatible mismatch",)),
    (Failure.SPACE, ("no space left", "disk quota")),
    (Failure.CLOCK, ("not yet valid",)),
    # A bit that a card turned is the signature's failure too, and no stranger's: fetched anew.
    (Failure.CORRUPTED, ("invalid bundle format", "cms routines::verification failure")),
    (
        Failure.SIGNATURE,
        ("signature", "verify error", "verification error", "certificate", "no such signer"),
    ),
    (
        Failure.CORRUPTED,
        (
            *("input/output error", "verity", "squashfs", "checksum", "hash", "digest"),
            *("does not match", "invalid manifest", "truncated", "corrupt", "broken"),
        ),
    ),
)
"""As RAUC 1.13 words it: read from what it said to bundles that were signed by another key, bent
in signature or content, cut short, and no bundles at all."""


class _Bundle(msgspec.Struct, frozen=True):
    version: str | None = None


class _SlotStatus(msgspec.Struct, frozen=True):
    bundle: _Bundle | None = None
    status: str | None = None


class _Slot(msgspec.Struct, frozen=True):
    bootname: str | None = None
    state: str | None = None
    slot_status: _SlotStatus | None = None


class _Status(msgspec.Struct, frozen=True):
    compatible: str | None = None
    boot_primary: str | None = None
    slots: tuple[dict[str, _Slot], ...] = ()


class _Info(msgspec.Struct, frozen=True):
    compatible: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Fault:
    """It did not do it: why, and its own words."""

    failure: Failure
    detail: str


@dataclass(frozen=True)
class State:
    """What `rauc status` says of the two slots, by their boot names."""

    compatible: str
    booted: str
    primary: str
    other_version: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself, once its signature was found good."""

    compatible: str
    version: str


class Rauc:
    """Each call waits for the program; none outlives its deadline."""

    def __init__(self, command: Sequence[str] = ("rauc",)) -> None:
        self._command = tuple(command)

    def state(self) -> State | Fault:
        said = self._run(("status", "--detailed", "--output-format=json"), STATUS_S)
        if isinstance(said, Fault):
            return said
        try:
            return _state(msgspec.json.decode(said, type=_Status))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Fault(Failure.OTHER, f"its status cannot be read: {error}")

    def manifest(self, bundle: Path) -> Manifest | Fault:
        """Raises nothing; a Fault where nobody signed it whom this image believes."""
        said = self._run(("info", "--output-format=json", str(bundle)), INFO_S)
        if isinstance(said, Fault):
            return said
        try:
            info = msgspec.json.decode(said, type=_Info)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Fault(Failure.OTHER, f"its account of the bundle cannot be read: {error}")
        return Manifest(info.compatible or "", info.version or "")

    def install(
        self, bundle: Path, on_percent: Callable[[int], None], deadline_s: float = INSTALL_S
    ) -> Fault | None:
        """Write it to the other slot, and have the next start try that one."""

        def hear(line: str) -> None:
            found = _PERCENT.match(line)
            if found is not None:
                on_percent(min(100, int(found[1])))

        said = self._run(("install", str(bundle)), deadline_s, hear)
        return said if isinstance(said, Fault) else None

    def mark_good(self) -> Fault | None:
        said = self._run(("status", "mark-good", "booted"), INFO_S)
        return said if isinstance(said, Fault) else None

    def stay(self) -> Fault | None:
        said = self._run(("status", "mark-active", "booted"), INFO_S)
        return said if isinstance(said, Fault) else None

    def _run(
        self,
        arguments: Sequence[str],
        deadline_s: float,
        hear: Callable[[str], None] = lambda _: None,
    ) -> bytes | Fault:
        """What it says on stdout, or why it failed."""
        try:
            process = subprocess.Popen(  # noqa: S603 -- a fixed program, and our own arguments
                (*self._command, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            return Fault(Failure.OTHER, f"rauc did not start: {error.strerror}")
        with process:
            return _hear_out(process, deadline_s, hear)


def _hear_out(
    process: "subprocess.Popen[bytes]", deadline_s: float, hear: Callable[[str], None]
) -> bytes | Fault:
    late: list[bool] = []

    def cut() -> None:
        late.append(True)
        _end(process)

    timer = Timer(deadline_s, cut)
    timer.daemon = True
    errors = bytearray()
    told = bytearray()
    assert process.stdout is not None, "it has a pipe"
    assert process.stderr is not None, "it has a pipe"
    stderr = process.stderr

    def read_errors() -> None:
        for line in stderr:
            if len(errors) < OUTPUT_MAX:
                errors.extend(line)

    reader = Thread(target=read_errors, name="rauc-errors", daemon=True)
    reader.start()
    timer.start()
    try:
        for line in process.stdout:
            if len(told) < OUTPUT_MAX:
                told.extend(line)
            hear(line.decode("utf-8", "replace"))
        process.wait()
        reader.join()
    finally:
        timer.cancel()
        _end(process)
    if late:
        return Fault(Failure.TIMED_OUT, f"rauc did not end within {deadline_s:g} s")
    if process.returncode:
        return _fault(bytes(told) + b"\n" + bytes(errors), process.returncode)
    return bytes(told)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """It, and whatever it started."""
    if process.poll() is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _fault(said: bytes, code: int) -> Fault:
    text = said.decode("utf-8", "replace")
    named = _LAST_ERROR.findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    detail = named[-1] if named else (lines[-1] if lines else f"exit code {code}")
    if code < 0:
        return Fault(Failure.OTHER, f"rauc was ended by {signal.Signals(-code).name}")
    lowered = (detail if named else text).lower()
    for failure, signs in _SIGNS:
        if any(sign in lowered for sign in signs):
            return Fault(failure, detail[:DETAIL_MAX])
    return Fault(Failure.OTHER, detail[:DETAIL_MAX])


def _state(status: _Status) -> State:
    slots = {name: slot for each in status.slots for name, slot in each.items()}
    # `booted` is what the kernel's command line says, a boot name or a device.
    running = next((each for each in slots.values() if each.state == "booted"), None)
    booted = (running.bootname or "") if running is not None else ""
    primary = slots.get(status.boot_primary or "")
    other = next(
        (each for each in slots.values() if each.bootname and each.bootname != booted), None
    )
    version = ""
    if other is not None and other.slot_status is not None:
        bundle = other.slot_status.bundle
        if bundle is not None and other.slot_status.status == "ok":
            version = bundle.version or ""
    return State(
        compatible=status.compatible or "",
        booted=booted,
        primary="" if primary is None else primary.bootname or "",
        other_version=version,
    )
