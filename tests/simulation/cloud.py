"""The cloud around the real decision: batches in, one commit, replies out; and it crashes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final
from uuid import UUID

from cloud.ledger.decisions import Decision, Flag
from cloud.ledger.facts import BatchRequest, CheckedQr, KeyState, KnownKey, Presented, StaffSession
from protocol import wallet_qr
from protocol.encoding import from_base64url
from protocol.ids import DeviceId, EventId, SessionId, StaffId, StallId
from protocol.messages import (
    BalanceRequest,
    Cancelled,
    Declined,
    Deduct,
    MessageRefusal,
    OfflineAcceptance,
    Outcome,
    Reason,
    Reply,
    Request,
    SignedIn,
    SignIn,
    decode_request,
    encode,
    kind_of,
)
from protocol.policy import find, open_badge
from protocol.sealing import open_pin
from protocol.signing import SignatureRefusal, fingerprint
from protocol.wallet_qr import QrRefusal, SignedQr
from tests.simulation.clock import Clock
from tests.simulation.history import History
from tests.simulation.identities import EVENT, PIN, key_pair
from tests.simulation.store import Decide, Store
from tests.simulation.weather import Weather
from tests.simulation.wire import Letter

BATCH_SIZE_MAX: Final = 8
SIGN_IN_FRESH_MS: Final = 30_000


@dataclass(frozen=True)
class _Opened:
    letter: Letter
    request: Request
    request_hash: str


class Cloud:
    """One worker; what it says has been committed."""

    def __init__(
        self,
        *,
        clock: Clock,
        random: Random,
        weather: Weather,
        history: History,
        decide: Decide,
        reply: Callable[[str, bytes], None],
        session_lasts: timedelta,
    ) -> None:
        self.store = Store()
        self.weather = weather
        self._clock = clock
        self._random = random
        self._history = history
        self._decide = decide
        self._reply = reply
        self._session_lasts = session_lasts
        self._waiting: deque[Letter] = deque()
        self._is_awake = False
        self._names = 0
        self._find_wallet_key = find((key_pair("wallet").named,))
        self._find_badge_key = find((key_pair("badge").named,))
        self._checked: dict[str, CheckedQr | QrRefusal] = {}

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms / 1000, UTC)

    def receive(self, letter: Letter) -> None:
        self._waiting.append(letter)
        if not self._is_awake:
            self._wake_in(self._random.uniform(0, 20))

    def fresh_id(self) -> str:
        self._names += 1
        return str(UUID(int=self._names))

    def _wake_in(self, wait_ms: float) -> None:
        self._is_awake = True
        self._clock.plan(wait_ms, self._work)

    def _work(self) -> None:
        """Whatever is waiting, in one transaction."""
        if self._random.random() < self.weather.worker_stall:
            self._wake_in(self._random.uniform(500, 8000))
            return
        opened = [_open(self._waiting.popleft()) for _ in range(self._batch_size())]
        opened = [each for each in opened if self._clock.now_ms <= each.letter.expires_at_ms]
        for each in opened:
            if isinstance(each.request, SignIn):
                self._say(each, self._sign_in(each.request))
            elif not isinstance(each.request, BatchRequest):
                # Reports, copies and approvals are for paper, and move nothing.
                self._say(each, Declined(Reason.NO_RECEIPT))
        self._answer([each for each in opened if isinstance(each.request, BatchRequest)])
        self._is_awake = False
        if self._waiting:
            self._wake_in(self._random.uniform(0, 20))

    def _batch_size(self) -> int:
        return min(len(self._waiting), self._random.randint(1, BATCH_SIZE_MAX))

    def _answer(self, batch: list[_Opened]) -> None:
        if not batch:
            return
        presented = [self._present(each) for each in batch]
        facts = self.store.gather(presented)

        decided = self._decide(facts, presented)

        if self._random.random() < self.weather.worker_crash:
            self._crash(batch, "before the commit")
            return
        self.store.keep(presented, decided)
        for each, decision in zip(batch, decided.decisions, strict=True):
            self._note(each, decision)
            self._check_suspicion(each.request, decision)
        if self._random.random() < self.weather.worker_crash:
            self._crash(batch, "between commit and replies")
            return
        for each, decision in zip(batch, decided.decisions, strict=True):
            self._say(each, decision.answer)

    def _crash(self, batch: list[_Opened], when: str) -> None:
        """What was not acknowledged comes again, or not; what was waiting waits."""
        self._history.note("cloud", f"crash {when}", *(each.request.key for each in batch))
        for each in batch:
            if self._random.random() < 0.5:
                again = self._random.uniform(0, 6000)
                self._clock.plan(again, lambda letter=each.letter: self.receive(letter))

    def _say(self, to: _Opened, outcome: Outcome) -> None:
        reply = Reply(
            device_id=to.request.device_id,
            key=to.request.key,
            answers=kind_of(to.request),
            request_hash=to.request_hash,
            answered_at_ms=self._clock.now_ms,
            outcome=outcome,
        )
        self._reply(to.letter.device_id, encode(reply))

    def _present(self, opened: _Opened) -> Presented:
        request = opened.request
        assert isinstance(request, BatchRequest), "it runs alone"
        qr = digest = None
        if isinstance(request, BalanceRequest):
            qr = self._check_qr(request.wallet_qr)
        if isinstance(request, Deduct | OfflineAcceptance):
            qr = self._check_qr(request.wallet_qr)
            peeked = wallet_qr.peek(request.wallet_qr)
            digest = request.content("no token" if peeked is None else peeked.jti).digest()
        return Presented(
            request=request,
            request_hash=opened.request_hash,
            thumbprint="",
            arrived_at=self.now,
            fresh_id=self.fresh_id(),
            qr=qr,
            digest=digest,
        )

    def _check_qr(self, jws: str) -> CheckedQr | QrRefusal:
        """Checked once each: the answer never changes."""
        if jws not in self._checked:
            match wallet_qr.check_signature(jws, self._find_wallet_key):
                case SignedQr(token=token):
                    self._checked[jws] = CheckedQr(token, EVENT)
                case refusal:
                    self._checked[jws] = refusal
        return self._checked[jws]

    def _sign_in(self, request: SignIn) -> Outcome:
        device_key = (request.device, request.idempotency_key)
        known = self.store.keys.get(device_key)
        if known is not None:
            return known.answer
        outcome = self._judge_sign_in(request)
        self.store.keys[device_key] = KnownKey(KeyState.ANSWERED, None, outcome)
        self._history.note("cloud", "answers sign_in", request.key, outcome)
        return outcome

    def _judge_sign_in(self, request: SignIn) -> Outcome:
        appliance = self.store.appliances[request.device]
        badge = open_badge(request.badge.encode(), self._find_badge_key)
        pin_key = key_pair("pin").private
        pin = open_pin(request.sealed_pin, pin_key, request.device, request.idempotency_key)
        if appliance.revoked:
            return Declined(Reason.DEVICE_REVOKED)
        if abs(self._clock.now_ms - request.sent_at_ms) > SIGN_IN_FRESH_MS:
            return Declined(Reason.SIGN_IN_STALE)
        if isinstance(badge, SignatureRefusal):
            return Declined(Reason.BADGE_INVALID)
        if pin != PIN:
            return Declined(Reason.PIN_WRONG)
        return self._begin_session(request.device, StaffId(badge.staff_id))

    def _begin_session(self, device_id: DeviceId, staff_id: StaffId) -> SignedIn:
        appliance = self.store.appliances[device_id]
        assert appliance.event_id is not None, "every appliance here has a stall"
        assert appliance.stall_id is not None, "every appliance here has a stall"
        session = StaffSession(
            session_id=SessionId(f"session-{self.fresh_id()}"),
            device_id=device_id,
            staff_id=staff_id,
            event_id=EventId(appliance.event_id),
            stall_id=StallId(appliance.stall_id),
            expires_at=self.now + self._session_lasts,
            ended=False,
            staff_assigned=True,
        )
        self.store.begin_session(session)
        return SignedIn(
            session_id=session.session_id,
            staff_id=staff_id,
            initials=staff_id[:2].upper(),
            event_id=session.event_id,
            stall_id=session.stall_id,
            expires_at_ms=round(session.expires_at.timestamp() * 1000),
        )

    def _check_suspicion(self, request: Request, decision: Decision) -> None:
        """Late messages may make an honest journal look old, but never like two journals."""
        if decision.quarantine is not None or Flag.JOURNAL_NEW_EPOCH in decision.flags:
            raise self._history.broken("an honest journal is suspected", request.device_id)

    def _note(self, opened: _Opened, decision: Decision) -> None:
        request = opened.request
        posting = "" if decision.posting is None else decision.posting.type
        kind = kind_of(request)
        self._history.note(
            "cloud", f"answers {kind}", request.device_id, request.key, decision.answer, posting
        )
        if Flag.SAME_ANSWER in decision.flags:
            self._history.tally[f"{kind}: same answer"] += 1
        elif isinstance(decision.answer, Cancelled):
            what = "nothing to reverse" if decision.answer.reversed is None else "reversed"
            self._history.tally[f"{kind}: {what}"] += 1
        self._history.tally[f"{kind}: {decision.outcome_name}"] += 1


def _open(letter: Letter) -> _Opened:
    """Nobody forges anything here: the signature is not looked at."""
    payload = from_base64url(letter.token.split(b".")[1])
    assert payload is not None, "appliances sign what they send"
    request = decode_request(payload)
    assert not isinstance(request, MessageRefusal), f"a till said nonsense: {request}"
    assert request.device_id == letter.device_id, "each appliance has a topic of its own"
    return _Opened(letter, request, fingerprint(letter.token))
