"""The appliance as a service: everything opened in order, and closed in the opposite one."""

import faulthandler
import logging
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic, time_ns  # noqa: TID251 -- the program's edge hands the clock inwards
from types import FrameType
from typing import Final

import structlog
import uuid_utils

from device.bundles.fetch import Pace, Way
from device.clock import WallClock
from device.condition.health import HealthFile, ScannerHealth, Sources
from device.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    CREDENTIAL,
    FOLDER,
    KEY_FILE,
    Credentials,
    CredentialsError,
    NotEnrolledError,
    sealed_key,
)
from device.credentials import load as load_credentials
from device.enrolling.happenings import Need
from device.hardware.build import Hardware, HardwareRefusedError, open_hardware
from device.identity.enrolment import Enroller, Enrolment, address_of, serial_of
from device.identity.exchange import believing
from device.identity.files import broker_of, read_cloud, recover
from device.identity.renewal import Renewal
from device.identity.welcome import Welcome
from device.journal.journal import Journal
from device.journal.kept_checkpoint import KeptCheckpoint
from device.link import Link
from device.notary import Notary
from device.papers import RenewedPapers
from device.ports import Inbox, Scanned, Stop
from device.runtime import Runtime
from device.sale_lock import SaleLock
from device.settings import BrokerSettings, Settings
from device.slots.client import SlotsClient
from device.state_lock import AlreadyRunningError, lock_state
from device.till.events import KeyPressed, PrinterChanged
from device.till.signals import Light
from device.updates import Updates, boot_id, image_version
from device.watchdog import Sign, Watchdog

SOUND: Final = 0
NOT_STARTED: Final = 2

_log = structlog.get_logger(__name__)


def serve(settings: Settings, passed_over: Sequence[str] = ()) -> int:
    """Run until a SIGTERM or SIGINT; the exit code. `passed_over`: settings that do not count."""
    _log_as_json()
    for each in passed_over:
        _log.warning("setting_passed_over", setting=each)
    # A watchdog that starves ends us by SIGABRT: where each thread hung then stands in the log.
    faulthandler.enable()
    with ExitStack() as stack:
        try:
            lock_state(settings.state.path, stack)
            recover(settings.state.path)
            appliance = Appliance(settings)
            hardware = appliance.open()
        except (AlreadyRunningError, CredentialsError, HardwareRefusedError) as refusal:
            _log.error("not_started", reason=str(refusal))
            return NOT_STARTED
        except Exception as fault:  # noqa: BLE001 -- which part failed only its library knows
            _log.exception("not_started", reason=f"{type(fault).__name__}: {fault}")
            return NOT_STARTED
        stack.callback(hardware.close)
        stack.callback(hardware.lamp.show, Light.DARK)
        stack.callback(appliance.end_updates)
        signal.signal(signal.SIGTERM, appliance.stop)
        signal.signal(signal.SIGINT, appliance.stop)
        watchdog = Watchdog.of_systemd(
            os.environ,
            appliance.signs,
            is_ready=appliance.is_ready,
            say=appliance.say,
            clock=monotonic,
            camera_start_s=settings.hardware.camera.start_s,
        )
        stack.callback(watchdog.close)
        watchdog.start()
        return appliance.run(hardware)


class Appliance:
    """One life of the program: nobody yet, then a till, and nobody again should it expire."""

    def __init__(self, settings: Settings) -> None:
        """Raises CredentialsError where an identity is there and of no use."""
        self._settings = settings
        self._state = settings.state.path
        self._firmware = version("railtix-credits")
        self._clock = WallClock()
        self._inbox: Inbox = Inbox()
        self._enrolment: Enrolment | None = None
        self._till: tuple[Runtime, Link, Journal] | None = None
        self._hardware: Hardware | None = None
        self._updates: Updates | None = None
        self._is_stopping = False
        self._has_expired = False
        """By the cloud's time, as far as the till has come to know it."""
        self._need()

    def open(self) -> Hardware:
        """Its parts. Raises HardwareRefusedError, and whatever a part raises."""
        self._hardware = open_hardware(
            self._settings.hardware,
            on_key=self._on_key,
            on_qr=self._on_qr,
            on_printer=lambda state, waiting: self._inbox.put(PrinterChanged(state, waiting)),
            state=self._state,
            wifi=self._settings.enrolment.wifi,
        )
        self._updates = self._open_updates(self._hardware)
        return self._hardware

    def run(self, hardware: Hardware) -> int:
        """Until `stop`; the exit code."""
        while not self._is_stopping:
            try:
                need = self._need()
                if need is not None:
                    self._enrol(need, hardware)
                elif not self._sell(hardware):
                    break
            except CredentialsError as refusal:
                _log.error("not_started", reason=str(refusal))
                return NOT_STARTED
        return SOUND

    def stop(self, number: int, _frame: FrameType | None) -> None:
        _log.info("stopping", signal=signal.Signals(number).name)
        self._is_stopping = True
        if self._enrolment is not None:
            self._enrolment.stop()
        self._inbox.put(Stop())

    def end_updates(self) -> None:
        if self._updates is not None:
            self._updates.close()

    def signs(self) -> Mapping[str, Sign]:
        assert self._hardware is not None, "nobody watches what is not open"
        scanner = self._hardware.scanner.health()
        signs = {"scanner": Sign(scanner.frames, rests=not scanner.is_looking)}
        enrolment, till = self._enrolment, self._till
        if enrolment is not None:
            signs["till"] = Sign(enrolment.beats)
        elif till is not None:
            runtime, link, _ = till
            signs |= {"till": Sign(runtime.beats), "link": Sign(link.beats)}
        return signs

    def is_ready(self) -> bool:
        return self._enrolment is not None or (self._till is not None and self._till[2].is_open)

    def say(self) -> str:
        """One line for `systemctl status`: nothing in it is secret, or a customer's."""
        enrolment, till = self._enrolment, self._till
        if enrolment is not None:
            trouble = enrolment.state.trouble
            return "not enrolled" + ("" if trouble is None else f": {trouble.value}")
        return "starting" if till is None else _status(till[0])

    def _on_key(self, key: str, held: bool) -> None:
        enrolment = self._enrolment
        if enrolment is not None:
            enrolment.tap()
        else:
            self._inbox.put(KeyPressed(key, held))

    def _on_qr(self, text: str, captured_at: float, decoded_at: float) -> None:
        enrolment = self._enrolment
        if enrolment is not None:
            enrolment.see(text)
        else:
            self._inbox.put(Scanned(text, captured_at, decoded_at))

    def _need(self) -> Need | None:
        """Why it must enrol; None: it is somebody. Raises CredentialsError."""
        try:
            credentials = load_credentials(self._state, self._settings.keys)
        except NotEnrolledError:
            return Need.BLANK
        if self._has_expired:
            return Need.EXPIRED
        # By a clock that nobody has set it would be valid, or not yet: then the broker says so.
        if self._clock.is_set() and credentials.expires_at <= datetime.now(UTC):  # noqa: TID251
            return Need.EXPIRED
        return None

    def _enrol(self, need: Need, hardware: Hardware) -> None:
        serial = serial_of(self._settings.enrolment.serial)
        enroller = Enroller(
            self._state,
            serial=serial,
            clock_is_set=self._clock.is_set,
            sealed_key=sealed_key(self._settings.keys, os.environ),
        )
        health = HealthFile(self._state, self._sources(lambda: "", hardware))
        updates = self._updates
        self._enrolment = Enrolment(
            hardware,
            enroller,
            serial=serial,
            clock=monotonic,
            wall_ms=_wall_ms,
            health=health,
            on_beat=lambda: None if updates is None else updates.call_good(monotonic()),
        )
        _log.info("enrolling", need=need.value, firmware=self._firmware)
        if self._is_stopping:
            self._enrolment.stop()
        if self._enrolment.run(need) is not None:
            self._has_expired = False
        self._enrolment = None

    def _sell(self, hardware: Hardware) -> bool:
        """Be a till; whether to look again who it is. Raises CredentialsError."""
        credentials = load_credentials(self._state, self._settings.keys)
        tls_context = credentials.tls_context()
        broker = broker_of(self._settings)
        if broker is None:
            raise CredentialsError(
                "nobody has said where the broker is: set [broker] host in pos.toml"
            )
        if self._settings.keys.kind == "credential" and (credentials.folder / KEY_FILE).exists():
            _log.warning("key_lies_open", file=f"{FOLDER}/{KEY_FILE}", sealed_as=CREDENTIAL)
        with ExitStack() as stack:
            journal = Journal(
                self._state,
                fresh_epoch=lambda: str(uuid_utils.uuid7()),
                wall_ms=_wall_ms,
                retention=self._settings.journal,
            )
            stack.callback(journal.close)
            link = self._link(credentials, tls_context, broker)
            stack.callback(link.close)
            notary = Notary(credentials)
            updates = self._updates
            if updates is not None:
                updates.greet()
            renewal = Renewal(
                self._state,
                self._settings.keys,
                credentials,
                serial=serial_of(self._settings.enrolment.serial),
                clock_is_set=self._clock.is_set,
            )
            runtime = Runtime(
                self._inbox,
                hardware,
                journal,
                link,
                notary,
                firmware=self._firmware,
                clock=monotonic,
                wall_ms=_wall_ms,
                wall_is_set=self._clock.is_set,
                kept=KeptCheckpoint(self._state),
                health=HealthFile(
                    self._state,
                    replace(
                        self._sources(lambda: link.trouble, hardware),
                        renewal=lambda: renewal.trouble,
                        update=lambda: "" if updates is None else updates.said,
                    ),
                ),
                welcome=Welcome(credentials.folder),
                papers=RenewedPapers(renewal, link, notary),
                updates=updates,
                lock=None if updates is None else SaleLock(Path(self._settings.updates.lock)),
            )
            self._till = (runtime, link, journal)
            _log.info("started", device_id=credentials.device_id, firmware=self._firmware)
            runtime.run(link.start)
        self._till = None
        self._has_expired = runtime.is_over
        return runtime.is_over

    def _open_updates(self, hardware: Hardware) -> Updates | None:
        """None where this is no image with two slots."""
        running = image_version()
        if not running:
            return None
        settings = self._settings.updates
        return Updates(
            self._state,
            SlotsClient(Path(settings.slots)),
            self._way,
            running=running,
            boot=boot_id(),
            # It has seen with its own camera; the other parts are open, or it would not run.
            is_sound=lambda: hardware.scanner.health().frames > 0,
            pace=Pace(bytes_per_s=settings.speed_max_kib * 1024),
        )

    def _way(self) -> Way | None:
        """To the cloud's listener for appliances, by the certificate in use now."""
        try:
            credentials = load_credentials(self._state, self._settings.keys)
            url = read_cloud(credentials.folder).url
            if not url:
                return None
            context = believing(
                (credentials.folder / AUTHORITY_FILE).read_text("ascii"),
                by_clock=self._clock.is_set(),
                certificate=credentials.folder / CERTIFICATE_FILE,
                key=credentials.key_path,
            )
            return Way(address_of(url), context)
        except (CredentialsError, OSError, ValueError) as error:
            _log.warning("no_way_to_updates", reason=f"{type(error).__name__}: {error}")
            return None

    def _link(
        self, credentials: Credentials, tls_context: ssl.SSLContext, broker: BrokerSettings
    ) -> Link:
        return Link(
            broker.host,
            broker.port,
            credentials.device_id,
            tls_context,
            self._inbox.put,
            firmware=self._firmware,
            clock=monotonic,
            chance=secrets.SystemRandom().random,
        )

    def _sources(self, link_trouble: Callable[[], str], hardware: Hardware) -> Sources:
        return Sources(
            self._firmware,
            link_trouble=link_trouble,
            scanner=lambda: _scanner_health(hardware),
            image=image_version(),
        )


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
