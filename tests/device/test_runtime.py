import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from device.condition.wellbeing import Thermometer
from device.credentials import load
from device.journal.journal import CommitHook, Journal, JournalFault
from device.journal.kept_checkpoint import KeptCheckpoint
from device.link import Disconnected, PolicyBytes, ReplyBytes, Subscribed
from device.notary import Notary
from device.ports import Happening, Inbox, Rest, Scanned, Stop
from device.runtime import SEEN_S, Runtime
from device.state_lock import AlreadyRunningError, lock_state
from device.till.entries import Entry
from device.till.events import KeyPressed, PrinterChanged, Tick
from device.till.receipt import Slip
from device.till.signals import Light, PrinterState, Sound
from device.till.states import (
    Asking,
    HandedOverAsked,
    JournalBroken,
    NobodySignedIn,
    Ready,
    WaitingForPolicy,
)
from device.till.trusted_time import Anchor
from protocol.checkpoint import Checkpoint, sign_checkpoint
from protocol.ids import DeviceId, IdempotencyKey
from protocol.messages import (
    Approved,
    Cancel,
    Cancelled,
    Deduct,
    Heartbeat,
    HeartbeatAnswered,
    Outcome,
    Reply,
    Request,
    SaleLine,
    SignIn,
    SignOut,
    decode_request,
    encode,
    kind_of,
)
from protocol.money import Money
from protocol.policy import Policy, sign_policy
from protocol.sealing import open_pin
from protocol.signing import Profile, Verified, fingerprint, sign, verify
from tests.device.fake_cloud import POLICY_KEY
from tests.device.stage import (
    DEVICE,
    EPOCH_MS,
    OTHER_KEY,
    PIN,
    PIN_KEY,
    REPLY_KEY,
    a_badge,
    a_policy,
    a_session,
    a_wallet_qr,
)


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


@dataclass
class Part:
    """Lamp, buzzer, printer and scanner in one, each writing into the same history."""

    history: list[object]

    def show(self, light: Light) -> None:
        self.history.append(light)

    def play(self, sound: Sound) -> None:
        self.history.append(sound)

    def print(self, slip: Slip) -> None:
        self.history.append(slip)

    def look(self, looking: bool) -> None:
        self.history.append(("look", looking))


@dataclass
class Parts:
    lamp: Part
    buzzer: Part
    printer: Part
    scanner: Part


@dataclass
class Air:
    """A wire that keeps what is published, up or down."""

    is_up: bool = True
    sent: list[tuple[bytes, int | None]] = field(default_factory=list)
    drops: int = 0

    def publish(self, payload: bytes, expiry_s: int | None = None) -> bool:
        self.sent.append((payload, expiry_s))
        return self.is_up

    def drop(self) -> None:
        self.drops += 1


@dataclass
class Appliance:
    """The real runtime, journal and notary; fake parts, wire and clock."""

    state: Path
    on_commit: CommitHook | None = None
    now_s: float = 1000.0
    history: list[object] = field(default_factory=list)
    air: Air = field(default_factory=Air)
    unseen_at_pauses: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """How long each pause was, and how many sales a power cut in it would ask about."""

    def __post_init__(self) -> None:
        self.inbox: Inbox = Inbox()
        credentials = load(self.state)
        self.public_key = credentials.key.public_key()
        self.journal = Journal(
            self.state,
            fresh_epoch=lambda: "epoch-000000000000",
            wall_ms=self.wall_ms,
            on_commit=self._commit,
        )
        part = Part(self.history)
        self.runtime = Runtime(
            self.inbox,
            Parts(part, part, part, part),
            self.journal,
            self.air,
            Notary(credentials),
            firmware="1.2.3",
            clock=lambda: self.now_s,
            pause=self.pause,
            wall_ms=self.wall_ms,
            kept=KeptCheckpoint(self.state),
            thermometer=Thermometer(lambda: 47),
        )

    def pause(self, seconds: float) -> None:
        self.unseen_at_pauses.append(
            (seconds, sum(each.may_be_unseen for each in self.journal.standing.sales))
        )

    def wall_ms(self) -> int:
        return EPOCH_MS + int((self.now_s - 1000) * 1000)

    @property
    def light(self) -> Light:
        return next(each for each in reversed(self.history) if isinstance(each, Light))

    @property
    def lights(self) -> list[Light]:
        return [each for each in self.history if isinstance(each, Light)]

    @property
    def phase(self) -> object:
        return self.runtime.till.phase

    def meet(self, *happenings: Happening) -> None:
        """What the loop does with each, until the inbox is empty."""
        for happening in happenings:
            self.inbox.put(happening)
        self.inbox.put(Stop())
        self.runtime.run(lambda: None)

    def boot(self) -> None:
        self.meet()

    def press(self, keys: str) -> None:
        self.meet(*(KeyPressed(key) for key in keys))

    def scan(self, text: str) -> None:
        self.meet(Scanned(text, self.now_s - 0.02, self.now_s - 0.01))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.runtime.take(Tick())

    def requests(self, kind: type[Request]) -> list[tuple[Request, bytes]]:
        """Every published request of a kind, verified, with its bytes."""
        found: list[tuple[Request, bytes]] = []
        for payload, _ in self.air.sent:
            verified = verify(Profile.REQUEST, payload, lambda _: self.public_key)
            assert isinstance(verified, Verified)
            request = decode_request(verified.payload)
            if isinstance(request, kind):
                found.append((request, payload))
        return found

    def answer(
        self,
        kind: type[Request],
        outcome: Outcome,
        key: ec.EllipticCurvePrivateKey = REPLY_KEY,
        device_id: str = DEVICE,
    ) -> None:
        """The cloud answers the last request of a kind."""
        request, payload = self.requests(kind)[-1]
        reply = Reply(
            device_id=device_id,
            key=request.key,
            answers=kind_of(request),
            request_hash=fingerprint(payload),
            answered_at_ms=EPOCH_MS,
            cloud_us=1500,
            outcome=outcome,
        )
        token = sign(Profile.REPLY, encode(reply), key, "r1")
        self.meet(ReplyBytes(token.encode(), self.now_s))

    def send_policy(
        self, policy: Policy | None = None, key: ec.EllipticCurvePrivateKey = POLICY_KEY
    ) -> None:
        token = sign_policy(policy or a_policy(), key, "policy-1")
        self.meet(PolicyBytes(token.encode()))

    def connect(self) -> None:
        self.meet(Subscribed())

    def cut_power(self) -> "Appliance":
        """Another process on the same disk."""
        self.journal.close()
        return Appliance(self.state, now_s=self.now_s)

    def _commit(self, moment: Any, entries: tuple[Entry, ...]) -> None:
        self.history.append((moment, entries))
        if self.on_commit is not None:
            self.on_commit(moment, entries)


@pytest.fixture
def appliance(state: Path) -> Iterator[Appliance]:
    made = Appliance(state)
    yield made
    made.journal.close()


def bring_up(appliance: Appliance) -> None:
    appliance.boot()
    appliance.connect()
    appliance.send_policy()
    appliance.answer(Heartbeat, HeartbeatAnswered(EPOCH_MS, 1))
    appliance.scan(a_badge())
    appliance.press(f"{PIN}#")
    appliance.answer(SignIn, a_session())


def approve(appliance: Appliance, cents: int = 500) -> None:
    outcome = Approved("0198c0de", Money(cents, "EUR"), Money(1500, "EUR"), "KX7", EPOCH_MS)
    appliance.answer(Deduct, outcome)


@pytest.fixture
def selling(appliance: Appliance) -> Appliance:
    bring_up(appliance)
    assert appliance.phase == Ready()
    return appliance


def test_a_checkpoint_from_the_cloud_is_kept_once_nobody_waits(appliance: Appliance) -> None:
    bring_up(appliance)
    kept = KeptCheckpoint(appliance.state)
    checkpoint = Checkpoint(
        origin="0197a3c2-5f00-7c3a-9d51-2f6b8e0c4a17",
        epoch=1,
        size=12,
        root="A" * 43,
        at_ms=EPOCH_MS,
    )
    token = sign_checkpoint(checkpoint, ec.generate_private_key(ec.SECP256R1()), "cp-1")
    appliance.wait(60)
    appliance.answer(Heartbeat, HeartbeatAnswered(EPOCH_MS, 1, token))
    assert kept.read() is None
    appliance.runtime._rest()
    assert kept.read() == checkpoint


def test_a_deduct_says_everything_the_cloud_judges_by(selling: Appliance) -> None:
    selling.press("A1A3A1#")
    number = selling.journal.position.last
    selling.scan(a_wallet_qr())
    ((request, _),) = selling.requests(Deduct)
    assert isinstance(request, Deduct)
    assert request.device_id == DEVICE
    assert request.entry == number
    assert request.journal == selling.journal.position
    assert request.amount == Money(1100, "EUR")
    assert request.lines == (SaleLine(1, 2, 450), SaleLine(3, 1, 200))
    assert request.session_id == a_session().session_id
    assert (request.event_id, request.stall_id, request.policy_version) == ("summer", "bar", 1)
    assert request.scanned_at_ms == request.sent_at_ms == selling.wall_ms()


def test_the_green_light_comes_right_after_the_fsync_and_nothing_else_before(
    selling: Appliance,
) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    selling.history.clear()
    approve(selling)
    first, second, third, *_ = selling.history
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert (first[0], second[0], third) == ("before", "after", Light.APPROVED)


def test_a_green_light_counts_as_seen_only_once_it_was_lit_for_a_moment(
    selling: Appliance,
) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    approve(selling)
    ((pause_s, unseen),) = selling.unseen_at_pauses
    assert pause_s == pytest.approx(SEEN_S)
    assert unseen == 1, "a power cut in it would ask"
    assert not any(each.may_be_unseen for each in selling.journal.standing.sales)


def test_a_sale_says_where_its_milliseconds_went(selling: Appliance) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    selling.now_s += 0.1
    with capture_logs() as logs:
        approve(selling)
    (timed,) = (each for each in logs if each["event"] == "sale_timed")
    ((request, _),) = selling.requests(Deduct)
    assert isinstance(request, Deduct)
    assert (timed["key"], timed["correlation_id"]) == (request.key, request.correlation_id)
    assert timed["outcome"] == "approved"
    assert timed["ms"] == pytest.approx(
        {
            "decode": 10,
            "frame": 10,
            "sign": 0,
            "wire": 98.5,
            "cloud": 1.5,
            "journal": 0,
            "light": 0,
            "total": 120,
        }
    )


def test_a_sale_the_till_ended_alone_is_accounted_for_too(selling: Appliance) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    with capture_logs() as logs:
        selling.wait(4.1)
    (timed,) = (each for each in logs if each["event"] == "sale_timed")
    assert timed["outcome"] == "cancelled: no_reply"
    assert timed["ms"]["cloud"] == 0


def test_a_pin_travels_sealed_for_this_sign_in_and_reaches_no_log(appliance: Appliance) -> None:
    with capture_logs() as logs:
        bring_up(appliance)
    ((request, payload),) = appliance.requests(SignIn)
    assert isinstance(request, SignIn)
    key, device = IdempotencyKey(request.key), DeviceId(DEVICE)
    assert open_pin(request.sealed_pin, PIN_KEY, device, key) == PIN
    assert open_pin(request.sealed_pin, PIN_KEY, device, IdempotencyKey("another")) is None
    assert PIN.encode() not in payload
    assert PIN not in repr(logs)
    assert request.sealed_pin not in repr(logs)
    assert all(PIN.encode() not in path.read_bytes() for path in appliance.state.glob("journal*"))


@pytest.mark.parametrize(
    ("key", "device_id", "reason"),
    [
        (OTHER_KEY, DEVICE, "bad_signature"),
        (REPLY_KEY, "till-2", "reply_for_another_appliance"),
    ],
)
def test_a_reply_that_is_not_the_clouds_word_to_this_till_is_logged_and_ignored(
    selling: Appliance, key: ec.EllipticCurvePrivateKey, device_id: str, reason: str
) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    outcome = Approved("0198c0de", Money(500, "EUR"), Money(1500, "EUR"), "KX7", EPOCH_MS)
    with capture_logs() as logs:
        selling.answer(Deduct, outcome, key, device_id)
    assert isinstance(selling.phase, Asking)
    assert Light.APPROVED not in selling.lights
    assert {"event": "reply_refused", "reason": reason, "log_level": "warning"} in logs
    approve(selling)
    assert selling.light is Light.APPROVED


@pytest.mark.parametrize("payload", [b"", b"rubbish", b"a.b.c", b"\xff\xfe", b"x" * 70_000])
def test_rubbish_on_any_topic_changes_nothing(selling: Appliance, payload: bytes) -> None:
    before = selling.runtime.till
    selling.meet(ReplyBytes(payload, selling.now_s), PolicyBytes(payload))
    assert selling.runtime.till == before


def test_a_reply_whose_signature_is_right_and_whose_content_is_not_is_refused(
    selling: Appliance,
) -> None:
    token = sign(Profile.REPLY, b'{"v": 2}', REPLY_KEY, "r1")
    with capture_logs() as logs:
        selling.meet(ReplyBytes(token.encode(), selling.now_s))
    assert logs[-1]["reason"] == "unsupported_version"


def test_only_a_trusted_policy_counts_and_never_an_older_one(appliance: Appliance) -> None:
    appliance.boot()
    appliance.connect()
    with capture_logs() as logs:
        appliance.send_policy(key=OTHER_KEY)
        assert appliance.phase == WaitingForPolicy()
        appliance.send_policy(a_policy(version=3))
        assert appliance.phase == NobodySignedIn()
        appliance.send_policy(a_policy(version=2))
        appliance.send_policy(a_policy(version=9, device_id="till-2"))
    refused = [each["reason"] for each in logs if each["event"] == "policy_refused"]
    assert refused == [
        "policy_bad_signature",
        "policy_older_than_journaled",
        "policy_for_another_appliance",
    ]
    assert appliance.runtime.till.terms is not None
    assert appliance.runtime.till.terms.policy.version == 3


def test_a_time_zone_this_machine_does_not_know_stops_no_sale(appliance: Appliance) -> None:
    appliance.boot()
    with capture_logs() as logs:
        appliance.send_policy(a_policy(timezone="Mars/Olympus"))
    assert {"event": "time_zone_unknown", "name": "Mars/Olympus", "log_level": "warning"} in logs
    assert appliance.phase == NobodySignedIn()


def test_the_same_bytes_go_out_again(selling: Appliance) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    selling.wait(1.1)
    selling.wait(1.0)
    selling.meet(Disconnected(), Subscribed())
    assert len({payload for _, payload in selling.requests(Deduct)}) == 1
    assert len(selling.requests(Deduct)) == 4
    approve(selling)
    assert selling.light is Light.APPROVED


def test_a_silent_cloud_makes_the_link_reconnect(selling: Appliance) -> None:
    for _ in range(3):
        selling.wait(15.1)
    assert selling.air.drops == 1


def test_a_cancel_names_the_sales_own_entry_and_is_answered_for_good(selling: Appliance) -> None:
    selling.press("500#")
    number = selling.journal.position.last
    selling.scan(a_wallet_qr())
    selling.wait(4.1)
    ((request, _),) = selling.requests(Cancel)
    assert isinstance(request, Cancel)
    assert request.entry == number
    assert selling.air.sent[-1][1] is None
    assert selling.journal.position.settled_below == number
    selling.answer(Cancel, Cancelled(None))
    assert selling.journal.position.settled_below == selling.journal.position.last + 1


def test_a_sign_out_reaches_the_cloud(selling: Appliance) -> None:
    selling.meet(KeyPressed("D", held=True), KeyPressed("#"))
    ((request, _),) = selling.requests(SignOut)
    assert isinstance(request, SignOut)
    assert request.session_id == a_session().session_id


def test_a_disk_that_fails_at_the_replys_fsync_is_a_fault_until_the_journal_opens_again(
    selling: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    selling.journal.close()
    with capture_logs() as logs:
        approve(selling)
    assert Light.APPROVED not in selling.lights
    assert selling.light is Light.FAULT
    assert isinstance(selling.phase, JournalBroken)
    assert any(each["event"] == "journal_fault" for each in logs)
    ((cancel, _),) = selling.requests(Cancel)
    assert isinstance(cancel, Cancel)
    assert cancel.entry > 0
    monkeypatch.setattr(selling.journal, "path", selling.state / "identity" / "key.pem" / "no")
    selling.wait(5.1)
    assert isinstance(selling.phase, JournalBroken)
    monkeypatch.undo()
    selling.wait(5.1)
    assert selling.phase == Ready()
    assert [each.sale.key for each in selling.journal.standing.sales] == [cancel.key]


def test_a_checkpoint_that_fails_between_sales_is_noticed(
    selling: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_cloud_ms: int | None) -> None:
        raise JournalFault("SQLITE_IOERR_FSYNC")

    monkeypatch.setattr(selling.journal, "rest", fail)
    Timer(0.2, selling.inbox.put, (Stop(),)).start()
    selling.runtime.run(lambda: None)
    assert isinstance(selling.phase, JournalBroken)


@pytest.mark.parametrize("is_signed", [True, False])
def test_by_no_other_time_than_the_clouds_does_the_journal_forget(
    selling: Appliance, monkeypatch: pytest.MonkeyPatch, is_signed: bool
) -> None:
    """NTP's word is enough to sell by, and not to throw away what a restored cloud may ask for."""
    anchor = Anchor(EPOCH_MS, selling.now_s, is_signed=is_signed)
    selling.runtime.till = replace(selling.runtime.till, anchor=anchor)
    told: list[int | None] = []
    monkeypatch.setattr(selling.journal, "rest", told.append)
    selling.runtime._rest()
    assert told == [EPOCH_MS if is_signed else None]


def test_a_flood_of_codes_does_not_keep_a_time_out_from_coming(state: Path) -> None:
    appliance = Appliance(state)
    bring_up(appliance)
    appliance.press("500#")
    appliance.scan(a_wallet_qr())
    for _ in range(1000):
        appliance.inbox.put(Scanned("flood", 0.0, 0.0))
    appliance.now_s += 4.1
    appliance.boot()
    assert len(appliance.requests(Cancel)) == 1
    appliance.journal.close()


def test_the_loop_sleeps_until_the_next_deadline_and_stops_when_told(state: Path) -> None:
    appliance = Appliance(state)
    bring_up(appliance)
    appliance.press("500#")
    appliance.scan(a_wallet_qr())
    started = time.monotonic()  # noqa: TID251 -- the loop waits in real time
    offset = appliance.now_s - started
    appliance.runtime._clock = lambda: time.monotonic() + offset + 3.5  # noqa: TID251
    appliance.journal.close()
    thread = Thread(target=appliance.runtime.run, args=(lambda: None,))
    thread.start()
    deadline = started + 20
    while not appliance.requests(Cancel) and time.monotonic() < deadline:  # noqa: TID251
        time.sleep(0.01)
    appliance.inbox.put(Stop())
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(appliance.requests(Cancel)) == 1
    appliance.journal.close()


def test_a_session_and_a_policy_survive_a_restart_as_long_as_their_signatures_count(
    selling: Appliance,
) -> None:
    again = selling.cut_power()
    again.boot()
    assert again.phase == Ready()
    trust = again.state / "identity" / "trust.json"
    trust.write_text(trust.read_text().replace("policy-1", "policy-2"))
    third = again.cut_power()
    with capture_logs() as logs:
        third.boot()
    assert third.phase == WaitingForPolicy()
    assert logs[0]["event"] == "journaled_policy_refused"
    third.journal.close()


def test_a_session_whose_reply_key_was_withdrawn_is_over(selling: Appliance) -> None:
    newer = a_policy(version=2, reply_keys=a_policy().badge_keys)
    selling.send_policy(newer)
    again = selling.cut_power()
    again.boot()
    assert again.phase == NobodySignedIn()
    again.journal.close()


def test_a_state_is_driven_by_one_process(tmp_path: Path) -> None:
    with ExitStack() as first, ExitStack() as second:
        lock_state(tmp_path / "state", first)
        with pytest.raises(AlreadyRunningError):
            lock_state(tmp_path / "state", second)
    with ExitStack() as third:
        lock_state(tmp_path / "state", third)


def sell_until_dark(appliance: Appliance, ledger: dict[str, bool]) -> None:
    """An approved sale, then a time-out whose deduct the cloud did post."""
    bring_up(appliance)
    appliance.press("500#")
    appliance.scan(a_wallet_qr(1))
    ledger[appliance.requests(Deduct)[-1][0].key] = True
    approve(appliance)
    appliance.wait(2.1)
    appliance.press("300#")
    appliance.scan(a_wallet_qr(2))
    ledger[appliance.requests(Deduct)[-1][0].key] = True
    appliance.wait(4.1)


def test_cut_at_every_fsync_the_light_and_the_ledger_agree_after_the_restart(
    state: Path, tmp_path: Path
) -> None:
    cuts = 0
    while True:
        folder = tmp_path / f"cut-{cuts}"
        folder.mkdir()
        (folder / "identity").symlink_to(state / "identity")
        moments = 0

        def cut(moment: object, entries: tuple[Entry, ...], at: int = cuts) -> None:
            nonlocal moments
            moments += 1
            if moments == at + 1:
                raise PowerCut

        appliance = Appliance(folder, on_commit=cut)
        ledger: dict[str, bool] = {}
        try:
            sell_until_dark(appliance, ledger)
            was_cut = False
        except PowerCut:
            was_cut = True
        greens = appliance.lights.count(Light.APPROVED)
        again = appliance.cut_power()
        again.boot()
        again.connect()
        kept = 0
        while isinstance(again.phase, HandedOverAsked):
            again.press("#")
            kept += 1
        cancels = [request.key for request, _ in again.requests(Cancel)]
        for key in cancels:
            ledger[key] = False
        assert Light.APPROVED not in again.lights, "green never lights for a past sale"
        verdicts = list(ledger.values())
        assert verdicts[:1] in ([], [greens + kept > 0]), "deducted: staff saw green or were asked"
        assert verdicts[1:] in ([], [False]), "the sale that timed out is never deducted"
        again.journal.close()
        if not was_cut:
            break
        cuts += 1
    assert cuts >= 14, "epoch, policy, session, sale, answer, light, sale, cancel: before and after"


def test_logs_name_no_event_that_was_not_asked_for(selling: Appliance) -> None:
    with capture_logs() as logs:
        selling.press("500#")
    assert [(each["before"], each["after"]) for each in logs if each["event"] == "transition"] == [
        ("Ready", "KeyingAmount"),
        ("KeyingAmount", "Scanning"),
    ]


def test_the_till_and_the_cloud_learn_how_the_printer_is(selling: Appliance) -> None:
    selling.meet(PrinterChanged(PrinterState.NO_PAPER, 3))
    assert selling.light is Light.READY_NO_PAPER
    before = len(selling.requests(Heartbeat))
    while len(selling.requests(Heartbeat)) == before:
        selling.wait(1)
    heartbeat, _ = selling.requests(Heartbeat)[-1]
    assert isinstance(heartbeat, Heartbeat)
    assert heartbeat.printer == "no paper"
    selling.meet(PrinterChanged(PrinterState.OK, 0))
    assert selling.light is not Light.READY_NO_PAPER


def test_a_heartbeat_says_how_the_appliance_is(selling: Appliance) -> None:
    selling.press("500#")
    selling.scan(a_wallet_qr())
    approve(selling)
    sold_at_ms = EPOCH_MS
    selling.runtime._rest()
    before = len(selling.requests(Heartbeat))
    while len(selling.requests(Heartbeat)) == before:
        selling.wait(1)
    heartbeat, _ = selling.requests(Heartbeat)[-1]
    assert isinstance(heartbeat, Heartbeat)
    assert heartbeat.temperature_c == 47
    assert heartbeat.clock == "cloud"
    assert heartbeat.last_sale_ms == sold_at_ms
    assert heartbeat.queue_in_cents == 0
    assert heartbeat.uptime_s == int(selling.now_s - 1000)


@dataclass
class Changing:
    """Papers that change the certificate at the next rest, when told to."""

    appliance: Appliance
    is_due: bool = False
    answers: int = 0

    def rest(self, rest: Rest) -> bool:
        if self.is_due and rest.is_idle:
            self.is_due = False
            old = load(self.appliance.state)
            self.appliance.runtime._notary.use(replace(old, key=OTHER_KEY, thumbprint="N" * 43))
            self.appliance.public_key = OTHER_KEY.public_key()
        return False

    def heard(self) -> None:
        self.answers += 1

    def warning(self, now_ms: int | None) -> Slip | None:
        assert now_ms is not None
        return None


def test_an_answer_to_what_the_certificate_before_has_signed_proves_nothing_of_the_new_one(
    selling: Appliance,
) -> None:
    papers = selling.runtime._papers = Changing(selling)
    selling.wait(16)
    (*_, (before, bytes_before)) = selling.requests(Heartbeat)
    papers.is_due = True
    selling.runtime._rest()
    late = Reply(
        device_id=DEVICE,
        key=before.key,
        answers="heartbeat",
        request_hash=fingerprint(bytes_before),
        answered_at_ms=EPOCH_MS,
        cloud_us=1500,
        outcome=HeartbeatAnswered(EPOCH_MS, 1),
    )
    selling.meet(ReplyBytes(sign(Profile.REPLY, encode(late), REPLY_KEY, "r1").encode(), 0.0))
    assert papers.answers == 0
    selling.air.sent.clear()
    selling.wait(16)
    selling.answer(Heartbeat, HeartbeatAnswered(EPOCH_MS, 1))
    assert papers.answers == 1


def test_what_waits_when_the_certificate_changes_goes_out_under_the_new_one(
    selling: Appliance,
) -> None:
    papers = selling.runtime._papers = Changing(selling)
    selling.press("500#")
    selling.scan(a_wallet_qr())
    selling.wait(4.1)
    ((cancel, _),) = selling.requests(Cancel)
    selling.wait(10)
    assert isinstance(selling.phase, Ready)
    papers.is_due = True
    selling.runtime._rest()
    selling.air.sent.clear()
    selling.wait(60)
    (again, *_) = selling.requests(Cancel)
    assert again[0].key == cancel.key
    selling.answer(Cancel, Cancelled(None))
    assert selling.runtime.till.outbox == ()
