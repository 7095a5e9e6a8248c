import json
from pathlib import Path
from typing import Any

import pytest

from cloud.payments.built_in import (
    DECLINED_CARD,
    DISPUTED_CARD,
    REFUNDS_FAIL_CARD,
    REFUNDS_WAIT_CARD,
    BuiltInProvider,
    CardAnswer,
)
from cloud.payments.provider import (
    CheckoutRequest,
    CheckoutState,
    ProviderUnreachableError,
    RefundRequest,
    RefundState,
)
from protocol.money import Money

SECRET = b"a secret of the test's own"
REQUEST = CheckoutRequest("payment-1", Money(2000, "EUR"), "https://wallet.test/?topup=payment-1")
GOOD_CARD = "4242 4242 4242 4242"


@pytest.fixture
def provider() -> BuiltInProvider:
    return BuiltInProvider("https://pay.test/", SECRET)


def _said(provider: BuiltInProvider) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in provider.untold()]


def _kinds(provider: BuiltInProvider) -> list[str]:
    return [each["type"] for each in _said(provider)]


def test_a_checkout_asked_for_twice_is_one_and_survives_a_restart(tmp_path: Path) -> None:
    books = tmp_path / "books.sqlite"
    first = BuiltInProvider("https://pay.test/", SECRET, books).open_checkout(REQUEST)
    restarted = BuiltInProvider("https://pay.test", SECRET, books)
    assert restarted.open_checkout(REQUEST) == first
    found = restarted.find_checkout(first.card_page.rpartition("/")[2])
    assert found is not None
    assert (found.amount, found.return_url) == (REQUEST.amount, REQUEST.return_url)
    assert found.reference == first.reference
    assert books.stat().st_mode & 0o077 == 0, "nobody else reads it"


@pytest.mark.parametrize("address", ["", ".", "a.b", "e30.", "ä.ö", "' OR 1 = 1 --"])
def test_an_address_that_is_none_is_refused(provider: BuiltInProvider, address: str) -> None:
    provider.open_checkout(REQUEST)
    assert provider.find_checkout(address) is None


def test_paying_twice_is_one_payment_told_once(provider: BuiltInProvider) -> None:
    checkout = provider.open_checkout(REQUEST)
    assert provider.pay(checkout.reference, GOOD_CARD) is CardAnswer.PAID
    assert provider.pay(checkout.reference, GOOD_CARD) is CardAnswer.PAID
    assert _kinds(provider) == ["payment.succeeded"]


def test_an_expired_checkout_takes_no_card(provider: BuiltInProvider) -> None:
    checkout = provider.open_checkout(REQUEST)
    assert provider.expire_checkout(checkout.reference).state is CheckoutState.EXPIRED
    assert provider.pay(checkout.reference, GOOD_CARD) is CardAnswer.EXPIRED
    assert _kinds(provider) == ["payment.expired"]


def test_what_is_taken_or_given_up_is_told_no_more(provider: BuiltInProvider) -> None:
    checkout = provider.open_checkout(REQUEST)
    provider.pay(checkout.reference, DECLINED_CARD)
    provider.pay(checkout.reference, GOOD_CARD)
    (declined, _), (paid, _) = provider.untold()
    provider.mark_told(declined, taken=False)
    provider.mark_told(paid, taken=True)
    assert provider.untold() == []


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (GOOD_CARD, CardAnswer.PAID),
        (DECLINED_CARD, CardAnswer.DECLINED),
        ("4242", CardAnswer.NOT_A_CARD),
        ("", CardAnswer.NOT_A_CARD),
        ("4242-4242-4242-4242", CardAnswer.NOT_A_CARD),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", CardAnswer.NOT_A_CARD),
    ],
)
def test_cards_pay_or_are_declined_as_the_page_says(
    provider: BuiltInProvider, number: str, answer: CardAnswer
) -> None:
    assert provider.pay(provider.open_checkout(REQUEST).reference, number) is answer


def test_a_card_whose_refunds_fail_fails_for_good(provider: BuiltInProvider) -> None:
    checkout = provider.open_checkout(REQUEST)
    provider.pay(checkout.reference, REFUNDS_FAIL_CARD)
    asked = RefundRequest("refund-1", checkout.reference, Money(500, "EUR"))
    assert provider.refund(asked).state is RefundState.FAILED
    assert provider.refund(asked).state is RefundState.FAILED
    assert _kinds(provider) == ["payment.succeeded", "refund.failed"]


def test_a_card_whose_refunds_take_a_while_is_pending_then_done(provider: BuiltInProvider) -> None:
    checkout = provider.open_checkout(REQUEST)
    provider.pay(checkout.reference, REFUNDS_WAIT_CARD)
    made = provider.refund(RefundRequest("refund-1", checkout.reference, Money(500, "EUR")))
    assert (made.state, _kinds(provider)) == (RefundState.PENDING, ["payment.succeeded"])
    assert made.reference is not None
    assert provider.look_up_refund(made.reference).state is RefundState.DONE
    assert provider.look_up_refund(made.reference).state is RefundState.DONE
    assert _kinds(provider) == ["payment.succeeded", "refund.succeeded"]
    assert _said(provider)[1]["refund_id"] == "refund-1"


def test_a_disputed_payment_cannot_be_refunded_until_the_dispute_is_won(
    provider: BuiltInProvider,
) -> None:
    checkout = provider.open_checkout(REQUEST)
    provider.pay(checkout.reference, DISPUTED_CARD)
    assert _kinds(provider) == ["payment.succeeded", "dispute.opened"]
    assert provider.refund_by_hand(checkout.reference, REQUEST.amount).state is RefundState.FAILED
    provider.win_dispute(_said(provider)[1]["about"])
    assert _kinds(provider)[-1] == "dispute.won"
    assert provider.refund_by_hand(checkout.reference, REQUEST.amount).state is RefundState.DONE
    assert "refund_id" not in _said(provider)[-1], "a refund made by hand is nobody's"


def test_what_it_has_no_books_of_it_does_not_answer_for(provider: BuiltInProvider) -> None:
    for ask in (provider.look_up, provider.expire_checkout, provider.look_up_refund):
        with pytest.raises(ProviderUnreachableError):
            ask("test_unknown")
