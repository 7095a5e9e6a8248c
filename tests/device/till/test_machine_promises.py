"""Whatever happens, in any order: the light never lies, no sale is left open, no PIN leaks."""

from dataclasses import dataclass, field
from datetime import UTC

from hypothesis import example, given, settings
from hypothesis import strategies as st

from device.till import effects as do
from device.till.contents import (
    AskForBalance,
    AskForHeartbeat,
    AskForLastReceipt,
    AskForShiftReport,
    AskToApprove,
    AskToCancel,
    AskToChoosePin,
    AskToDeduct,
    AskToPostAgain,
    AskToPostOffline,
    AskToRefund,
    AskToSignIn,
    AskToSignOut,
)
from device.till.entries import (
    CancelReason,
    LightShown,
    RefundAbandoned,
    RefundAnswered,
    RefundOpened,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
)
from device.till.events import Event, LinkDown, LinkUp, PolicyArrived
from device.till.receipt import Text
from device.till.refunding import SETTLES_NOTHING
from device.till.signals import Light
from device.till.states import HandedOverAsked, JournalBroken, Ready
from protocol.messages import (
    ApprovalGranted,
    Approved,
    BalanceShown,
    Cancelled,
    Declined,
    Outcome,
    Reason,
    Refunded,
    SaleName,
    ShiftReport,
    SignedOut,
)
from protocol.money import Money
from protocol.receipt_qr import write
from tests.device.stage import (
    PIN,
    Sent,
    Stage,
    a_badge,
    a_policy,
    a_session,
    a_wallet_qr,
    approved,
    declined,
)


@dataclass
class Witness(Stage):
    """A stage that writes down what staff saw, and what the cloud decided, sale by sale."""

    greens: list[str] = field(default_factory=list)
    shown_as_not_deducted: set[str] = field(default_factory=set)
    deducted: dict[str, bool] = field(default_factory=dict)
    """The cloud's ledger: whether a key is deducted; a cancelled one never will be."""
    cancelled: set[str] = field(default_factory=set)
    journaled_at_green: list[bool] = field(default_factory=list)
    refunds: dict[str, Refunded | Declined] = field(default_factory=dict)
    """What the cloud gave back, or not, key by key: once and for all."""
    journaled_at_refunded: list[bool] = field(default_factory=list)
    _approvals: int = 0

    def _perform(self, effect: do.Effect) -> Event | None:
        if isinstance(effect, do.AccountForSale):
            if effect.outcome == "approved":
                self.greens.append(effect.key)
            else:
                self.shown_as_not_deducted.add(effect.key)
        if isinstance(effect, do.ShowLight) and effect.light is Light.APPROVED:
            decision = self.journal[-1]
            self.journaled_at_green.append(
                isinstance(decision, SaleAnswered) and isinstance(decision.outcome, Approved)
            )
        if isinstance(effect, do.ShowLight) and effect.light is Light.REFUNDED:
            word = self.journal[-1]
            self.journaled_at_refunded.append(
                isinstance(word, RefundAnswered) and isinstance(word.outcome, Refunded)
            )
        return super()._perform(effect)

    def decide(self, sent: Sent) -> Outcome:  # noqa: PLR0912 -- one branch a kind
        """The cloud, as docs/rules.md's table of keys and outcomes has it."""
        key = sent.content.key
        match sent.content:
            case AskToDeduct(sale=sale):
                if key in self.cancelled:
                    return Cancelled(None)
                self.deducted[key] = True
                return approved(sale.amount.amount_in_cents)
            case AskToCancel():
                self.cancelled.add(key)
                self.deducted[key] = False
                return Cancelled(None)
            case AskToSignIn() | AskToChoosePin():
                return a_session()
            case AskToSignOut(session_id=session_id):
                return SignedOut(session_id)
            case AskToPostAgain(sale=sale):
                self.deducted.setdefault(key, True)
                return approved(sale.amount.amount_in_cents)
            case AskToPostOffline(sale=sale):
                self.deducted.setdefault(key, True)
                return approved(sale.amount.amount_in_cents)
            case AskToRefund(refund=refund):
                return self.refunds.setdefault(key, self._refund(refund))
            case AskToApprove(amount=amount):
                self._approvals += 1
                name = f"approval-{self._approvals:010d}"
                return ApprovalGranted(name, amount or Money(100, "EUR"), self.wall_ms + 300_000)
            case AskForBalance():
                return BalanceShown(Money(1700, "EUR"))
            case AskForLastReceipt():
                return declined(Reason.NO_RECEIPT)
            case AskForShiftReport():
                return ShiftReport("EUR", 0, 0, 0, 0, 0, 0, 0, 0, ())
            case AskForHeartbeat():
                return declined(Reason.MALFORMED)

    def _refund(self, refund: RefundOpened) -> Refunded | Declined:
        """Above 5.00 a supervisor has to agree first."""
        amount = refund.amount or Money(100, "EUR")
        if amount.amount_in_cents > 500 and refund.approval_id is None:
            return declined(Reason.APPROVAL_NEEDED)
        return Refunded("t", amount, 0, Money(1800, "EUR"), refund.key, self.wall_ms)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keys"), st.text("0123456789ABCD*#", min_size=1, max_size=4)),
        st.tuples(st.just("sell"), st.integers(1, 9)),
        st.tuples(st.just("pay"), st.integers(1, 9)),
        st.tuples(st.just("pay on a failing disk"), st.integers(1, 9)),
        st.tuples(st.just("pay and be cut off"), st.integers(1, 9)),
        st.tuples(st.just("hold"), st.sampled_from("*D")),
        st.tuples(st.just("badge"), st.just(0)),
        st.tuples(st.just("wallet"), st.integers(1, 4)),
        st.tuples(st.just("receipt"), st.integers(1, 3)),
        st.tuples(st.just("refund"), st.integers(1, 9)),
        st.tuples(st.just("give back"), st.integers(1, 9)),
        st.tuples(st.just("rubbish"), st.just(0)),
        st.tuples(st.just("decide"), st.integers(1, 3)),
        st.tuples(st.just("decide without an answer"), st.integers(1, 3)),
        st.tuples(st.just("refuse"), st.sampled_from(list(Reason))),
        st.tuples(st.just("replay"), st.integers(1, 6)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 2.5, 4.5, 20.0])),
        st.tuples(st.just("link"), st.booleans()),
        st.tuples(st.just("disk"), st.booleans()),
        st.tuples(st.just("power"), st.just(0)),
        st.tuples(st.just("policy"), st.integers(1, 3)),
    ),
    max_size=40,
)


# One branch a step: the list is long, and each of its entries is short.
def play(stage: Witness, name: str, value: object) -> None:  # noqa: C901, PLR0912, PLR0915
    match name, value:
        case "keys", str():
            stage.press(value)
        case "sell", int():
            stage.press(f"{value}00#")
            stage.show(a_wallet_qr(value))
        case "pay", int():
            play(stage, "sell", value)
            play(stage, "decide", 1)
        case "pay on a failing disk", int():
            play(stage, "sell", value)
            stage.failing_writes = stage.failing_opens = True
            play(stage, "decide", 1)
        case "pay and be cut off", int():
            play(stage, "sell", value)
            play(stage, "decide", 1)
            if stage.journal and isinstance(stage.journal[-1], LightShown):
                # Between the light and the note that it was shown: staff may have seen it or not.
                stage.journal.pop()
            play(stage, "power", 0)
        case "hold", str():
            stage.hold(value)
        case "badge", _:
            stage.show(a_badge())
            stage.press(f"{PIN}#")
        case "wallet", int():
            stage.show(a_wallet_qr(value, payer=f"payerpayer{value}"))
        case "receipt", int():
            stage.show(receipt(value))
        case "refund", int():
            stage.press("B")
            stage.show(receipt(value % 3 + 1))
            stage.press(f"{value}00#")
        case "give back", int():
            play(stage, "refund", value)
            play(stage, "decide", 1)
        case "rubbish", _:
            stage.show("https://example.org")
        case "decide", int() if len(stage.sent) >= value:
            sent = stage.sent[-value]
            stage.answer(stage.decide(sent), sent)
        case "decide without an answer", int() if len(stage.sent) >= value:
            stage.decide(stage.sent[-value])
        case "refuse", Reason() if stage.sent:
            sent = stage.sent[-1]
            # The cloud refuses a key under which it has decided nothing else.
            if isinstance(sent.content, AskToRefund) and value not in SETTLES_NOTHING:
                answer = stage.refunds.setdefault(sent.content.key, declined(value))
                stage.answer(answer, sent)
            if isinstance(sent.content, AskToDeduct) and not stage.deducted.get(sent.content.key):
                stage.deducted[sent.content.key] = False
                stage.cancelled.add(sent.content.key)
                stage.answer(declined(value), sent)
        case "replay", int() if len(stage.sent) >= value:
            sent = stage.sent[-value]
            stage.answer(approved(), sent, {"request_hash": "x" * 43})
        case "wait", float():
            stage.wait(value)
        case "link", bool():
            stage.take(LinkUp() if value else LinkDown())
        case "disk", bool():
            stage.failing_writes = stage.failing_opens = value
        case "power", _:
            stage.cut_power()
        case "policy", int():
            stage.policy = a_policy(version=max(value, _version(stage)))
            stage.take(PolicyArrived(stage.policy, UTC, "token"))
        case _:
            pass


def receipt(number: int) -> str:
    return write(SaleName("till-1", f"sale-{number:012d}"))


def _version(stage: Stage) -> int:
    policy = stage.standing.policy
    return 1 if policy is None else policy.version


def opened() -> Witness:
    witness = Witness(policy=a_policy())
    witness.boot()
    witness.take(LinkUp())
    witness.take(PolicyArrived(a_policy(), UTC, "token"))
    witness.show(a_badge())
    witness.press(f"{PIN}#")
    witness.answer(a_session(), witness.last(AskToSignIn))
    assert witness.till.phase == Ready()
    return witness


def bring_to_rest(stage: Witness) -> None:
    """The disk is well, the cloud answers everything, staff answer every question."""
    stage.failing_writes = stage.failing_opens = False
    stage.take(LinkUp())
    for _ in range(12):
        stage.wait(6)
        if isinstance(stage.till.phase, HandedOverAsked):
            stage.press("#")
        answer_outbox(stage)
    stage.wait(125)
    answer_outbox(stage)


def answer_outbox(stage: Witness) -> None:
    by_hash = {each.request_hash: each for each in stage.sent}
    for message in stage.till.outbox:
        assert message.request_hash is not None, "everything in the outbox was signed"
        sent = by_hash[message.request_hash]
        stage.answer(stage.decide(sent), sent)


def test_the_steps_reach_green_red_faults_and_questions() -> None:
    """What the promises below are worth: a day as their steps make it has all of it in it."""
    stage = opened()
    play(stage, "pay", 5)
    assert stage.light is Light.APPROVED
    play(stage, "wait", 2.5)
    play(stage, "sell", 5)
    play(stage, "refuse", Reason.UNKNOWN_PAYER)
    assert stage.light is Light.DECLINED
    play(stage, "wait", 2.5)
    play(stage, "pay on a failing disk", 5)
    assert stage.light is Light.FAULT
    play(stage, "disk", False)
    play(stage, "wait", 20.0)
    play(stage, "pay and be cut off", 5)
    assert isinstance(stage.till.phase, HandedOverAsked)
    play(stage, "keys", "#")
    play(stage, "link", True)
    play(stage, "wait", 4.5)
    play(stage, "give back", 3)
    assert stage.light is Light.REFUNDED
    play(stage, "wait", 4.5)
    play(stage, "give back", 7)
    assert stage.light is Light.SUPERVISOR
    play(stage, "badge", 0)
    play(stage, "decide", 1)
    play(stage, "decide", 1)
    assert stage.light is Light.REFUNDED


@settings(max_examples=300, deadline=None)
@given(STEPS)
@example(
    [
        ("pay and be cut off", 1),
        ("pay on a failing disk", 1),
        ("hold", "*"),
        ("power", 0),
        ("pay", 1),
    ]
)
def test_the_light_never_lies(steps: list[tuple[str, object]]) -> None:
    stage = opened()
    for name, value in steps:
        play(stage, name, value)
    bring_to_rest(stage)

    assert not isinstance(stage.till.phase, JournalBroken)
    assert all(stage.journaled_at_green), "green only after a journaled approval"
    assert len(stage.greens) == len(set(stage.greens)), "one green a sale"
    kept = {each.key for each in stage.journal if isinstance(each, SaleKept)}
    taken_back = {
        each.key
        for each in stage.journal
        if isinstance(each, SaleCancelled) and each.why is CancelReason.NOT_HANDED_OVER
    }
    for key in set(stage.greens) - taken_back:
        assert stage.deducted[key], "green: deducted"
    for key in taken_back:
        assert not stage.deducted[key], "staff said that nothing was handed over: paid back"
    for key in stage.shown_as_not_deducted:
        assert not stage.deducted.get(key, False), "red or fault: in the end nothing is deducted"
    for key in kept:
        assert stage.deducted[key], "kept by staff: deducted"
    for key, is_deducted in stage.deducted.items():
        if is_deducted:
            assert key in stage.greens or key in kept, "deducted: somebody was told so"


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_sale_ends_and_everything_is_answered(steps: list[tuple[str, object]]) -> None:
    stage = opened()
    for name, value in steps:
        play(stage, name, value)
    bring_to_rest(stage)
    assert stage.standing.sales == ()
    assert stage.standing.sign_outs == ()
    assert stage.standing.refunds == ()
    assert stage.till.outbox == ()
    keys = [each.key for each in stage.journal if isinstance(each, SaleOpened)]
    assert len(keys) == len(set(keys)), "a key opens one sale"


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_sale_has_one_decision(steps: list[tuple[str, object]]) -> None:
    stage = opened()
    for name, value in steps:
        play(stage, name, value)
    shown = {each.key for each in stage.journal if isinstance(each, LightShown)}
    cancelled = {each.key for each in stage.journal if isinstance(each, SaleCancelled)}
    assert shown & cancelled == set()
    assert set(stage.greens) & stage.shown_as_not_deducted == set()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_refund_is_given_once_and_told_and_its_light_never_lies(
    steps: list[tuple[str, object]],
) -> None:
    stage = opened()
    for name, value in steps:
        play(stage, name, value)
    bring_to_rest(stage)
    assert all(stage.journaled_at_refunded), "its light only after a journaled answer"
    begun = [each.key for each in stage.journal if isinstance(each, RefundOpened)]
    abandoned = {each.key for each in stage.journal if isinstance(each, RefundAbandoned)}
    assert len(begun) == len(set(begun)), "a key opens one refund"
    assert set(stage.refunds) <= set(begun), "asked for only what is journaled"
    assert not abandoned & set(stage.refunds), "abandoned: never asked for"
    told = {line.text for slip in stage.slips for line in slip.lines if isinstance(line, Text)}
    for key, answer in stage.refunds.items():
        if isinstance(answer, Refunded):
            assert key in told, "given back: there is a slip"


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_no_repr_and_no_journal_entry_ever_holds_a_pin(steps: list[tuple[str, object]]) -> None:
    stage = opened()
    for name, value in steps:
        play(stage, name, value)
    assert all(PIN not in each for each in stage.seen)
    assert all(PIN not in repr(each) for each in stage.journal)
