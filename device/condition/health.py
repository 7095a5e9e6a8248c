"""The running appliance's own account of itself: a small file for whoever asks how it is.

It is never flushed, since nothing depends on it, and is written only while nobody waits.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import structs

from device.till.contents import kind_of
from device.till.states import JournalBroken, Till

FILE: Final = "health.json"
PAUSE_S: Final = 2.0
"""However much changes, no more often."""
AT_LEAST_S: Final = 15.0
STALE_S: Final = 150.0
"""A till that asks for a QR, or shows one light after the other, writes none meanwhile."""

_log = structlog.get_logger(__name__)
_ENCODER: Final = msgspec.json.Encoder()


class ScannerHealth(msgspec.Struct, frozen=True, kw_only=True):
    frames: int = 0
    restarts: int = 0
    last_frame_at_s: float | None = None
    """Monotonic."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All with defaults: an older or newer program's file is read as far as it goes."""

    pid: int = 0
    firmware: str = ""
    at_s: float = 0.0
    """Monotonic seconds: since this machine started, whatever its clock says."""
    at_ms: int = 0
    link_is_up: bool = False
    is_answering: bool = False
    heard_at_ms: int | None = None
    """The last signed answer, or when the link came up."""
    link_trouble: str = ""
    renewal: str = ""
    """Why the certificate was not renewed when it was tried last."""
    refusal: str = ""
    """Why the cloud refuses this appliance, by its own signed answer."""
    waiting: dict[str, int] = {}
    """Messages that wait for their signed answer, by kind."""
    is_journal_open: bool = True
    printer: str = ""
    slips_waiting: int = 0
    scanner: ScannerHealth | None = None
    enrolling: str = ""
    """While the appliance is nobody: what it waits for, or what was wrong last."""
    image: str = ""
    """Its version; empty where this is none of our images."""
    update: str = ""
    """What is done about the next one."""
    clock: str = ""
    """"signed", "set" by this machine, or "not trusted"."""


_DECODER: Final = msgspec.json.Decoder(Health)


@dataclass(frozen=True)
class Sources:
    """What the till does not know of."""

    firmware: str
    link_trouble: Callable[[], str]
    scanner: Callable[[], ScannerHealth | None]
    renewal: Callable[[], str] = lambda: ""
    image: str = ""
    update: Callable[[], str] = lambda: ""


class HealthFile:
    """Replaced whole, so that nobody reads half of one."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        self._path = folder / FILE
        self._sources = sources
        self._said: Health | None = None

    def tell(self, till: Till, refusal: str, now_s: float, wall_ms: int) -> None:
        """Write it, if it is time to."""
        said = self._said
        if said is None or now_s - said.at_s >= PAUSE_S:
            self._tell(self._health_of(till, refusal, now_s, wall_ms))

    def tell_enrolling(self, what: str, now_s: float, wall_ms: int) -> None:
        """The same of an appliance that is nobody yet."""
        self._tell(
            Health(
                pid=os.getpid(),
                firmware=self._sources.firmware,
                at_s=now_s,
                at_ms=wall_ms,
                enrolling=what,
                image=self._sources.image,
                scanner=self._sources.scanner(),
            )
        )

    def _tell(self, health: Health) -> None:
        said, now_s = self._said, health.at_s
        if said is not None and now_s - said.at_s < AT_LEAST_S and _same(health, said):
            return
        self._said = health
        draft = self._path.with_name(f".{FILE}.new")
        try:
            draft.write_bytes(_ENCODER.encode(health))
            draft.replace(self._path)
        except OSError as error:
            _log.info("health_not_written", reason=error.strerror)

    def _health_of(self, till: Till, refusal: str, now_s: float, wall_ms: int) -> Health:
        waiting: dict[str, int] = {}
        for each in till.outbox:
            kind = kind_of(each.content)
            waiting[kind] = waiting.get(kind, 0) + 1
        heard_ms = wall_ms - int((now_s - till.link.heard_at) * 1000)
        return Health(
            pid=os.getpid(),
            firmware=self._sources.firmware,
            at_s=now_s,
            at_ms=wall_ms,
            link_is_up=till.link.is_up,
            is_answering=till.link.is_answering,
            heard_at_ms=heard_ms if till.link.is_up else None,
            link_trouble=self._sources.link_trouble(),
            renewal=self._sources.renewal(),
            image=self._sources.image,
            update=self._sources.update(),
            refusal=refusal,
            waiting=waiting,
            is_journal_open=not isinstance(till.phase, JournalBroken),
            printer=till.printer.value,
            slips_waiting=till.slips_waiting,
            scanner=self._sources.scanner(),
            clock=_clock(till),
        )


def read_health(folder: Path) -> Health | None:
    """What the program said last; None where there is nothing that can be read."""
    try:
        return _DECODER.decode((folder / FILE).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_alive(health: Health, now_s: float) -> bool:
    """Whether the program that said it runs still: monotonic time begins anew with each boot."""
    return 0 <= now_s - health.at_s < STALE_S and Path(f"/proc/{health.pid}").exists()


def _same(one: Health, other: Health) -> bool:
    """But for the time, and what changes with each frame and each answer."""
    return _bare(one) == _bare(other)


def _bare(health: Health) -> Health:
    scanner = health.scanner
    if scanner is not None:
        scanner = structs.replace(scanner, frames=0, last_frame_at_s=None)
    heard = None if health.heard_at_ms is None else 0
    return structs.replace(health, at_s=0.0, at_ms=0, heard_at_ms=heard, scanner=scanner)


def _clock(till: Till) -> str:
    if till.anchor is None:
        return "not trusted"
    return "signed" if till.anchor.is_signed else "set"
