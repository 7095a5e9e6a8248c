"""An appliance's updates: gathers what is known, asks what follows, and has it done beside the
till, which never waits for any of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final, assert_never

import structlog

from device.bundles.fetch import Failure, Pace, Trouble, Way, fetch
from device.bundles.folder import BundleFolder
from device.bundles.record import KeptRecord
from device.slots.client import SlotsClient
from device.slots.wire import (
    Answer,
    Ask,
    AskInstall,
    AskMarkGood,
    AskReboot,
    AskStatus,
    AskStay,
    Done,
    Told,
)
from device.updating.deciding import (
    Fetch,
    FetchAnew,
    Install,
    MarkGood,
    Reboot,
    Stay,
    Step,
    Wait,
    Why,
    Write,
    decide,
    is_believed,
    try_again,
)
from device.updating.facts import AtTheTill, Known, Record
from device.updating.slots import Failure as InstallationFailure
from device.updating.slots import Slots
from device.updating.telling import progress_of, sentence_of
from protocol.updates import System, Update

OS_RELEASE: Final = Path("/etc/os-release")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
IMAGE_ID: Final = "railtix-pos"

LOOK_S: Final = 60.0
LOOK_SOON_S: Final = 2.0
"""While something of it goes on, or nobody answers: root's part may start a moment later."""
FETCH_AGAIN_S: Final = 30.0
FETCH_AGAIN_MAX_S: Final = 30 * 60.0
INSTALL_AGAIN_S: Final = 5 * 60.0
CLOCK_AGAIN_S: Final = 60 * 60.0
"""Without an end, and each try copies the bundle: a card does not last for ever."""
ASK_AGAIN_S: Final = 60.0
REBOOT_S: Final = 120.0
"""A restart that was promised and does not come by then is asked for again."""
_LONG: Final = frozenset({Trouble.REFUSED, Trouble.GONE, Trouble.STRANGE, Trouble.NO_ROOM})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Asked:
    """What came of one round with `railtix-slots`."""

    what: Ask
    answer: Answer | str
    slots: Slots | None


@dataclass
class _Rounds:
    """One thread at a time, and what the last one brought."""

    thread: Thread | None = None
    ended: list[_Asked] = field(default_factory=list[_Asked])


def image_version(os_release: Path = OS_RELEASE) -> str:
    """Of the image that runs; empty where it is none of ours."""
    try:
        lines = os_release.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said: dict[str, str] = {}
    for each in lines:
        name, _, value = each.partition("=")
        said[name] = value.strip("\"'")
    return said.get("IMAGE_VERSION", "") if said.get("IMAGE_ID") == IMAGE_ID else ""


def boot_id(path: Path = BOOT_ID) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


class Updates:
    """Looked at by the till's own thread whenever nobody waits; never makes it wait."""

    def __init__(
        self,
        state: Path,
        slots: SlotsClient,
        way: Callable[[], Way | None],
        *,
        running: str,
        boot: str,
        is_sound: Callable[[], bool] = lambda: True,
        pace: Pace | None = None,
    ) -> None:
        """`way`: where bundles come from, asked anew for each fetch, since a certificate may be
        renewed; None: nobody has said where. `is_sound`: whether the unattended part of the
        self-test is over, and found nothing that another version would not have."""
        self.folder = BundleFolder(state)
        self._kept = KeptRecord(state)
        self._slots = slots
        self._way = way
        self._is_sound = is_sound
        self._running = running
        self._boot = boot
        self._pace = pace or Pace()
        self._record = self._kept.read()
        self._known = Known(running=running, boot_id=boot, record=self._record)
        self._step: Step = Wait(Why.NO_SLOTS)
        self._rounds = _Rounds()
        self._look_at = 0.0
        self._fetching: Thread | None = None
        self._fetching_sha256 = ""
        self._fetched: list[Failure | None] = []
        self._failures = 0
        self._fetch_at = 0.0
        self._install_at = 0.0
        self._write_at = 0.0
        self._rebooting_until = 0.0
        self._before_install: Record | None = None
        self._pruned_for: frozenset[str] | None = None
        self._has_heard = False
        self._is_marked = False
        self._slots_said: Slots | None = None
        self.is_updating = False
        """An installation or a restart was asked for: the till begins nothing."""
        self.trouble = ""
        """Why the last fetch came to nothing, for `railtix-pos status`."""

    @property
    def said(self) -> str:
        """One line for a person."""
        version = "" if self._known.announced is None else f"{self._known.announced.version}: "
        trouble = f" ({self.trouble})" if self.trouble else ""
        return f"{version}{sentence_of(self._step)}{trouble}"

    def system(self) -> System | None:
        """For the heartbeat; None until the slots have been heard of."""
        slots = self._slots_said
        if slots is None or not slots.compatible:
            return None
        slot = slots.booted if slots.booted in {"A", "B"} else ""
        return System(
            image=self._running,
            compatible=slots.compatible,
            slot="A" if slot == "A" else "B" if slot == "B" else "",
            update=progress_of(self._known, self._step),
        )

    def heard(self) -> None:
        """A signed answer to one of this run's heartbeats has come."""
        self._has_heard = True

    def hold(self, *, is_waiting: bool) -> None:
        """A customer waits: nothing is fetched meanwhile."""
        self._pace.is_held = is_waiting

    def greet(self) -> None:
        """Learn of the slots before the first heartbeat, in a few seconds or not at all."""
        self._ask(AskStatus())
        if self._rounds.thread is not None:
            self._rounds.thread.join(5.0)
        self._collect(0.0)

    def call_good(self, now_s: float) -> None:
        """The firmware runs, and nobody is there to prove it to: an appliance that is to be
        enrolled has no heartbeat. Asked now and then until it is done; not where this version has
        to prove itself."""
        self._collect(now_s)
        if self._rounds.thread is not None or self._is_marked or now_s < self._look_at:
            return
        if is_believed(self._record, self._running):
            self._look_at = now_s + ASK_AGAIN_S
            self._ask(AskMarkGood())

    def look(self, till: AtTheTill) -> bool:
        """Whether the till is to say that it is being updated."""
        self._collect(till.now_s)
        if self._rounds.thread is not None:
            return self.is_updating
        if self._slots_said is None or till.now_s >= self._look_at:
            if till.now_s >= self._look_at:
                self._look_at = till.now_s + LOOK_SOON_S
                self._ask(AskStatus())
            return self.is_updating
        self._hear_a_person()
        self._stop_needless_fetch(till.announced)
        self._known = self._gather(till)
        self._step = decide(self._known)
        self._do(self._step, till.now_s)
        return self.is_updating

    def close(self) -> None:
        """What was fetched stays."""
        self._pace.is_stopped = True
        if self._fetching is not None:
            self._fetching.join(5.0)

    def _gather(self, till: AtTheTill) -> Known:
        return Known(
            running=self._running,
            boot_id=self._boot,
            record=self._record,
            slots=self._slots_said,
            announced=till.announced,
            has_policy=till.has_policy,
            bundle=self.folder.look(till.announced),
            is_fetching=self._fetching is not None,
            use=till.use,
            is_updating=self.is_updating,
            is_proved=self._has_heard and till.is_journal_open and self._is_sound(),
            is_marked=self._is_marked,
            free_bytes=self.folder.free_bytes(),
            now_s=till.now_s,
            fetch_at=self._fetch_at if till.link_is_up else till.now_s + LOOK_S,
            install_at=self._install_at,
        )

    def _do(self, step: Step, now_s: float) -> None:
        match step:
            case Wait(why=why):
                self._rest(why, now_s)
            case MarkGood():
                self._ask(AskMarkGood())
            case Stay():
                self._ask(AskStay())
            case Write(record=record):
                self._write(record, now_s)
            case Fetch(update=update):
                self._fetch(update, now_s)
            case FetchAnew(record=record, sha256=sha256):
                if self._write(record, now_s):
                    self._drop(sha256)
            case Install(update=update, record=record):
                self._before_install = self._record
                if self._write(record, now_s):
                    _log.info("update_installing", version=update.version)
                    self.is_updating = True
                    name = self.folder.whole(update.sha256).name
                    self._ask(AskInstall(name, update.sha256, update.version))
            case Reboot():
                self.is_updating = True
                if now_s >= self._rebooting_until:
                    self._rebooting_until = now_s + REBOOT_S
                    _log.info("update_restarting")
                    self._ask(AskReboot())
            case _:
                assert_never(step)

    def _rest(self, why: Why, now_s: float) -> None:
        self.is_updating = why is Why.INSTALLING
        if self.is_updating:
            self._look_at = min(self._look_at, now_s + LOOK_SOON_S)
        elif self._fetching is None:
            self._prune()

    def _ask(self, what: Ask) -> None:
        """In a thread of its own: RAUC may be slow, and the till is not."""
        rounds = self._rounds

        def ask() -> None:
            try:
                answer = self._slots.ask(what)
                said = answer if isinstance(what, AskStatus) else self._slots.ask(AskStatus())
                slots = said.slots if isinstance(said, Told) else None
                rounds.ended.append(_Asked(what, answer, slots))
            except Exception as error:  # noqa: BLE001 -- the till goes on
                _log.exception("slots_not_asked")
                rounds.ended.append(_Asked(what, type(error).__name__, None))

        rounds.thread = Thread(target=ask, name="slots", daemon=True)
        rounds.thread.start()

    def _collect(self, now_s: float) -> None:
        while self._fetched:
            self._note_fetch(self._fetched.pop(0), now_s)
        if not self._rounds.ended:
            return
        asked = self._rounds.ended.pop(0)
        self._rounds.thread = None
        self._slots_said = asked.slots
        is_soon = self.is_updating or asked.slots is None
        self._look_at = now_s + (LOOK_SOON_S if is_soon else LOOK_S)
        if asked.slots is not None:
            self._is_marked = self._is_marked or asked.slots.is_good
            self._note_installation(asked.slots, now_s)
        if isinstance(asked.what, AskStatus):
            return
        if isinstance(asked.answer, Done):
            self._is_marked = self._is_marked or isinstance(asked.what, AskMarkGood)
            return
        why = asked.answer if isinstance(asked.answer, str) else repr(asked.answer)
        _log.warning("slots_refused", asked=type(asked.what).__name__, why=why)
        self._refused(asked.what, now_s)

    def _note_installation(self, slots: Slots, now_s: float) -> None:
        """Where it came to nothing the till goes on selling, and the next try is not at once."""
        installation = slots.installation
        if self.is_updating and installation is not None and installation.failure is not None:
            self.is_updating = False
            is_clock = installation.failure is InstallationFailure.CLOCK
            self._install_at = now_s + (CLOCK_AGAIN_S if is_clock else INSTALL_AGAIN_S)

    def _refused(self, what: Ask, now_s: float) -> None:
        self._look_at = now_s + ASK_AGAIN_S
        self._slots_said = None
        self.is_updating = False
        self._install_at = now_s + ASK_AGAIN_S
        self._rebooting_until = 0.0
        if isinstance(what, AskInstall) and self._before_install is not None:
            # It was never begun: that is no attempt.
            self._write(self._before_install, now_s)

    def _write(self, record: Record, now_s: float) -> bool:
        """Whether it is on the disk; what follows from it is done only then."""
        if now_s < self._write_at:
            return False
        try:
            self._kept.write(record)
        except OSError as error:
            _log.error("record_not_written", reason=error.strerror)
            self._write_at = now_s + ASK_AGAIN_S
            return False
        if record.newest != self._record.newest and record.newest is not None:
            newest = record.newest
            _log.info("update", version=newest.version, state=newest.state, why=newest.why)
        self._record = record
        return True

    def _fetch(self, update: Update, now_s: float) -> None:
        way = self._way()
        if way is None:
            self._note_fetch(Failure(Trouble.NO_WAY, "nobody has said where the cloud is"), now_s)
            return
        self._prune()
        self._pace.is_stopped, self._fetching_sha256 = False, update.sha256

        def go() -> None:
            try:
                self._fetched.append(fetch(way, update, self.folder, self._pace))
            except Exception as error:  # noqa: BLE001 -- the till goes on, and the next try comes
                _log.exception("fetch_failed")
                self._fetched.append(Failure(Trouble.STRANGE, type(error).__name__))

        _log.info("update_fetching", version=update.version, size=update.size)
        self._fetching = Thread(target=go, name="fetch", daemon=True)
        self._fetching.start()

    def _stop_needless_fetch(self, announced: Update | None) -> None:
        """The policy was replaced while it was under way."""
        is_needed = announced is not None and announced.sha256 == self._fetching_sha256
        if self._fetching is not None and not is_needed:
            self._pace.is_stopped = True

    def _note_fetch(self, ended: Failure | None, now_s: float) -> None:
        self._fetching = None
        if ended is not None and ended.trouble is Trouble.STOPPED:
            return
        if ended is None:
            self._failures, self.trouble = 0, ""
            _log.info("update_fetched")
            return
        said = f"{ended.trouble.value}: {ended.detail}" if ended.detail else ended.trouble.value
        if said != self.trouble:
            _log.warning("update_not_fetched", reason=said)
        self.trouble = said
        exponent = 6 if ended.trouble in _LONG else min(self._failures, 6)
        wait_s = min(FETCH_AGAIN_MAX_S, FETCH_AGAIN_S * 2.0**exponent)
        self._failures += 1
        self._fetch_at = now_s + max(wait_s, min(ended.wait_s, FETCH_AGAIN_MAX_S))

    def _drop(self, sha256: str) -> None:
        try:
            self.folder.drop(sha256)
        except OSError as error:
            _log.warning("bundle_not_dropped", reason=error.strerror)

    def _prune(self) -> None:
        """Old bundles go; while nothing is announced, what is there may be asked for again."""
        update = self._known.announced
        if update is None:
            return
        is_here = update.version == self._running
        wanted: frozenset[str] = frozenset() if is_here else frozenset({update.sha256})
        if wanted == self._pruned_for:
            return
        try:
            self.folder.keep_only(wanted)
        except OSError as error:
            _log.warning("bundles_not_pruned", reason=error.strerror)
            return
        self._pruned_for = wanted

    def _hear_a_person(self) -> None:
        if not self._kept.is_asked_again():
            return
        try:
            self._kept.write(try_again(self._record))
            self._kept.has_asked_again()
        except OSError as error:
            _log.warning("not_tried_again", reason=error.strerror)
            return
        self._record = try_again(self._record)
        self._fetch_at = self._install_at = 0.0
