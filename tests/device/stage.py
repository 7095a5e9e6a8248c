"""A till on a stage: its effects are done in memory, and the time is what the test says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs

from device.till import effects as do
from device.till.contents import (
    AskToCancel,
    AskToDeduct,
    AskToSignIn,
    Content,
    kind_of,
)
from device.till.entries import Entry
from device.till.events import (
    Event,
    JournalFailed,
    JournalOpened,
    KeyPressed,
    LinkUp,
    Now,
    OwnRecalled,
    PolicyArrived,
    QrSeen,
    ReplyArrived,
    RequestSigned,
    SettledRecalled,
    Tick,
)
from device.till.machine import step
from device.till.receipt import Slip, Text
from device.till.resending import settled_sales
from device.till.signals import Light, Sound
from device.till.standing import Standing
from device.till.states import Ready, Till, deadline_of
from protocol.encoding import public_key_to_text
from protocol.ids import CorrelationId, IdempotencyKey
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    HeartbeatAnswered,
    Outcome,
    Reason,
    Reply,
    Resend,
    SignedIn,
)
from protocol.money import Money
from protocol.policy import Badge, NamedKey, Policy, Product, sign_badge
from protocol.wallet_qr import WalletToken, issue, to_digits

DEVICE = "till-1"
EPOCH_MS = 1_780_000_000_000
WALLET_KEY = ec.generate_private_key(ec.SECP256R1())
REPLY_KEY = ec.generate_private_key(ec.SECP256R1())
BADGE_KEY = ec.generate_private_key(ec.SECP256R1())
PIN_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
PIN = "739105"
PRODUCTS = (Product(1, "Beer", 450), Product(3, "Water", 200), Product(7, "Napkin", 0))


def named(kid: str, key: ec.EllipticCurvePrivateKey) -> NamedKey:
    return NamedKey(kid, public_key_to_text(key.public_key()))


def a_policy(version: int = 1, **changes: Any) -> Policy:
    policy = Policy(
        version=version,
        device_id=DEVICE,
        issued_at_ms=EPOCH_MS,
        expires_at_ms=EPOCH_MS + 7 * 24 * 3600 * 1000,
        event_id="summer",
        event_name="Summer Fair",
        stall_id="bar",
        stall_name="North Bar",
        currency="EUR",
        products=PRODUCTS,
        wallet_keys=(named("w1", WALLET_KEY),),
        reply_keys=(named("r1", REPLY_KEY),),
        badge_keys=(named("b1", BADGE_KEY),),
        pin_key=named("p1", PIN_KEY),
    )
    return structs.replace(policy, **changes)


@cache
def a_badge(event_id: str = "summer", key: ec.EllipticCurvePrivateKey = BADGE_KEY) -> str:
    return sign_badge(Badge(1, "AAAAAAAAAAA", "ada", event_id), key, "b1")


@cache
def a_wallet_qr(
    number: int = 1,
    *,
    key: ec.EllipticCurvePrivateKey = WALLET_KEY,
    kid: str = "w1",
    issued_s: int = EPOCH_MS // 1000,
    payer: str = "payerpayer1",
) -> str:
    token = WalletToken(
        sub=payer,
        jti=f"token-{number:06d}",
        nonce="noncenonce1",
        iat=issued_s,
        exp=issued_s + 90,
    )
    return to_digits(issue(token, key, kid))


def a_session(expires_in_s: int = 3600, stall_id: str = "bar") -> SignedIn:
    return SignedIn(
        session_id="session-0123456789",
        staff_id="ada",
        initials="AL",
        event_id="summer",
        stall_id=stall_id,
        expires_at_ms=EPOCH_MS + expires_in_s * 1000,
    )


def approved(cents: int = 500, balance: int = 1500, currency: str = "EUR") -> Approved:
    return Approved(
        transaction_id="0198c0de",
        amount=Money(cents, currency),
        balance=Money(balance, currency),
        code="KX7-42P",
        at_ms=EPOCH_MS,
    )


def declined(reason: Reason, balance: int | None = None) -> Declined:
    return Declined(reason, None if balance is None else Money(balance, "EUR"))


@dataclass
class Sent:
    """A request as it left: what the till wanted to say and the hash it went out under."""

    content: Content
    request_hash: str
    expiry_s: int | None


@dataclass
class Stage:
    """Performs effects as the runtime does; `journal` is what survives a power cut."""

    till: Till = field(default_factory=Till)
    now_s: float = 1000.0
    wall_ms: int = EPOCH_MS
    journal: list[Entry] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    notes: list[do.Note] = field(default_factory=list)
    accounts: list[do.AccountForSale] = field(default_factory=list)
    reconnects: int = 0
    openings: int = 0
    is_looking: bool = False
    is_answered: bool = True
    """Whether the cloud answers heartbeats."""
    failing_writes: bool = False
    failing_opens: bool = False
    failing_recalls: bool = False
    recalls: int = 0
    resend: Resend | None = None
    """What the cloud asks for in its answers to heartbeats."""
    session_over: str | None = None
    """The session whose end it tells of in its answers to heartbeats."""
    after_print: Callable[[], None] | None = None
    """Something that goes wrong once a slip was printed."""
    policy: Policy | None = None
    """What the journaled policy says when it is opened again."""
    session: SignedIn | None = None
    seen: list[str] = field(default_factory=list)
    """Every repr of every state and effect."""
    _keys: int = 0

    @property
    def light(self) -> Light:
        return self.lights[-1]

    @property
    def standing(self) -> Standing:
        standing = Standing()
        for number, entry in enumerate(self.journal, 1):
            standing = standing.after(number, entry)
        return standing

    def take(self, event: Event) -> None:
        pending = [event]
        while pending:
            event = pending.pop(0)
            self.till, effects = step(self.till, event, self._now())
            self.seen += [repr(self.till), *map(repr, effects)]
            for effect in effects:
                follows = self._perform(effect)
                if follows is not None:
                    pending.append(follows)
                if isinstance(follows, JournalFailed):
                    break
            if isinstance(event, RequestSigned) and event.kind == "heartbeat" and self.is_answered:
                pending.append(ReplyArrived(self._heartbeat_answer(event), "signed.reply.token"))

    def press(self, keys: str) -> None:
        for key in keys:
            self.take(KeyPressed(key))

    def hold(self, key: str) -> None:
        self.take(KeyPressed(key, held=True))

    def show(self, text: str) -> None:
        self.take(QrSeen(text))

    def wait(self, seconds: float) -> None:
        """Let time pass; a tick comes at every deadline on the way."""
        until = self.now_s + seconds
        while (due := deadline_of(self.till)) is not None and due <= until:
            before = self.now_s
            self._pass(max(due, self.now_s))
            self.take(Tick())
            after = deadline_of(self.till)
            assert self.now_s > before or after is None or after > self.now_s, "time stands still"
        self._pass(until)

    def tick(self) -> None:
        self.take(Tick())

    def answer(
        self, outcome: Outcome, to: Sent | None = None, forged: dict[str, str] | None = None
    ) -> None:
        """A verified reply to the last request (or `to`), with whatever is forged about it."""
        sent = self.sent[-1] if to is None else to
        reply = Reply(
            device_id=DEVICE,
            key=sent.content.key,
            answers=kind_of(sent.content),
            request_hash=sent.request_hash,
            answered_at_ms=self.wall_ms,
            outcome=outcome,
        )
        reply = structs.replace(reply, **(forged or {}))
        self.take(ReplyArrived(reply, "signed.reply.token"))

    def last(self, kind: type[Content]) -> Sent:
        return next(each for each in reversed(self.sent) if isinstance(each.content, kind))

    def boot(self) -> None:
        """What the runtime does first."""
        self.till = Till()
        self.take(Tick())

    def connect(self) -> None:
        self.take(LinkUp())

    def cut_power(self) -> None:
        """Everything but the journal is gone; the next boot begins dark."""
        self.lights.append(Light.DARK)
        self.is_looking = False
        self.boot()

    def texts(self) -> list[str]:
        """The plain paragraphs of the last slip."""
        return [line.text for line in self.slips[-1].lines if isinstance(line, Text)]

    def _heartbeat_answer(self, signed: RequestSigned) -> Reply:
        return Reply(
            device_id=DEVICE,
            key=signed.key,
            answers="heartbeat",
            request_hash=signed.request_hash,
            answered_at_ms=self.wall_ms,
            outcome=HeartbeatAnswered(
                self.wall_ms, 1, resend=self.resend, session_over=self.session_over
            ),
        )

    def _pass(self, until: float) -> None:
        self.wall_ms += int((until - self.now_s) * 1000)
        self.now_s = until

    def now(self) -> Now:
        """What the next event would be taken at."""
        return self._now()

    def _now(self) -> Now:
        self._keys += 1
        return Now(
            self.now_s,
            self.wall_ms,
            IdempotencyKey(f"key-{self._keys:012d}"),
            CorrelationId(f"correlation-{self._keys:06d}"),
            IdempotencyKey(f"heartbeat-{self._keys:08d}"),
        )

    def _perform(self, effect: do.Effect) -> Event | None:  # noqa: C901, PLR0912 -- one an effect
        match effect:
            case do.Journal(entries=entries):
                if self.failing_writes:
                    return JournalFailed(entries)
                self.journal += entries
            case do.OpenJournal():
                self.openings += 1
                if self.failing_opens:
                    return JournalFailed(())
                standing = self.standing
                return JournalOpened(
                    standing,
                    self.policy if standing.policy is not None else None,
                    UTC,
                    None if standing.session is None else standing.session.session,
                )
            case do.RecallSettled(restore_id=restore_id, from_entry=from_entry):
                self.recalls += 1
                if self.failing_recalls:
                    return None
                numbered = list(enumerate(self.journal, 1))[max(0, from_entry - 1) :]
                return SettledRecalled(restore_id, settled_sales(numbered))
            case do.RecallOwn(what=what, initials=initials):
                standing = self.standing
                return OwnRecalled(what, initials, standing.last_sale, standing.shift)
            case do.SendRequest(content=content, expiry_s=expiry_s):
                request_hash = f"hash-{len(self.sent):038d}"
                self.sent.append(Sent(content, request_hash, expiry_s))
                return RequestSigned(kind_of(content), content.key, request_hash)
            case do.SendAgain(request_hash=request_hash):
                self.again.append(request_hash)
            case do.Reconnect():
                self.reconnects += 1
            case do.ShowLight(light=light):
                self.lights.append(light)
            case do.MakeSound(sound=sound):
                self.sounds.append(sound)
            case do.Print(slip=slip):
                self.slips.append(slip)
                if self.after_print is not None:
                    self.after_print()
            case do.Look(looking=looking):
                self.is_looking = looking
            case do.AccountForSale():
                self.accounts.append(effect)
            case do.Note():
                self.notes.append(effect)
        return None


def booted() -> Stage:
    stage = Stage()
    stage.boot()
    return stage


def with_policy(policy: Policy | None = None) -> Stage:
    """Connected, with a policy, nobody signed in."""
    stage = booted()
    stage.policy = policy or a_policy()
    stage.connect()
    stage.take(PolicyArrived(stage.policy, UTC, "signed.policy.token"))
    return stage


def ready(policy: Policy | None = None, session: SignedIn | None = None) -> Stage:
    """Somebody is signed in and the till sells."""
    stage = with_policy(policy)
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(session or a_session(), stage.last(AskToSignIn))
    assert stage.till.phase == Ready()
    return stage


def scanning(amount: str = "500") -> Stage:
    """A sale is journaled and the camera looks for a wallet."""
    stage = ready()
    stage.press(f"{amount}#")
    return stage


def asking(amount: str = "500") -> Stage:
    """The deduct is out."""
    stage = scanning(amount)
    stage.show(a_wallet_qr())
    assert isinstance(stage.sent[-1].content, AskToDeduct)
    return stage


def cancelling() -> Stage:
    """No reply came: the cancel is out."""
    stage = asking()
    stage.wait(4.0)
    assert isinstance(stage.last(AskToCancel).content, AskToCancel)
    return stage


def confirm_cancel(stage: Stage) -> None:
    stage.answer(Cancelled(None), stage.last(AskToCancel))
