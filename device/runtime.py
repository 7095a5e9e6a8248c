"""The loop: one thread takes what happened, asks the till what follows, and does it, in order."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, tzinfo
from queue import Empty
from time import monotonic, sleep, time_ns  # noqa: TID251 -- the runtime is the edge that has the clock
from typing import Final, assert_never
from zoneinfo import ZoneInfo

import msgspec
import structlog
import uuid_utils

from device.condition.health import HealthFile
from device.condition.wellbeing import Thermometer, Wellbeing, wellbeing
from device.identity.welcome import Welcome
from device.journal.journal import Journal, JournalFault
from device.journal.kept_checkpoint import KeptCheckpoint
from device.link import Disconnected, Incoming, PolicyBytes, ReplyBytes, Subscribed
from device.notary import Circumstances, Notary
from device.ports import Happening, Inbox, Lock, Papers, Parts, Rest, Scanned, Stop, Updater, Wire
from device.till import effects as do
from device.till.contents import (
    AskForHeartbeat,
    AskToCancel,
    AskToDeduct,
    AskToPostOffline,
    AskToRefund,
)
from device.till.entries import (
    Entry,
    LightShown,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SessionBegan,
)
from device.till.events import (
    Event,
    JournalFailed,
    JournalOpened,
    KeyPressed,
    LinkDown,
    LinkUp,
    Now,
    OwnRecalled,
    PolicyArrived,
    PrinterChanged,
    QrSeen,
    ReplyArrived,
    RequestSigned,
    SettledRecalled,
    Tick,
    UpdateBegan,
    UpdateEnded,
)
from device.till.machine import step
from device.till.outbox import sign_anew
from device.till.resting import resting_light
from device.till.states import (
    Asking,
    Inquiring,
    JournalBroken,
    KeyingAmount,
    KeyingProducts,
    NobodySignedIn,
    Ready,
    Refunding,
    Scanning,
    SigningIn,
    Starting,
    Till,
    WaitingForPolicy,
    awaited_hashes,
    deadline_of,
    is_unfinished,
)
from device.till.trusted_time import believed
from device.timing import SaleTiming
from device.updating.facts import AtTheTill, Use
from protocol.ids import CorrelationId, IdempotencyKey
from protocol.messages import Declined, HeartbeatAnswered, Reason, Reply
from protocol.policy import Policy, PolicyRefusal
from protocol.updates import System, Update

BEAT_S: Final = 2.0
"""An idle loop comes round this often, so that a loop that hangs can be told from it."""

SEEN_S: Final = 0.3
"""Nobody has seen a light that the power put out sooner: it is journaled as shown only then, and
after a power cut before that staff are asked."""
_OF_THE_APPLIANCE: Final = frozenset({Reason.DEVICE_REVOKED, Reason.DEVICE_QUARANTINED})
"""Refused whatever it asks, until ops do something about it."""

_log = structlog.get_logger(__name__)


class Runtime:
    """Owns the till's state and the journal; nothing else touches either."""

    def __init__(
        self,
        inbox: Inbox,
        parts: Parts,
        journal: Journal,
        wire: Wire,
        notary: Notary,
        *,
        firmware: str,
        clock: Callable[[], float] = monotonic,
        pause: Callable[[float], None] = sleep,
        wall_ms: Callable[[], int] = lambda: time_ns() // 1_000_000,
        wall_is_set: Callable[[], bool] = lambda: False,
        kept: KeptCheckpoint | None = None,
        health: HealthFile | None = None,
        thermometer: Thermometer | None = None,
        welcome: Welcome | None = None,
        papers: Papers | None = None,
        updates: Updater | None = None,
        lock: Lock | None = None,
    ) -> None:
        """`kept`: where the cloud's checkpoints go; `health`: where the program says how it is;
        None: nowhere. `thermometer`: the machine's own, if left out."""
        self.till = Till()
        self.beats = 0
        """How often the loop has come round."""
        self._inbox = inbox
        self._parts = parts
        self._journal = journal
        self._wire = wire
        self._notary = notary
        self._firmware = firmware
        self._clock = clock
        self._pause = pause
        self._wall_ms = wall_ms
        self._wall_is_set = wall_is_set
        self._sent: dict[str, bytes] = {}
        """Signed requests that wait for an answer, by hash: sent again byte for byte."""
        self._scanned = Scanned("", 0.0, 0.0)
        self._timings: dict[str, SaleTiming] = {}
        self._lit_at = 0.0
        self._reply_cloud_us = 0
        self._kept = kept
        self._welcome = welcome
        self._papers = papers
        self._updates = updates
        self._lock = lock
        self._touched_at = clock()
        """The last key or code."""
        self.is_over = False
        """It stopped because its certificate has run out."""
        self._health = health
        self._thermometer = thermometer or Thermometer()
        self._started_at = clock()
        self._refusal = ("", "")
        """The kind of request that the cloud last refused this appliance, and why."""
        self._checkpoint: str | None = None
        """Told by the cloud, and not kept yet: that is an fsync, which waits until nobody does."""

    def run(self, connect: Callable[[], None]) -> None:
        """Open the journal, then `connect`, then go on until `Stop`."""
        self.take(Tick())
        connect()
        while True:
            self.beats += 1
            match self._next():
                case Stop():
                    return
                case None:
                    if self._is_due():
                        self.take(Tick())
                case happening:
                    self._meet(happening)

    def take(self, event: Event) -> None:
        """One event and all that follows from it."""
        pending: deque[Event] = deque([event])
        while pending:
            event = pending.popleft()
            before = type(self.till.phase).__name__
            self.till, effects = step(self.till, event, self._now())
            after = type(self.till.phase).__name__
            for effect in effects:
                follows = self._perform(effect)
                if follows is not None:
                    pending.append(follows)
                if isinstance(follows, JournalFailed):
                    break
            if before != after:
                _log.info("transition", on=type(event).__name__, before=before, after=after)
        awaited = awaited_hashes(self.till)
        self._sent = {each: self._sent[each] for each in self._sent if each in awaited}
        self._mind_lock()

    def _next(self) -> Happening | None:
        """What happened next, or None when a deadline or BEAT_S has come."""
        if self._is_due():
            # Before whatever waits: a flood of codes must not keep a time-out from coming.
            return None
        if self._inbox.empty():
            self._mind_updates()
            if resting_light(self.till) is not None:
                self._rest()
        deadline = deadline_of(self.till)
        wait_s = BEAT_S
        if deadline is not None:
            wait_s = min(BEAT_S, max(0.0, deadline - self._clock()))
        try:
            return self._inbox.get(timeout=wait_s)
        except Empty:
            return None

    def _is_due(self) -> bool:
        deadline = deadline_of(self.till)
        return deadline is not None and deadline <= self._clock()

    def _rest(self) -> None:
        self._keep_checkpoint()
        if self._papers is not None:
            self._look_at(self._papers)
        self._thermometer.feel(self._clock())
        if self._health is not None:
            self._health.tell(self.till, self._refusal[1], self._clock(), self._wall_ms())
        if self.till.updating is not None:
            # The disk is busy, and nothing of this is urgent.
            return
        try:
            self._journal.rest(self._trusted_ms())
        except JournalFault as fault:
            _log.error("journal_fault", fault=str(fault))
            self.take(JournalFailed(()))

    def _mind_updates(self) -> None:
        """Whether the appliance is being updated, or is to be; never in the middle of anything."""
        if (
            self._updates is None
            or is_unfinished(self.till)
            or isinstance(self.till.phase, Starting)
        ):
            return
        is_updating = self._updates.look(self._at_the_till()) or not self._is_lock_free()
        if is_updating != (self.till.updating is not None):
            self.take(UpdateBegan() if is_updating else UpdateEnded())

    def _at_the_till(self) -> AtTheTill:
        till, now_s = self.till, self._clock()
        announced = msgspec.UNSET if till.terms is None else till.terms.policy.update
        return AtTheTill(
            now_s=now_s,
            use=Use(
                is_at_rest=isinstance(
                    till.phase, Ready | NobodySignedIn | WaitingForPolicy | JournalBroken
                ),
                is_signed_in=isinstance(till.phase, Ready),
                untouched_s=now_s - self._touched_at,
            ),
            announced=announced if isinstance(announced, Update) else None,
            has_policy=till.terms is not None,
            link_is_up=till.link.is_up,
            is_journal_open=self._journal.is_open,
        )

    def _is_lock_free(self) -> bool:
        """Nobody else holds it. One that nobody made keeps nobody out: then nothing is installed
        either."""
        lock = self._lock
        if lock is None or lock.is_held:
            return True
        try:
            is_free = lock.take()
        except OSError:
            return True
        lock.let_go()
        return is_free

    def _touch(self, *, is_new: bool = True) -> None:
        """A key or a code: what it begins, no installation may break into."""
        if is_new:
            self._touched_at = self._clock()
        if self._lock is None or self._lock.is_held or self.till.updating is not None:
            return
        try:
            is_ours = self._lock.take()
        except OSError as error:
            _log.warning("no_sale_lock", reason=error.strerror)
            if isinstance(error, FileNotFoundError):
                self._lock = None  # nobody made it, and nothing is installed either
            return
        if not is_ours:
            self.take(UpdateBegan())

    def _mind_lock(self) -> None:
        if self._lock is not None and self._lock.is_held and not is_unfinished(self.till):
            self._lock.let_go()
        if self._updates is not None:
            waits = Scanning | Asking | SigningIn | Inquiring | Refunding
            self._updates.hold(is_waiting=isinstance(self.till.phase, waits))

    def _look_at(self, papers: Papers) -> None:
        thumbprint = self._notary.thumbprint
        if papers.rest(self._how_it_rests()):
            self.is_over = True
            self._inbox.put(Stop())
        if self._notary.thumbprint != thumbprint:
            self.till = sign_anew(self.till)

    def _how_it_rests(self) -> Rest:
        till, anchor, now_s = self.till, self.till.anchor, self._clock()
        is_idle = isinstance(till.phase, Ready | NobodySignedIn | WaitingForPolicy)
        return Rest(
            now_ms=None if anchor is None else anchor.at(now_s),
            now_s=now_s,
            is_idle=is_idle,
            has_sent_all=is_idle and not till.outbox and not self._sent,
            link_is_up=till.link.is_up,
        )

    def _trusted_ms(self) -> int | None:
        """The cloud's time, for what may take a moment: None while somebody keys a number."""
        anchor = self.till.anchor
        if anchor is None or not anchor.is_signed:
            return None
        is_keying = isinstance(self.till.phase, KeyingAmount | KeyingProducts)
        return None if is_keying else anchor.at(self._clock())

    def _keep_checkpoint(self) -> None:
        if self._kept is None or self._checkpoint is None:
            return
        try:
            self._kept.keep(self._checkpoint)
        except OSError as error:
            # The next heartbeat brings it again.
            _log.warning("checkpoint_not_kept", reason=error.strerror)
        self._checkpoint = None

    def _meet(self, happening: KeyPressed | Scanned | PrinterChanged | Incoming) -> None:
        """Turn what happened into an event, where it is to be believed."""
        match happening:
            case PrinterChanged():
                self.take(happening)
            case KeyPressed():
                self._touch()
                self.take(happening)
            case Scanned():
                # A code that lies before the camera all night is nobody at the till.
                self._touch(is_new=happening.text != self._scanned.text)
                self._scanned = happening
                self.take(QrSeen(happening.text))
            case ReplyBytes():
                self._open_reply(happening)
            case PolicyBytes(payload=payload):
                self._open_policy(payload)
            case Subscribed():
                self.take(LinkUp())
            case Disconnected():
                self.take(LinkDown())
            case _:
                assert_never(happening)

    def _open_reply(self, arrived: ReplyBytes) -> None:
        reply = self._notary.open_reply(arrived.payload)
        if isinstance(reply, str):
            _log.warning("reply_refused", reason=reply)
            return
        self._reply_cloud_us = reply.cloud_us
        if isinstance(reply.outcome, HeartbeatAnswered):
            self._checkpoint = reply.outcome.checkpoint
        self._note_refusal(reply)
        is_ours = self._notary.has_signed(reply.request_hash)
        if self._papers is not None and is_ours and not self._refusal[1]:
            self._papers.heard()
        is_heartbeat = isinstance(reply.outcome, HeartbeatAnswered)
        if self._updates is not None and is_ours and is_heartbeat:
            self._updates.heard()
        self.take(ReplyArrived(reply, arrived.payload.decode("ascii")))

    def _note_refusal(self, reply: Reply) -> None:
        outcome = reply.outcome
        if isinstance(outcome, Declined) and outcome.reason in _OF_THE_APPLIANCE:
            self._refusal = (reply.answers, outcome.reason.value)
        elif reply.answers in {self._refusal[0], "deduct"}:
            self._refusal = ("", "")

    def _open_policy(self, payload: bytes) -> None:
        journaled = self._journal.standing.policy
        policy = self._notary.open_policy(payload, 0 if journaled is None else journaled.version)
        if isinstance(policy, PolicyRefusal):
            _log.warning("policy_refused", reason=policy.value)
            return
        self._notary.trust(policy)
        self.take(PolicyArrived(policy, _zone(policy.timezone), payload.decode("ascii")))
        self._greet(policy)

    def _greet(self, policy: Policy) -> None:
        slip = None if self._welcome is None else self._welcome.slip(policy)
        if self._welcome is None or slip is None:
            return
        self._parts.printer.print(slip)
        try:
            self._welcome.said()
        except OSError as error:
            # It is printed again after the next start.
            _log.warning("welcome_not_noted", reason=error.strerror)

    def _now(self) -> Now:
        return Now(
            monotonic_s=self._clock(),
            wall_ms=self._wall_ms(),
            fresh_key=IdempotencyKey(str(uuid_utils.uuid7())),
            fresh_correlation=CorrelationId(str(uuid_utils.uuid7())),
            fresh_heartbeat_key=IdempotencyKey(str(uuid_utils.uuid7())),
            wall_is_set=self._wall_is_set(),
        )

    def _believed_ms(self) -> int:
        """By trusted time, as the till has it: a wrong wall clock makes no sign-in stale."""
        return believed(self._now(), self.till.anchor).wall_ms

    def _perform(self, effect: do.Effect) -> Event | None:
        match effect:
            case do.Journal(entries=entries):
                if any(isinstance(each, LightShown) for each in entries):
                    self._let_it_be_seen()
                return self._write(entries)
            case do.OpenJournal():
                return self._open_journal()
            case do.RecallSettled(restore_id=restore_id, from_entry=from_entry):
                return self._recall(restore_id, from_entry)
            case do.RecallOwn(what=what, initials=initials):
                standing = self._journal.standing
                return OwnRecalled(what, initials, standing.last_sale, standing.shift)
            case do.SendRequest():
                return self._send(effect)
            case do.SendAgain(request_hash=request_hash, expiry_s=expiry_s):
                self._wire.publish(self._sent[request_hash], expiry_s)
            case do.Reconnect():
                self._wire.drop()
            case do.ShowLight() | do.MakeSound() | do.Print() | do.Look():
                self._move(effect)
            case do.AccountForSale():
                self._account(effect)
            case do.Note(what=what, key=key, detail=detail):
                _log.info(what, key=key, detail=detail)
            case _:
                assert_never(effect)
        return None

    def _let_it_be_seen(self) -> None:
        left_s = self._lit_at + SEEN_S - self._clock()
        if left_s > 0:
            self._pause(left_s)

    def _move(self, effect: do.ShowLight | do.MakeSound | do.Print | do.Look) -> None:
        match effect:
            case do.ShowLight(light=light):
                self._parts.lamp.show(light)
                self._lit_at = self._clock()
            case do.MakeSound(sound=sound):
                self._parts.buzzer.play(sound)
            case do.Print(slip=slip):
                self._parts.printer.print(slip)
            case do.Look(looking=looking):
                self._parts.scanner.look(looking)
            case _:
                assert_never(effect)

    def _write(self, entries: tuple[Entry, ...]) -> JournalFailed | None:
        began_at = self._clock()
        try:
            self._journal.append(*entries)
        except JournalFault as fault:
            _log.error("journal_fault", fault=str(fault))
            return JournalFailed(entries)
        if self._papers is not None and any(isinstance(each, SessionBegan) for each in entries):
            slip = self._papers.warning(self._how_it_rests().now_ms)
            if slip is not None:
                self._parts.printer.print(slip)
        for entry in entries:
            decides = isinstance(entry, SaleAnswered | SaleCancelled | SaleAcceptedOffline)
            if decides and entry.key in self._timings:
                timing = self._timings[entry.key]
                timing.journaling_at, timing.journaled_at = began_at, self._clock()
                if isinstance(entry, SaleAnswered):
                    timing.cloud_us = self._reply_cloud_us
        return None

    def _open_journal(self) -> JournalOpened | JournalFailed:
        try:
            standing = self._journal.open()
        except JournalFault as fault:
            _log.error("journal_fault", fault=str(fault))
            return JournalFailed(())
        policy = None
        if standing.policy is not None:
            opened = self._notary.open_policy(standing.policy.token.encode(), 0)
            if isinstance(opened, PolicyRefusal):
                _log.warning("journaled_policy_refused", reason=opened.value)
            else:
                policy = opened
        if policy is not None and self.till.terms is None:
            self._notary.trust(policy)
        session = None
        if standing.session is not None:
            session = self._notary.open_session(standing.session.token)
        zone = UTC if policy is None else _zone(policy.timezone)
        return JournalOpened(standing, policy, zone, session)

    def _recall(self, restore_id: str, from_entry: int) -> SettledRecalled | None:
        try:
            return SettledRecalled(restore_id, self._journal.recall(from_entry))
        except JournalFault as fault:
            # Asked for again with the next heartbeat.
            _log.error("journal_fault", fault=str(fault))
            return None

    def _send(self, effect: do.SendRequest) -> RequestSigned:
        began_at = self._clock()
        content = effect.content
        is_of_sale = isinstance(content, AskToDeduct | AskToCancel | AskToPostOffline | AskToRefund)
        signed = self._notary.sign(
            content,
            Circumstances(
                position=self._journal.position,
                entry=self._journal.number_of(content.key) if is_of_sale else 0,
                wall_ms=self._believed_ms(),
                firmware=self._firmware,
                printer=self.till.printer.value,
                wellbeing=self._wellbeing() if isinstance(content, AskForHeartbeat) else None,
                system=self._system() if isinstance(content, AskForHeartbeat) else None,
            ),
        )
        signed_at = self._clock()
        self._sent[signed.request_hash] = signed.token
        went_out = self._wire.publish(signed.token, effect.expiry_s)
        if isinstance(content, AskToDeduct):
            self._timings = {
                content.key: SaleTiming(
                    captured_at=self._scanned.captured_at,
                    decoded_at=self._scanned.decoded_at,
                    signing_at=began_at,
                    signed_at=signed_at,
                )
            }
        _log.debug("request_signed", kind=signed.kind, key=signed.key, went_out=went_out)
        return RequestSigned(signed.kind, signed.key, signed.request_hash)

    def _system(self) -> System | None:
        return None if self._updates is None else self._updates.system()

    def _wellbeing(self) -> Wellbeing:
        now_s = self._clock()
        temperature_c = self._thermometer.says(now_s)
        standing = self._journal.standing
        return wellbeing(self.till, standing, temperature_c, now_s - self._started_at)

    def _account(self, effect: do.AccountForSale) -> None:
        timing = self._timings.pop(effect.key, None)
        if timing is None:
            return
        timing.lit_at = self._lit_at
        _log.info(
            "sale_timed",
            key=effect.key,
            correlation_id=effect.correlation_id,
            outcome=effect.outcome,
            ms=timing.stages_ms(),
        )


def _zone(name: str) -> tzinfo:
    """The event's time zone; where this machine does not know it, UTC: receipts must print."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        _log.warning("time_zone_unknown", name=name)
        return UTC
