"""One appliance without its hardware: performs the till's effects in order, as `device.runtime`."""

from collections import deque
from collections.abc import Callable
from datetime import UTC
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final, assert_never

from device.notary import Circumstances, Notary
from device.till import effects as do
from device.till.contents import AskToCancel, AskToDeduct, AskToPostOffline, AskToRefund
from device.till.entries import Entry, SaleAcceptedOffline, SaleOpened
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
    ReplyArrived,
    RequestSigned,
    SettledRecalled,
    Tick,
)
from device.till.resending import settled_sales
from device.till.resting import Step, resting_light
from device.till.states import Till, awaited_hashes, deadline_of
from device.till.trusted_time import believed
from protocol.ids import CorrelationId, DeviceId, IdempotencyKey
from protocol.messages import HeartbeatAnswered, Reply, decode_reply
from protocol.policy import PolicyRefusal
from tests.simulation.clock import Clock
from tests.simulation.disk import Disk, DiskFault
from tests.simulation.history import History
from tests.simulation.identities import credentials_of
from tests.simulation.weather import Weather
from tests.simulation.wire import Letter, Wire
from tests.simulation.witness import Witness

StepFunction = Callable[[Till, Event, Now], Step]
TICKS_IN_A_ROW_MAX: Final = 50
CLOCK_OFF_MAX_MS: Final = 20_000
"""What trusted time may be off: an answer to a heartbeat may take until the next is due."""
ASKING_MAX_MS: Final = 20_000
"""How old a code may get: `wallet_qr.LATE_S`, and the wait for a reply."""


class Appliance:
    """`till` is None while there is no power."""

    def __init__(
        self,
        device_id: str,
        *,
        clock: Clock,
        random: Random,
        weather: Weather,
        history: History,
        witness: Witness,
        to_cloud: Callable[[Letter], None],
        find_policy: Callable[[str], str],
        step: StepFunction,
        make_disk: Callable[[Random, str], Disk],
        sync_age_max_ms: int,
    ) -> None:
        self.device_id = device_id
        self.weather = weather
        self.till: Till | None = None
        self.disk = make_disk(random, f"epoch-of-{device_id:->16}")
        self.wire = Wire(device_id, clock, random, to_cloud, self._take_reply)
        self._clock = clock
        self._random = random
        self._history = history
        self._witness = witness
        self._find_policy = find_policy
        self._step = step
        self._skew_ms = random.randint(-3000, 3000)
        self._wall_is_set = True
        self._sync_age_max_ms = sync_age_max_ms
        self.synced_ms = 0
        """The time in the newest answer to a heartbeat that reached it."""
        self._notary = Notary(credentials_of(DeviceId(device_id)))
        self._sent: dict[str, bytes] = {}
        self._names = 0
        self._boot = 0
        self._booted_ms = 0
        self._tick_at_ms: int | None = None
        self._ticks_in_a_row = 0

    def switch_on(self) -> None:
        self._boot += 1
        self._booted_ms = self._clock.now_ms
        self.till = Till()
        self._wall_is_set = self._random.random() < 0.8
        # Where NTP did not set it, the clock of a Pi is behind: a code looks younger than it is.
        behind_ms = 0 if self._wall_is_set else self._some_ms()
        self._skew_ms = self._random.randint(-3000, 3000) - behind_ms
        self._notary = Notary(credentials_of(DeviceId(self.device_id)))
        self._history.note(self.device_id, "power on")
        self.take(Tick())
        self.connect_in(self._random.uniform(100, 2000))

    def jump_clock(self) -> None:
        """Its wall clock is set, by hours and for no good reason."""
        self._skew_ms += self._random.choice((-1, 1)) * self._some_ms()
        self._history.note(self.device_id, "clock jump", self._skew_ms)

    def _some_ms(self) -> int:
        """So little that a code may still look good, or hours."""
        return self._random.randint(25_000, self._random.choice((70_000, 10**8)))

    def cut_power(self) -> None:
        if self.till is None:
            return
        self._history.note(self.device_id, "power cut", type(self.till.phase).__name__)
        self._witness.see_dark(self.device_id, hands_over=self._random.random() < 0.5)
        self.till = None
        self._sent = {}
        self._tick_at_ms = None
        self.wire.is_connected = False
        self.disk.lose_power()
        self._boot += 1
        self._clock.plan(self._random.uniform(300, 9000), self.switch_on)

    def cut_link(self, lasts_ms: float) -> None:
        """Noticed at once: the socket breaks."""
        if self.till is None or not self.wire.is_connected:
            return
        self.wire.is_connected = False
        self.take(LinkDown())
        self.connect_in(lasts_ms)

    def connect_in(self, wait_ms: float) -> None:
        boot = self._boot

        def connect() -> None:
            is_on = self.till is not None and self._boot == boot
            if is_on and not self.wire.is_connected:
                self.wire.is_connected = True
                self.take(LinkUp())
                self._clock.plan(self._random.uniform(1, 50), self.take_policy)

        self._clock.plan(wait_ms, connect)

    def take_policy(self) -> None:
        """The retained message, as it stands at this moment."""
        if self.till is None or not self.wire.is_connected or self.wire.is_dead_down:
            return
        token = self._find_policy(self.device_id)
        journaled = self.disk.standing.policy
        least = 0 if journaled is None else journaled.version
        policy = self._notary.open_policy(token.encode(), least)
        if not isinstance(policy, PolicyRefusal):
            self._notary.trust(policy)
            self.take(PolicyArrived(policy, UTC, token))

    def take(self, event: Event) -> None:
        """One event and all that follows from it; nothing, without power."""
        pending: deque[Event] = deque([event])
        while pending and self.till is not None:
            event = pending.popleft()
            self._note_event(event)
            self.till, effects = self._step(self.till, event, self._now())
            for effect in effects:
                if self._random.random() < self.weather.power_cut:
                    self.cut_power()
                    return
                follows = self._perform(effect)
                if follows is not None:
                    pending.append(follows)
                if isinstance(follows, JournalFailed):
                    break
        if self.till is not None:
            awaited = awaited_hashes(self.till)
            self._sent = {each: self._sent[each] for each in self._sent if each in awaited}
            self._plan_tick()

    def rest(self) -> None:
        """Between sales the journal folds its log."""
        if self.till is None or resting_light(self.till) is None:
            return
        try:
            self.disk.fold_log(self.weather)
        except DiskFault:
            self.take(JournalFailed(()))

    @property
    def is_settled(self) -> bool:
        """Nothing waits for an answer, in memory or on the disk, and the till waits for staff."""
        till, standing = self.till, self.disk.standing
        return (
            till is not None
            and not till.outbox
            and not standing.sales
            and not standing.sign_outs
            and not standing.refunds
            and resting_light(till) is not None
        )

    def _take_reply(self, token: bytes) -> None:
        reply = decode_reply(token)
        assert isinstance(reply, Reply), "the cloud says nothing malformed"
        if isinstance(reply.outcome, HeartbeatAnswered):
            self.synced_ms = max(self.synced_ms, reply.outcome.cloud_time_ms)
        self.take(ReplyArrived(reply, token.decode()))

    def _perform(self, effect: do.Effect) -> Event | None:
        if not isinstance(effect, do.MakeSound | do.Look | do.Note):
            self._history.note(self.device_id, f"does {type(effect).__name__}", effect)
        match effect:
            case do.Journal(entries=entries):
                return self._write(entries)
            case do.OpenJournal():
                return self._open_journal()
            case do.RecallSettled(restore_id=restore_id, from_entry=from_entry):
                numbered = enumerate(self.disk.entries, 1)
                later = [each for each in numbered if each[0] >= from_entry]
                return SettledRecalled(restore_id, settled_sales(later))
            case do.RecallOwn(what=what, initials=initials):
                standing = self.disk.standing
                return OwnRecalled(what, initials, standing.last_sale, standing.shift)
            case do.SendRequest():
                return self._send(effect)
            case do.SendAgain(request_hash=request_hash, expiry_s=expiry_s):
                self.wire.publish(self._sent[request_hash], expiry_s, self.weather)
            case do.Reconnect():
                self.wire.is_connected = False
                self.connect_in(self._random.uniform(100, 3000))
            case do.ShowLight(light=light):
                self._witness.see_light(self.device_id, light)
                self._history.tally[f"light: {light}"] += 1
            case do.Print(slip=slip):
                self._witness.see_slip(self.device_id, slip)
            case do.MakeSound() | do.Look() | do.AccountForSale() | do.Note():
                pass
            case _:
                assert_never(effect)
        return None

    def _write(self, entries: tuple[Entry, ...]) -> JournalFailed | None:
        for entry in entries:
            if isinstance(entry, SaleOpened):
                self._witness.meet(self.device_id, entry)
            if isinstance(entry, SaleAcceptedOffline):
                self._check_acceptance(entry)
        try:
            self.disk.append(entries, self.weather)
        except DiskFault:
            self._history.note(self.device_id, "disk fault", *entries)
            return JournalFailed(entries)
        return None

    def _check_acceptance(self, accepted: SaleAcceptedOffline) -> None:
        """By the true time, which no appliance knows."""
        self._witness.see_accepted(self.device_id, accepted.key)
        now_ms = self._clock.now_ms
        if abs(accepted.accepted_at_ms - now_ms) > CLOCK_OFF_MAX_MS:
            raise self._history.broken("accepted by a wrong clock", self.device_id, accepted.key)
        if now_ms > accepted.token_expires_s * 1000 + CLOCK_OFF_MAX_MS + ASKING_MAX_MS:
            raise self._history.broken("accepted a code of long ago", self.device_id, accepted.key)
        if now_ms - self.synced_ms > self._sync_age_max_ms + CLOCK_OFF_MAX_MS:
            raise self._history.broken("accepted long after a sync", self.device_id, accepted.key)

    def _open_journal(self) -> JournalOpened | JournalFailed:
        try:
            standing = self.disk.open(self.weather, self._wall_ms())
        except DiskFault:
            return JournalFailed(())
        policy = None
        if standing.policy is not None:
            opened = self._notary.open_policy(standing.policy.token.encode(), 0)
            assert not isinstance(opened, PolicyRefusal), "it was opened before it was journaled"
            policy = opened
        if policy is not None and self.till is not None and self.till.terms is None:
            self._notary.trust(policy)
        session = None if standing.session is None else standing.session.session
        return JournalOpened(standing, policy, UTC, session)

    def _send(self, effect: do.SendRequest) -> RequestSigned:
        content = effect.content
        if isinstance(content, AskToDeduct):
            self._witness.see_asked(self.device_id, content.sale)
        is_of_sale = isinstance(content, AskToDeduct | AskToCancel | AskToPostOffline | AskToRefund)
        signed = self._notary.sign(
            content,
            Circumstances(
                position=self.disk.position,
                entry=self.disk.number_of(content.key) if is_of_sale else 0,
                wall_ms=self._believed_ms(),
                firmware="simulated",
                printer="ready",
            ),
        )
        self._sent[signed.request_hash] = signed.token
        self.wire.publish(signed.token, effect.expiry_s, self.weather)
        return RequestSigned(signed.kind, signed.key, signed.request_hash)

    def _plan_tick(self) -> None:
        assert self.till is not None, "there is power"
        deadline = deadline_of(self.till)
        if deadline is None:
            return
        at_ms = max(self._clock.now_ms, self._booted_ms + int(deadline * 1000) + 1)
        if at_ms == self._clock.now_ms:
            self._ticks_in_a_row += 1
            if self._ticks_in_a_row > TICKS_IN_A_ROW_MAX:
                raise self._history.broken("the till is busy with nothing", self.device_id)
        else:
            self._ticks_in_a_row = 0
        if self._tick_at_ms is not None and self._clock.now_ms <= self._tick_at_ms <= at_ms:
            return
        self._tick_at_ms = at_ms
        boot = self._boot

        def tick() -> None:
            if self._tick_at_ms == at_ms:
                self._tick_at_ms = None
            if self._boot != boot or self.till is None:
                return
            deadline = deadline_of(self.till)
            if deadline is not None and deadline <= self._monotonic_s():
                self.take(Tick())
            else:
                self._plan_tick()

        self._clock.plan(at_ms - self._clock.now_ms, tick)

    def _note_event(self, event: Event) -> None:
        match event:
            case Tick() | RequestSigned():
                pass
            case KeyPressed(key=key, held=held):
                self._history.note(self.device_id, "hears KeyPressed", key, "held" if held else "")
            case ReplyArrived(reply=reply):
                said = (reply.answers, reply.key, reply.outcome)
                self._history.note(self.device_id, "hears ReplyArrived", *said)
            case _:
                self._history.note(self.device_id, f"hears {type(event).__name__}", event)

    def _now(self) -> Now:
        self._names += 1
        name = f"{self.device_id}-{self._names:012d}"
        return Now(
            monotonic_s=self._monotonic_s(),
            wall_ms=self._wall_ms(),
            fresh_key=IdempotencyKey(f"k-{name}"),
            fresh_correlation=CorrelationId(f"c-{name}"),
            fresh_heartbeat_key=IdempotencyKey(f"h-{name}"),
            wall_is_set=self._wall_is_set,
        )

    def _monotonic_s(self) -> float:
        return (self._clock.now_ms - self._booted_ms) / 1000

    def _wall_ms(self) -> int:
        return self._clock.now_ms + self._skew_ms

    def _believed_ms(self) -> int:
        assert self.till is not None, "there is power"
        return believed(self._now(), self.till.anchor).wall_ms
