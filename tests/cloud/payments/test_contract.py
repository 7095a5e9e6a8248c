from collections.abc import Iterator
from datetime import timedelta

import pytest

from cloud.payments.provider import (
    CheckoutRequest,
    CheckoutState,
    EventKind,
    ProviderUnreachableError,
    RefundRequest,
    RefundState,
    WebhookRefusal,
)
from protocol.money import Money
from tests.cloud.payments.contract import NOW, BuiltInCounter, Counter, StripeCounter
from tests.cloud.payments.fake_stripe import fake_stripe

AMOUNT = Money(2000, "EUR")
REQUEST = CheckoutRequest("payment-1", AMOUNT, "https://wallet.test/?topup=payment-1", NOW)


@pytest.fixture(params=["test", "stripe"])
def counter(request: pytest.FixtureRequest) -> Iterator[Counter]:
    if request.param == "test":
        yield BuiltInCounter()
        return
    with fake_stripe() as server:
        yield StripeCounter(server)


def _refund(reference: str, cents: int, refund_id: str = "refund-1") -> RefundRequest:
    return RefundRequest(refund_id, reference, Money(cents, "EUR"))


def test_it_has_the_name_that_its_payments_are_kept_under(counter: Counter) -> None:
    assert counter.provider.name in {"test", "stripe"}


def test_the_same_checkout_asked_for_twice_is_one(counter: Counter) -> None:
    first = counter.provider.open_checkout(REQUEST)
    assert counter.provider.open_checkout(REQUEST) == first
    assert first.card_page.startswith("https://")


def test_an_open_checkout_is_open_for_its_amount(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    status = counter.provider.look_up(opened.reference)
    assert (status.state, status.amount) == (CheckoutState.OPEN, AMOUNT)
    assert status.reference == opened.reference


def test_a_paid_checkout_is_told_and_looked_up_alike(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    [told] = counter.events()
    assert (told.kind, told.reference, told.amount) == (EventKind.PAID, opened.reference, AMOUNT)
    status = counter.provider.look_up(opened.reference)
    assert (status.state, status.amount, status.charge) == (
        CheckoutState.PAID,
        AMOUNT,
        told.charge,
    )


def test_letting_go_of_a_checkout_is_confirmed_and_may_be_asked_again(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    for _ in range(2):
        assert counter.provider.expire_checkout(opened.reference).state is CheckoutState.EXPIRED
    [told] = counter.events()
    assert (told.kind, told.reference, told.amount) == (EventKind.EXPIRED, opened.reference, AMOUNT)


def test_letting_go_of_a_checkout_that_was_paid_says_so(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    assert counter.provider.expire_checkout(opened.reference).state is CheckoutState.PAID


def test_a_declined_card_is_told_and_the_checkout_stays_open(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.decline(opened.reference)
    [told] = counter.events()
    assert (told.kind, told.amount) == (EventKind.FAILED, AMOUNT)
    # By the checkout, or by our own name for it.
    assert told.reference == opened.reference or told.payment_id == REQUEST.payment_id
    assert counter.provider.look_up(opened.reference).state is CheckoutState.OPEN


def test_a_refund_asked_for_twice_gives_back_once(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    counter.events()
    first = counter.provider.refund(_refund(opened.reference, 1500))
    assert first.state is RefundState.DONE
    assert counter.provider.refund(_refund(opened.reference, 1500)) == first
    [told] = counter.events()
    assert (told.kind, told.amount) == (EventKind.REFUND_DONE, Money(1500, "EUR"))
    assert (told.refund_id, told.about) == ("refund-1", first.reference)
    rest = counter.provider.refund(_refund(opened.reference, 500, "refund-2"))
    assert rest.state is RefundState.DONE


def test_more_than_was_paid_is_never_given_back(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    assert counter.provider.refund(_refund(opened.reference, 1500)).state is RefundState.DONE
    over = counter.provider.refund(_refund(opened.reference, 501, "refund-2"))
    assert over.state is RefundState.FAILED


def test_nothing_is_given_back_of_what_nobody_paid(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    assert counter.provider.refund(_refund(opened.reference, 1)).state is RefundState.FAILED


def test_a_refund_that_takes_a_while_is_pending_first(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference, refunds="slowly")
    counter.events()
    made = counter.provider.refund(_refund(opened.reference, 2000))
    assert made.state is RefundState.PENDING
    assert made.reference is not None
    assert counter.events() == []
    if isinstance(counter, StripeCounter):
        counter.server.change_refund(made.reference, "succeeded")
    assert counter.provider.look_up_refund(made.reference).state is RefundState.DONE
    [told] = counter.events()
    assert (told.kind, told.about) == (EventKind.REFUND_DONE, made.reference)


def test_a_refund_that_the_cards_bank_sends_back_is_told(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    made = counter.provider.refund(_refund(opened.reference, 2000))
    assert made.reference is not None
    counter.events()
    counter.return_refund(made.reference)
    [told] = counter.events()
    assert (told.kind, told.refund_id) == (EventKind.REFUND_FAILED, "refund-1")
    assert told.about == made.reference
    assert counter.provider.look_up_refund(made.reference).state is RefundState.FAILED


def test_a_refund_made_by_hand_is_nobodys(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    [paid] = counter.events()
    counter.refund_by_hand(opened.reference, Money(700, "EUR"))
    [told] = counter.events()
    assert (told.kind, told.amount) == (EventKind.REFUND_DONE, Money(700, "EUR"))
    assert told.refund_id is None
    assert told.reference in {paid.reference, paid.charge}


def test_a_dispute_and_its_end_have_one_name(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    [paid] = counter.events()
    name = counter.dispute(opened.reference)
    [opened_dispute] = counter.events()
    assert (opened_dispute.kind, opened_dispute.amount) == (EventKind.DISPUTED, AMOUNT)
    refused = counter.provider.refund(_refund(opened.reference, 100))
    assert refused.state is RefundState.FAILED, "the money is not there"
    counter.events()
    counter.win(name)
    [won] = counter.events()
    assert won.kind is EventKind.DISPUTE_WON
    assert opened_dispute.about == won.about == name
    assert opened_dispute.reference in {paid.reference, paid.charge}


def test_what_it_never_heard_of_it_does_not_answer_for(counter: Counter) -> None:
    for ask in (counter.provider.look_up, counter.provider.expire_checkout):
        with pytest.raises(ProviderUnreachableError):
            ask("cs_test_unknown")
    with pytest.raises(ProviderUnreachableError):
        counter.provider.look_up_refund("re_unknown")


def test_only_what_it_signed_just_now_is_believed(counter: Counter) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    [body] = counter.bodies()
    signed = counter.sign(body, NOW)

    def read(body: bytes, signature: str, late_s: int = 0) -> object:
        return counter.provider.read_webhook(body, signature, NOW + timedelta(seconds=late_s))

    assert read(body, "") is WebhookRefusal.SIGNATURE_MISSING
    for forged in ("t=1", "v1=00", "nonsense", f"t=1,v1={'0' * 64}", signed.replace("v1", "v0")):
        assert read(body, forged) is WebhookRefusal.SIGNATURE_WRONG
    assert read(body.replace(b"2000", b"9000"), signed) is WebhookRefusal.SIGNATURE_WRONG
    assert read(b"\xff" + body, signed) is WebhookRefusal.SIGNATURE_WRONG
    later = f"t={int(NOW.timestamp()) + 400},{signed.partition(',')[2]}"
    assert read(body, later, 400) is WebhookRefusal.SIGNATURE_WRONG
    assert read(body, signed, 301) is WebhookRefusal.STALE
    assert read(body, signed, -301) is WebhookRefusal.STALE
    assert not isinstance(read(body, signed, 299), WebhookRefusal)
    for nonsense in (b"", b"[]", b"{}", b'{"id":"x","type":"payment.succeeded"}'):
        assert read(nonsense, counter.sign(nonsense, NOW)) is WebhookRefusal.MALFORMED
