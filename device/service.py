"""The appliance as a service: everything opened in order, and closed in the opposite one."""

import logging
import secrets
import signal
import sys
from contextlib import ExitStack
from importlib.metadata import version
from time import monotonic, time_ns  # noqa: TID251 -- the program's edge hands the clock inwards
from types import FrameType
from typing import Final

import structlog
import uuid_utils

from device.credentials import CredentialsError
from device.credentials import load as load_credentials
from device.hardware.build import HardwareRefusedError, open_hardware
from device.health import HealthFile, Sources
from device.journal import Journal
from device.kept_checkpoint import KeptCheckpoint
from device.link import Link
from device.notary import Notary
from device.runtime import (
    AlreadyRunningError,
    Inbox,
    KeyPressed,
    Runtime,
    Scanned,
    Stop,
    lock_state,
)
from device.settings import Settings
from device.till.signals import Light

SOUND: Final = 0
NOT_STARTED: Final = 2

_log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Run until a SIGTERM or SIGINT; the exit code."""
    _log_as_json()
    inbox: Inbox = Inbox()
    firmware = version("railtix-credits")
    with ExitStack() as stack:
        try:
            lock_state(settings.state.path, stack)
            credentials = load_credentials(settings.state.path)
            tls_context = credentials.tls_context()
            hardware = open_hardware(
                settings.hardware,
                on_key=lambda key, held: inbox.put(KeyPressed(key, held)),
                on_qr=lambda text, captured_at, decoded_at: inbox.put(
                    Scanned(text, captured_at, decoded_at)
                ),
            )
        except (AlreadyRunningError, CredentialsError, HardwareRefusedError) as refusal:
            _log.error("not_started", reason=str(refusal))
            return NOT_STARTED
        stack.callback(hardware.close)
        stack.callback(hardware.lamp.show, Light.DARK)
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
            printer=settings.hardware.printer.kind,
            clock=monotonic,
            wall_ms=_wall_ms,
            kept=KeptCheckpoint(settings.state.path),
            health=HealthFile(
                settings.state.path,
                Sources(firmware, link_trouble=lambda: link.trouble, scanner=lambda: None),
            ),
        )

        def stop(number: int, _frame: FrameType | None) -> None:
            _log.info("stopping", signal=signal.Signals(number).name)
            inbox.put(Stop())

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        _log.info("started", device_id=credentials.device_id, firmware=firmware)
        runtime.run(link.start)
    return SOUND


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
