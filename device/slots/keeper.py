"""Does what is asked about the slots: never an installation, nor a restart, into an open sale."""

import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, run
from threading import Lock, Thread
from time import monotonic, sleep  # noqa: TID251 -- the program's edge: it has the clock
from typing import Final, assert_never

import structlog
from msgspec import structs

from device.sale_lock import SaleLock
from device.slots.handing import copy, drop, open_bundle
from device.slots.rauc import Fault, Rauc
from device.slots.wire import (
    Answer,
    Ask,
    AskInstall,
    AskMarkGood,
    AskReboot,
    AskStatus,
    AskStay,
    Done,
    Refusal,
    Refused,
    Told,
)
from device.updating.slots import Failure, Installation, Slots

UNCONFIRMED_S: Final = 30 * 60.0
"""A start that nobody calls good for this long is ended: three of them lead back."""
LOOK_AT_S: Final = 10.0
LOCK_WAIT_S: Final = 5.0
"""The till tries the lock now and then, for a moment."""
REBOOT_S: Final = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Places:
    """Where everything is."""

    updates: Path
    """The unprivileged program's folder of bundles."""
    hold: Path
    """Where only root writes."""
    lock: Path
    mark: Path
    """There once the slot was called good since this machine started; in /run."""


class Keeper:
    """Asked by one thread at a time; an installation has a thread of its own."""

    def __init__(
        self,
        rauc: Rauc,
        places: Places,
        *,
        owners: AbstractSet[int],
        reboot: Sequence[str] = ("systemctl", "--no-block", "reboot"),
        clock: Callable[[], float] = monotonic,
        unconfirmed_s: float = UNCONFIRMED_S,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        """`clock`: seconds since this machine started."""
        self._rauc = rauc
        self._places = places
        self._owners = owners
        self._reboot_command = tuple(reboot)
        self._clock = clock
        self._unconfirmed_s = unconfirmed_s
        self._lock_wait_s = lock_wait_s
        self._lock = SaleLock(places.lock)
        self._guard = Lock()
        """Over what the installation's thread changes."""
        self._installation: Installation | None = None
        self._known = Slots()
        self._look_at = 0.0
        self.is_leaving = False
        """The machine has been asked to start again."""
        with suppress(OSError):
            drop(places.hold)

    def answer(self, ask: Ask) -> Answer:
        match ask:
            case AskStatus():
                return self._status()
            case AskInstall():
                return self._install(ask)
            case AskMarkGood():
                return self._mark_good()
            case AskStay():
                return self._stay()
            case AskReboot():
                return self._reboot()
            case _:
                assert_never(ask)

    def mind(self) -> None:
        """Start the machine again where nobody has called it good in time, and no sale is open."""
        now = self._clock()
        if self.is_leaving or now < max(self._unconfirmed_s, self._look_at) or self._is_good():
            return
        self._look_at = now + LOOK_AT_S
        if self._is_installing() or not self._state().booted:
            return
        _log.error("not_confirmed", after_s=round(now))
        refused = self._reboot()
        if isinstance(refused, Refused):
            _log.warning("not_restarted", why=refused.why.value, detail=refused.detail)

    def wait(self) -> None:
        """Until no installation goes on."""
        while self._is_installing():
            sleep(0.02)

    def _status(self) -> Answer:
        # RAUC answers nobody while it installs.
        slots = self._known if self._is_installing() else self._state()
        with self._guard:
            return Told(
                structs.replace(slots, is_good=self._is_good(), installation=self._installation)
            )

    def _state(self) -> Slots:
        state = self._rauc.state()
        if isinstance(state, Fault):
            _log.error("rauc_silent", detail=state.detail)
            self._known = Slots()
        else:
            self._known = Slots(
                compatible=state.compatible,
                booted=state.booted,
                primary=state.primary,
                other_version=state.other_version,
            )
        return self._known

    def _install(self, ask: AskInstall) -> Answer:
        if self._is_installing() or self.is_leaving:
            return Refused(Refusal.BUSY)
        descriptor = open_bundle(self._places.updates, ask.name, self._owners)
        if isinstance(descriptor, Refused):
            return descriptor
        refused = self._take_lock()
        if refused is not None:
            os.close(descriptor)
            return refused
        if not self._state().booted:
            self._lock.let_go()
            os.close(descriptor)
            return Refused(Refusal.RAUC, "it does not say which slot runs")
        with self._guard:
            self._installation = Installation(version=ask.version, sha256=ask.sha256)
        _log.info("installing", version=ask.version, sha256=ask.sha256)
        Thread(target=self._write, args=(ask, descriptor), name="installation", daemon=True).start()
        return Done()

    def _write(self, ask: AskInstall, descriptor: int) -> None:
        try:
            fault = self._write_it(ask, descriptor)
        except Exception as error:  # noqa: BLE001 -- whatever it was, the lock must be let go of
            _log.exception("installation_failed")
            fault = Fault(Failure.OTHER, type(error).__name__)
        with suppress(OSError):
            drop(self._places.hold)
        failure = None if fault is None else fault.failure
        detail = "" if fault is None else fault.detail
        _log.info("installed" if fault is None else "not_installed", why=failure, detail=detail)
        self._lock.let_go()
        self._tell(is_over=True, failure=failure, detail=detail)

    def _write_it(self, ask: AskInstall, descriptor: int) -> Fault | None:
        bundle = copy(descriptor, ask.sha256, self._places.hold)
        if isinstance(bundle, Fault):
            return bundle
        manifest = self._rauc.manifest(bundle)
        if isinstance(manifest, Fault):
            return manifest
        if manifest.compatible != self._known.compatible:
            return Fault(
                Failure.COMPATIBLE,
                f"it is for {manifest.compatible}, this is {self._known.compatible}",
            )
        if manifest.version != ask.version:
            return Fault(
                Failure.OTHER_VERSION,
                f"it is version {manifest.version}, announced was {ask.version}",
            )
        return self._rauc.install(bundle, lambda percent: self._tell(percent=percent))

    def _tell(
        self,
        *,
        percent: int = 0,
        is_over: bool = False,
        failure: Failure | None = None,
        detail: str = "",
    ) -> None:
        with self._guard:
            assert self._installation is not None, "it is what goes on"
            self._installation = structs.replace(
                self._installation,
                percent=max(percent, self._installation.percent),
                is_over=is_over,
                failure=failure,
                detail=detail,
            )

    def _mark_good(self) -> Answer:
        if self._is_installing():
            return Refused(Refusal.BUSY)
        fault = self._rauc.mark_good()
        if fault is not None:
            _log.error("not_marked_good", detail=fault.detail)
            return Refused(Refusal.RAUC, fault.detail)
        self._places.mark.touch()
        _log.info("marked_good")
        return Done()

    def _stay(self) -> Answer:
        if self._is_installing() or self.is_leaving:
            return Refused(Refusal.BUSY)
        fault = self._rauc.stay()
        if fault is not None:
            _log.error("not_stayed", detail=fault.detail)
            return Refused(Refusal.RAUC, fault.detail)
        _log.info("stayed")
        return Done()

    def _reboot(self) -> Answer:
        if self._is_installing():
            return Refused(Refusal.BUSY)
        refused = self._take_lock()
        if refused is not None:
            return refused
        # From here on no sale begins: the lock goes with the machine.
        self.is_leaving = True
        try:
            run(  # noqa: S603 -- a fixed command
                self._reboot_command, check=True, timeout=REBOOT_S, stdin=DEVNULL
            )
        except (OSError, SubprocessError) as error:
            self.is_leaving = False
            self._lock.let_go()
            _log.exception("not_restarted")
            return Refused(Refusal.RAUC, type(error).__name__)
        _log.info("restarting")
        return Done()

    def _take_lock(self) -> Refused | None:
        until = self._clock() + self._lock_wait_s
        try:
            while not self._lock.take():
                if self._clock() >= until:
                    return Refused(Refusal.IN_USE)
                sleep(0.05)
        except OSError as error:
            return Refused(Refusal.IN_USE, f"{self._places.lock}: {error.strerror}")
        return None

    def _is_installing(self) -> bool:
        with self._guard:
            return self._installation is not None and not self._installation.is_over

    def _is_good(self) -> bool:
        return self._places.mark.exists()
