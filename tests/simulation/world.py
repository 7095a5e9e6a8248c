"""A whole fair in memory: some minutes of selling in bad weather, then everything settles."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final

from msgspec import structs

from cloud.ledger import facts as cloud_facts
from cloud.ledger.decide import decide_batch
from cloud.ledger.facts import EventTerms, KeyState, PolicyTerms
from cloud.ledger.postings import Direction, Posting, TransactionType, purchase
from device.till.machine import step
from protocol.ids import (
    CorrelationId,
    DeviceId,
    IdempotencyKey,
    PayerId,
    StallId,
    TransactionId,
    UserId,
)
from protocol.money import Money
from protocol.policy import OfflineRules, Policy, Product, sign_policy
from tests.simulation.appliance import Appliance, StepFunction
from tests.simulation.clock import Clock
from tests.simulation.cloud import Cloud
from tests.simulation.disk import Disk
from tests.simulation.history import History, PromiseBrokenError
from tests.simulation.identities import CURRENCY, EVENT, key_pair
from tests.simulation.people import Attendee, Crowd, Staff
from tests.simulation.store import Decide
from tests.simulation.weather import PERFECT, Weather
from tests.simulation.witness import Witness

SELLING_MS: Final = 240_000
SETTLING_MS: Final = 600_000
SETTLE_STEP_MS: Final = 5_000
OFFLINE: Final = OfflineRules(
    allowed=True,
    sale_max_in_cents=1000,
    wallet_max_in_cents=900,
    wallet_sales_max=2,
    spell_max_in_cents=1700,
    spell_sales_max=4,
    sync_age_max_s=90,
    deny_list_age_max_s=60,
)
"""So small and short that a fair comes to each limit."""
CRASH: Final = "a part broke"
STALLS: Final = ("bar", "grill")


@dataclass(frozen=True)
class Parts:
    """The real ones; a test puts a faulty one in their place and sees it found out."""

    step: StepFunction = step
    decide: Decide = decide_batch
    disk: Callable[[Random, str], Disk] = Disk


@dataclass
class World:
    """`run` sells and settles; what is then in `cloud.store`, `witness` and the disks is judged."""

    seed: int
    weather: Weather
    parts: Parts = field(default_factory=Parts)
    appliances: list[Appliance] = field(default_factory=list[Appliance])
    attendees: list[Attendee] = field(default_factory=list[Attendee])

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.clock = Clock()
        self.history = History(self.seed, self.clock)
        self.witness = Witness(self.history)
        self.cloud = Cloud(
            clock=self.clock,
            random=self.random,
            weather=self.weather,
            history=self.history,
            decide=self.parts.decide,
            reply=self._reply,
            session_lasts=timedelta(seconds=self.random.choice((60, 3600, 3600))),
        )
        self._policies: dict[str, str] = {}
        self.offline = OFFLINE if self._happens(self.weather.offline) else OfflineRules()
        self._staff: list[Staff] = []
        self._is_selling = True
        store = self.cloud.store
        store.events[EVENT] = EventTerms(EVENT, CURRENCY, 20_000)
        for number in range(1, self.random.randint(2, 4) + 1):
            self._add_appliance(DeviceId(f"till-{number}"))
        for number in range(1, self.random.randint(2, 6) + 1):
            self._add_attendee(number)
        crowd = Crowd(self.attendees, self.clock, self.random)
        for each in self.appliances:
            neighbours = [other for other in self.appliances if other is not each]
            self._staff.append(
                Staff(
                    each,
                    neighbours=neighbours,
                    crowd=crowd,
                    clock=self.clock,
                    random=self.random,
                    weather=self.weather,
                    history=self.history,
                    witness=self.witness,
                )
            )

    def run(self) -> None:
        """Raises PromiseBrokenError, also for whatever else breaks."""
        try:
            for each in self.appliances:
                self.clock.plan(self.random.uniform(0, 500), each.switch_on)
            for each in self._staff:
                each.start()
            self.clock.plan(1000, self._each_second)
            self.clock.run_for(SELLING_MS)
            self._clear_up()
            for _ in range(0, SETTLING_MS, SETTLE_STEP_MS):
                self.clock.run_for(SETTLE_STEP_MS)
                if all(each.is_settled for each in self.appliances):
                    break
            self.clock.run_for(SETTLE_STEP_MS)
            self._end_reviews()
        except PromiseBrokenError:
            raise
        except Exception as error:
            raise self.history.broken(f"{CRASH}: {type(error).__name__}: {error}") from error

    def _clear_up(self) -> None:
        """The storm is over: the network whole, the disks sound, everybody powered and sober."""
        self._is_selling = False
        for each in self.appliances:
            each.weather = PERFECT
            each.wire.mend()
        for each in self._staff:
            each.weather = PERFECT
            each.is_closing = True
        self.cloud.weather = PERFECT

    def _each_second(self) -> None:
        if not self._is_selling:
            return
        self.clock.plan(1000, self._each_second)
        for each in self.appliances:
            each.rest()
            if self._happens(self.weather.link_cut):
                self._cut_link(each)
            if self._happens(self.weather.outage):
                each.cut_link(self.random.uniform(20_000, 150_000))
            if self._happens(self.weather.clock_jump):
                each.jump_clock()
            if self._happens(self.weather.replay):
                each.wire.replay()
        if self._happens(0.05):
            self._top_up(self.random.choice(self.attendees))
        if self._happens(self.weather.office):
            self._office()()

    def _cut_link(self, appliance: Appliance) -> None:
        lasts_ms = self.random.uniform(500, 20_000)
        match self.random.choice(("both", "up", "down")):
            case "both":
                appliance.cut_link(lasts_ms)
                return
            case "up":
                appliance.wire.is_dead_up = True
            case _:
                appliance.wire.is_dead_down = True
        self.history.note(appliance.device_id, "silent cut", round(lasts_ms))
        self.clock.plan(lasts_ms, appliance.wire.mend)

    def _office(self) -> Callable[[], None]:
        return self.random.choices(
            (self._issue_new_policy, self._end_some_session, self._unassign, self._revoke),
            (6, 3, 1, 1),
        )[0]

    def _issue_new_policy(self) -> None:
        appliance = self.random.choice(self.appliances)
        stall = StallId(self.random.choice(STALLS)) if self._happens(0.2) else None
        self._issue_policy(DeviceId(appliance.device_id), stall)
        self.history.note(appliance.device_id, "new policy", stall)
        self.clock.plan(self.random.uniform(5, 3000), appliance.take_policy)

    def _end_some_session(self) -> None:
        appliance = self.random.choice(self.appliances)
        session = self.cloud.store.running_session(DeviceId(appliance.device_id), self.cloud.now)
        if session is not None:
            self.cloud.store.end_session(session.session_id)
            self.history.note(appliance.device_id, "session ended by the office")

    def _unassign(self) -> None:
        sessions = self.cloud.store.sessions
        for session_id, each in sessions.items():
            sessions[session_id] = structs.replace(each, staff_assigned=False)
        self.history.note("office", "everybody unassigned")

    def _revoke(self) -> None:
        device_id = DeviceId(self.random.choice(self.appliances).device_id)
        appliances = self.cloud.store.appliances
        if sum(not each.revoked for each in appliances.values()) > 1:
            appliances[device_id] = structs.replace(appliances[device_id], revoked=True)
            self.history.note(device_id, "revoked")

    def _end_reviews(self) -> None:
        """A person ends each: what a till says it cancelled, and still stands, is paid back."""
        store = self.cloud.store
        for device_key in store.reviews:
            known = store.keys[device_key]
            self.history.note("office", "review ended", device_key[1])
            stands = known.state in {KeyState.APPROVED, KeyState.POSTED_OFFLINE}
            if stands and known.sale is not None and known.sale.left_in_cents:
                store.enter(self._reversal(device_key, known.sale))

    def _reversal(self, device_key: cloud_facts.DeviceKey, sale: cloud_facts.PostedSale) -> Posting:
        return Posting(
            id=TransactionId(self.cloud.fresh_id()),
            user_id=sale.user_id,
            type=TransactionType.REFUND,
            direction=Direction.IN,
            amount=Money(sale.left_in_cents, sale.amount.currency),
            reference="review",
            idempotency_key=device_key[1],
            correlation_id=CorrelationId("review"),
            created_at=self.cloud.now,
            created_by="staff:office",
            reversal_of=sale.transaction_id,
            device_id=device_key[0],
        )

    def _reply(self, device_id: str, token: bytes) -> None:
        appliance = next(each for each in self.appliances if each.device_id == device_id)
        appliance.wire.reply(token, self.cloud.weather)

    def _happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def _add_appliance(self, device_id: DeviceId) -> None:
        stall = StallId(self.random.choice(STALLS))
        self.cloud.store.appliances[device_id] = cloud_facts.Appliance(
            device_id, revoked=False, event_id=EVENT, stall_id=stall, policy_version=0
        )
        self._issue_policy(device_id, stall)
        self.appliances.append(
            Appliance(
                device_id,
                clock=self.clock,
                random=self.random,
                weather=self.weather,
                history=self.history,
                witness=self.witness,
                to_cloud=self.cloud.receive,
                find_policy=self._policies.__getitem__,
                step=self.parts.step,
                make_disk=self.parts.disk,
                sync_age_max_ms=OFFLINE.sync_age_max_s * 1000,
            )
        )

    def _add_attendee(self, number: int) -> None:
        user_id, payer_id = UserId(f"user-{number}"), PayerId(f"payer-of-{number:04d}")
        self.cloud.store.payers[payer_id] = user_id
        attendee = Attendee(user_id, payer_id, self.random, self._allowance)
        self.attendees.append(attendee)
        for _ in range(self.random.randint(1, 6)):
            self._top_up(attendee)

    def _allowance(self, attendee: Attendee) -> int:
        """A quarter of the balance, none for whoever is frozen; here it is often said too late."""
        wallet = self.cloud.store.wallets.get((attendee.user_id, CURRENCY))
        if not self.offline.allowed or wallet is None or wallet.offline_frozen:
            return 0
        return min(2000, max(0, wallet.balance.amount_in_cents // 2))

    def _top_up(self, attendee: Attendee) -> None:
        number = self.cloud.fresh_id()
        self.cloud.store.enter(
            purchase(
                transaction_id=TransactionId(number),
                user_id=attendee.user_id,
                amount=Money(2000, CURRENCY),
                provider_reference=f"payment-{number}",
                idempotency_key=IdempotencyKey(f"payment-{number}"),
                correlation_id=CorrelationId(f"payment-{number}"),
                at=self.cloud.now,
                created_by="provider:test",
            )
        )

    def _issue_policy(self, device_id: DeviceId, stall: StallId | None) -> None:
        """Prices rise with every version, so that none is charged by an old list unseen."""
        store = self.cloud.store
        before = store.appliances[device_id]
        stall_id = stall or before.stall_id
        assert stall_id is not None, "every appliance here has a stall"
        version = before.policy_version + 1
        expires_at = self.cloud.now + timedelta(days=1)
        policy = Policy(
            version=version,
            device_id=device_id,
            issued_at_ms=self.clock.now_ms,
            expires_at_ms=round(expires_at.timestamp() * 1000),
            event_id=EVENT,
            event_name="Summer fair",
            stall_id=stall_id,
            stall_name=stall_id.title(),
            currency=CURRENCY,
            sale_max_in_cents=2000,
            products=tuple(
                Product(number, f"Thing {number}", 100 * number + version) for number in (1, 2, 3)
            ),
            # Without the key the till leaves the signature to the cloud, as it may; it is quicker.
            wallet_keys=(key_pair("wallet").named,)
            if self.offline.allowed or self.random.random() < 0.3
            else (),
            offline=self.offline,
            reply_keys=(key_pair("reply").named,),
            badge_keys=(key_pair("badge").named,),
            pin_key=key_pair("pin").named,
        )
        store.appliances[device_id] = structs.replace(
            before, policy_version=version, stall_id=stall_id
        )
        store.policies[device_id, version] = PolicyTerms(
            policy.expires_at_ms,
            EVENT,
            stall_id,
            policy.sale_max_in_cents,
            policy.offline,
        )
        self._policies[device_id] = sign_policy(policy, key_pair("policy").private, "policy")
