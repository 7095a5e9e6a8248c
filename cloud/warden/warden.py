"""The warden's thread: one duty after the other, one warden at a time, whatever else is away."""

import fcntl
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.courier.courier import rest_s
from cloud.metrics import CERTIFICATES_EXPIRING, CRL_EXPIRES, WARDEN_FAILING
from cloud.settings import AuthoritySettings, BrokerSettings
from cloud.store.database import CommitUnknownError, Database
from cloud.warden.expiry import count, find_expiring, raise_alarms
from cloud.warden.faults import WardenFault
from cloud.warden.following import end_sessions, list_revocations
from cloud.warden.registry import Registry
from cloud.warden.superseding import supersede
from provisioning.authority.folder import CRL_ALARM

POLL_S: Final = 0.5
"""A revocation waits this long for the broker; for the ledger it waits not at all."""
SUPERSEDE_EVERY_S: Final = 5.0
EXPIRY_EVERY_S: Final = 300.0
CRL_LOOKED_AT_EVERY_S: Final = 60.0
LOCK: Final = "warden.lock"

_log = structlog.stdlib.get_logger("cloud.warden")


@dataclass(slots=True)
class _Duty:
    name: str
    run: Callable[[datetime], object]
    every_s: float
    due_at: float = 0.0
    """By the clock that nobody sets."""
    failures: int = 0
    fault: str = ""
    """Said once, until it changes: an hour of the same is not a thousand lines."""


class Warden:
    """Of several, here and elsewhere, the one that holds the lock in the authority's folder works;
    the others stand by. A killed one lets go of it."""

    def __init__(
        self,
        settings: AuthoritySettings,
        broker: BrokerSettings | None,
        database: Database,
        clock: Callable[[], datetime],
    ) -> None:
        """`broker`: where sessions are ended; None: there are none."""
        self._registry = Registry(settings)
        self._broker = broker
        self._database = database
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warden", daemon=True)
        self._lock: int | None = None
        self._crl_expires_at: datetime | None = None
        self._looked_at: float | None = None
        self._duties = [
            _Duty("superseding", lambda now: supersede(database, now), SUPERSEDE_EVERY_S),
            _Duty("revocations", self._list_revocations, POLL_S),
            _Duty("sessions", self._end_sessions, POLL_S),
            _Duty("expiry", self._watch_expiry, EXPIRY_EVERY_S),
        ]
        # These two also where another warden works.
        self._standing = _Duty("lock", self._holds_lock, 0.0)
        self._crl = _Duty("crl", self._watch_crl, CRL_LOOKED_AT_EVERY_S)
        CRL_EXPIRES.set_function(self._crl_left_s)

    @property
    def is_alive(self) -> bool:
        """For a health check: its thread runs. What keeps it from its work is told by a metric:
        requests are answered all the same."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The duty in hand is ended; what is left the next warden does."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._let_go()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._do(self._standing):
                for duty in self._duties:
                    if not self._stopping.is_set():
                        self._do(duty)
            self._do(self._crl)
            self._stopping.wait(POLL_S)

    def _do(self, duty: _Duty) -> bool:
        """Whether it went well, or is not due; a fault of one keeps none of the others."""
        if _tick() < duty.due_at:
            return duty.failures == 0
        fault, done = "", True
        try:
            done = duty.run(self._clock()) is not False
        except WardenFault as error:
            fault = f"{error.name}: {error}"
        except (SQLAlchemyError, CommitUnknownError) as error:
            fault = f"database_away: {type(error).__name__}"
        except Exception as error:  # noqa: BLE001  # logged with its trace; the other duties go on
            fault = f"bug: {type(error).__name__}"
            if fault != duty.fault:
                _log.exception("warden_met_a_bug", duty=duty.name)
        if fault and fault != duty.fault:
            _log.error("warden_cannot", duty=duty.name, fault=fault)
        if duty.fault and not fault:
            _log.info("warden_can_again", duty=duty.name)
        duty.fault = fault
        duty.failures = duty.failures + 1 if fault else 0
        duty.due_at = _tick() + rest_s(duty.failures, duty.every_s)
        WARDEN_FAILING.labels(duty.name).set(bool(fault))
        return done and not fault

    def _list_revocations(self, now: datetime) -> None:
        is_first = self._looked_at is None
        looks = self._looked_at is None or _tick() - self._looked_at >= CRL_LOOKED_AT_EVERY_S
        list_revocations(
            self._database, self._registry, now, looks_anyway=looks, tells_broker=is_first
        )
        if looks:
            self._looked_at = _tick()

    def _end_sessions(self, now: datetime) -> None:
        if self._broker is not None:
            end_sessions(self._database, self._registry, self._broker, now)

    def _watch_expiry(self, now: datetime) -> None:
        fault: WardenFault | None = None
        register = None
        try:
            register = self._registry.register()
        except WardenFault as error:
            # Appliances' certificates are in the database too.
            fault = error
        expiring = find_expiring(self._database, register, now)
        for days, number in count(expiring, now).items():
            CERTIFICATES_EXPIRING.labels(str(days)).set(number)
        raise_alarms(self._database, expiring, now)
        if fault is not None:
            raise fault

    def _watch_crl(self, now: datetime) -> None:
        self._crl_expires_at = expires_at = self._registry.crl_expires_at()
        if expires_at - now < CRL_ALARM:
            raise WardenFault(
                "crl_expires_soon",
                f"At {expires_at:%Y-%m-%d %H:%M} UTC the broker refuses every client. "
                "Find out why no new one is made; `railtix-ops ca crl` makes one by hand.",
            )

    def _crl_left_s(self) -> float:
        """As of now, whenever it is asked: what nobody renews goes on running out."""
        if self._crl_expires_at is None:
            return math.nan
        return (self._crl_expires_at - self._clock()).total_seconds()

    def _holds_lock(self, _now: datetime) -> bool:
        """Whether this is the warden that works; the lock goes with the process that holds it."""
        path = self._registry.folder / LOCK
        try:
            if self._lock is not None and _is_at(self._lock, path):
                return True
            # The folder was taken away, and perhaps another is there now.
            self._let_go()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WardenFault(
                "authority_not_usable",
                f"{self._registry.folder}: {error.strerror}. "
                "Is it there, and this user's to read and write?",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        self._looked_at = None
        return True

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _tick() -> float:
    return time.monotonic()  # noqa: TID251  # the warden's thread is an edge
