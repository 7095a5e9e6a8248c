import pytest

from cloud.payments.built_in import BuiltInProvider, CardAnswer
from cloud.payments.provider import CheckoutRequest, EventKind
from protocol.money import Money

PROVIDER = BuiltInProvider("https://pay.test/", b"a secret of the test's own")
REQUEST = CheckoutRequest("payment-1", Money(2000, "EUR"), "https://wallet.test/?topup=payment-1")


def test_a_checkout_asked_for_twice_is_one_and_survives_a_restart() -> None:
    first = PROVIDER.open_checkout(REQUEST)
    restarted = BuiltInProvider("https://pay.test", b"a secret of the test's own")
    assert restarted.open_checkout(REQUEST) == first
    found = restarted.find_checkout(first.card_page.rpartition("/")[2])
    assert found is not None
    assert (found.amount, found.return_url) == (REQUEST.amount, REQUEST.return_url)
    assert found.reference == first.reference


def test_a_checkout_of_another_providers_making_is_none() -> None:
    other = BuiltInProvider("https://pay.test", b"another secret altogether")
    address = other.open_checkout(REQUEST).card_page.rpartition("/")[2]
    assert PROVIDER.find_checkout(address) is None


@pytest.mark.parametrize("address", ["", ".", "a.b", "e30.", "ä.ö"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    assert PROVIDER.find_checkout(address) is None


def test_the_same_event_has_the_same_name_however_often_it_is_told() -> None:
    checkout = PROVIDER.find_checkout(PROVIDER.open_checkout(REQUEST).card_page.rpartition("/")[2])
    assert checkout is not None
    paid = PROVIDER.webhook(checkout, EventKind.PAID)
    assert PROVIDER.webhook(checkout, EventKind.PAID) == paid
    assert PROVIDER.webhook(checkout, EventKind.FAILED) != paid


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("4242 4242 4242 4242", CardAnswer.PAID),
        ("4000000000000002", CardAnswer.DECLINED),
        ("4242", CardAnswer.NOT_A_CARD),
        ("", CardAnswer.NOT_A_CARD),
        ("4242-4242-4242-4242", CardAnswer.NOT_A_CARD),
        ("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", CardAnswer.NOT_A_CARD),
    ],
)
def test_cards_pay_or_are_declined_as_the_page_says(number: str, answer: CardAnswer) -> None:
    assert PROVIDER.answer_card(number) is answer
