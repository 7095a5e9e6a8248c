"""A stage whose cloud knows the true time, denies payers, names keys, and may not be there."""

from dataclasses import dataclass, field, replace
from datetime import UTC

from msgspec import structs

from device.till import effects as do
from device.till.contents import AskForHeartbeat, AskToPostOffline, AskToSignIn
from device.till.entries import Entry, EpochBegan, SaleAcceptedOffline
from device.till.events import (
    Event,
    JournalFailed,
    LinkDown,
    Now,
    PolicyArrived,
    RequestSigned,
)
from protocol.messages import DeniedChanges, HeartbeatAnswered, Outcome, Reply
from protocol.policy import NamedKey, OfflineRules, Policy
from protocol.wallet_qr import WalletToken, issue, to_digits
from tests.device.stage import (
    EPOCH_MS,
    OTHER_KEY,
    PIN,
    WALLET_KEY,
    Sent,
    Stage,
    a_badge,
    a_policy,
    a_session,
)

RULES = OfflineRules(allowed=True)


@dataclass
class Alone(Stage):
    wall_is_set: bool = False
    denied: list[DeniedChanges] = field(default_factory=list[DeniedChanges])
    """What the next answers to heartbeats say of the deny list, one each."""
    wallet_keys: tuple[NamedKey, ...] = ()
    newest_policy: int = 1
    heartbeat_outcome: Outcome | None = None
    """Instead of the usual answer."""
    reply_age_ms: int = 0
    """How long answers were on their way."""
    failing_kind: type[Entry] | None = None
    """The disk fails when such an entry is to be written."""

    @property
    def true_ms(self) -> int:
        return EPOCH_MS + round((self.now_s - 1000.0) * 1000)

    @property
    def reason(self) -> str:
        """Why something was refused last."""
        return self.notes[-1].detail

    @property
    def acceptances(self) -> list[SaleAcceptedOffline]:
        return [each for each in self.journal if isinstance(each, SaleAcceptedOffline)]

    @property
    def uploads(self) -> list[Sent]:
        """As first sent."""
        return [each for each in self.sent if isinstance(each.content, AskToPostOffline)]

    @property
    def uploaded(self) -> list[AskToPostOffline]:
        return [each.content for each in self.uploads if isinstance(each.content, AskToPostOffline)]

    @property
    def heartbeats(self) -> list[AskForHeartbeat]:
        return [each.content for each in self.sent if isinstance(each.content, AskForHeartbeat)]

    def begin_epoch(self, epoch: str) -> None:
        self.journal[:] = [EpochBegan(epoch, self.true_ms)]

    def lose_link(self) -> None:
        self.take(LinkDown())

    def now(self) -> Now:
        return self._now()

    def sell(self, number: int = 1, amount: str = "500", **code: str | int) -> None:
        self.press(f"{amount}#")
        self.show(a_code(self, number, **code))  # type: ignore[arg-type]
        self.wait(2.5)

    def _heartbeat_answer(self, signed: RequestSigned) -> Reply:
        reply = super()._heartbeat_answer(signed)
        answer = HeartbeatAnswered(
            self.true_ms - self.reply_age_ms,
            self.newest_policy,
            resend=self.resend,
            denied=self.denied.pop(0) if self.denied else None,
            wallet_keys=self.wallet_keys,
        )
        return structs.replace(reply, outcome=self.heartbeat_outcome or answer)

    def _now(self) -> Now:
        return replace(super()._now(), wall_is_set=self.wall_is_set)

    def _perform(self, effect: do.Effect) -> Event | None:
        match effect:
            case do.Journal(entries=entries) if self.failing_kind is not None and any(
                isinstance(each, self.failing_kind) for each in entries
            ):
                return JournalFailed(entries)
            case _:
                return super()._perform(effect)


def a_code(
    stage: Alone,
    number: int = 1,
    *,
    payer: str = "payerpayer1",
    oal: int = 2000,
    kid: str = "w1",
    age_s: int = 5,
) -> str:
    """As a phone shows it that is `age_s` into its code, by the true time."""
    issued_s = stage.true_ms // 1000 - age_s
    token = WalletToken(
        sub=payer,
        jti=f"offline-{number:04d}",
        nonce="noncenonce1",
        iat=issued_s,
        exp=issued_s + 90,
        oal=oal,
    )
    return to_digits(issue(token, WALLET_KEY if kid == "w1" else OTHER_KEY, kid))


def selling(policy: Policy | None = None, *, expires_in_s: int = 36_000) -> Alone:
    """Signed in, with a policy that allows offline sales; the cloud is there."""
    stage = Alone()
    stage.begin_epoch("first")
    stage.boot()
    stage.policy = policy or a_policy(offline=RULES)
    stage.connect()
    stage.take(PolicyArrived(stage.policy, UTC, "signed.policy.token"))
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(a_session(expires_in_s), stage.last(AskToSignIn))
    stage.wait(0.1)
    return stage


def cut_off(policy: Policy | None = None) -> Alone:
    """And then it is not."""
    stage = selling(policy)
    stage.lose_link()
    return stage
