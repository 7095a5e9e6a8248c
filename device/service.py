"""The appliance as a service: everything opened in order, and closed in the opposite one."""

import faulthandler
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from time import monotonic, time_ns  # noqa: TID251 -- the program's edge hands the clock inwards
from types import FrameType
from typing import Final

import structlog
import uuid_utils

from device.clock import WallClock
from device.condition.health import HealthFile, ScannerHealth, Sources
from device.credentials import CREDENTIAL, FOLDER, KEY_FILE, CredentialsError
from device.credentials import load as load_credentials
from device.hardware.build import Hardware, HardwareRefusedError, open_hardware
from device.journal.journal import Journal
from device.journal.kept_checkpoint import KeptCheckpoint
from device.link import Link
from device.notary import Notary
from device.runtime import (
    AlreadyRunningError,
    Inbox,
    KeyPressed,
    PrinterChanged,
    Runtime,
    Scanned,
    Stop,
    lock_state,
)
from device.settings import Settings
from device.till.signals import Light
from device.watchdog import Sign, Watchdog

SOUND: Final = 0
NOT_STARTED: Final = 2

_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Run until a SIGTERM or SIGINT; the exit code."""
    _log_as_json()
    # A watchdog that starves ends us by SIGABRT: where each thread hung then stands in the log.
    faulthandler.enable()
    inbox: Inbox = Inbox()
    firmware = version("railtix-credits")
    with ExitStack() as stack:
        try:
            lock_state(settings.state.path, stack)
            credentials = load_credentials(settings.state.path, settings.keys)
            tls_context = credentials.tls_context()
            hardware = open_hardware(
                settings.hardware,
                on_key=lambda key, held: inbox.put(KeyPressed(key, held)),
                on_qr=lambda text, captured_at, decoded_at: inbox.put(
                    Scanned(text, captured_at, decoded_at)
                ),
                on_printer=lambda state, waiting: inbox.put(PrinterChanged(state, waiting)),
                state=settings.state.path,
            )
        except (AlreadyRunningError, CredentialsError, HardwareRefusedError) as refusal:
            _log.error("not_started", reason=str(refusal))
            return NOT_STARTED
        except Exception as fault:  # noqa: BLE001 -- which part failed only its library knows
            _log.exception("not_started", reason=f"{type(fault).__name__}: {fault}")
            return NOT_STARTED
        stack.callback(hardware.close)
        stack.callback(hardware.lamp.show, Light.DARK)
        if settings.keys.kind == "credential" and (credentials.folder / KEY_FILE).exists():
            _log.warning("key_lies_open", file=f"{FOLDER}/{KEY_FILE}", sealed_as=CREDENTIAL)
        journal = Journal(
            settings.state.path,
            fresh_epoch=lambda: str(uuid_utils.uuid7()),
            wall_ms=_wall_ms,
            retention=settings.journal,
        )
        stack.callback(journal.close)
        chance = secrets.SystemRandom()
        link = Link(
            settings.broker.host,
            settings.broker.port,
            credentials.device_id,
            tls_context,
            inbox.put,
            firmware=firmware,
            clock=monotonic,
            chance=chance.random,
        )
        stack.callback(link.close)
        runtime = Runtime(
            inbox,
            hardware,
            journal,
            link,
            Notary(credentials),
            firmware=firmware,
            clock=monotonic,
            wall_ms=_wall_ms,
            wall_is_set=WallClock().is_set,
            kept=KeptCheckpoint(settings.state.path),
            health=HealthFile(
                settings.state.path,
                Sources(
                    firmware,
                    link_trouble=lambda: link.trouble,
                    scanner=lambda: _scanner_health(hardware),
                ),
            ),
        )

        def stop(number: int, _frame: FrameType | None) -> None:
            _log.info("stopping", signal=signal.Signals(number).name)
            inbox.put(Stop())

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        watchdog = Watchdog.of_systemd(
            os.environ,
            _signs(runtime, link, hardware),
            is_ready=lambda: journal.is_open,
            say=lambda: _status(runtime),
            clock=monotonic,
        )
        stack.callback(watchdog.close)
        watchdog.start()
        _log.info("started", device_id=credentials.device_id, firmware=firmware)
        runtime.run(link.start)
    return SOUND


def _signs(runtime: Runtime, link: Link, hardware: Hardware) -> Callable[[], Mapping[str, Sign]]:
    def look() -> Mapping[str, Sign]:
        scanner = hardware.scanner.health()
        return {
            "till": Sign(runtime.beats),
            "link": Sign(link.beats),
            "scanner": Sign(scanner.frames, rests=not scanner.is_looking),
        }

    return look


def _scanner_health(hardware: Hardware) -> ScannerHealth:
    health = hardware.scanner.health()
    return ScannerHealth(
        frames=health.frames, restarts=health.restarts, last_frame_at_s=health.last_frame_at
    )


def _status(runtime: Runtime) -> str:
    """One line for `systemctl status`: nothing in it is secret, or a customer's."""
    till = runtime.till
    parts = [
        type(till.phase).__name__,
        "link up" if till.link.is_up else "link down",
        f"{len(till.outbox)} messages wait",
    ]
    if till.slips_waiting:
        parts.append(f"{till.slips_waiting} slips wait")
    return ", ".join(parts)


def _wall_ms() -> int:
    return time_ns() // 1_000_000


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # A line is one write: other processes' lines, and a power cut, fall between lines.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
