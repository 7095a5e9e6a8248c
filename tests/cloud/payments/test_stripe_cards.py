import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from cloud.payments.provider import (
    CheckoutRefusedError,
    CheckoutRequest,
    CheckoutState,
    EventKind,
    ProviderEvent,
    ProviderUnreachableError,
    RefundRequest,
    RefundState,
    Unconcerning,
    WebhookRefusal,
)
from cloud.payments.stripe_cards import PAGE_OPEN_FOR, StripeProvider
from cloud.payments.stripe_webhooks import EVENT_TYPES
from protocol.money import Money
from tests.cloud.payments.contract import (
    NOW,
    STRIPE_KEY,
    STRIPE_WEBHOOK_SECRET,
    StripeCounter,
)
from tests.cloud.payments.fake_stripe import FakeStripe, Fault, fake_stripe

AMOUNT = Money(2000, "EUR")
REQUEST = CheckoutRequest("payment-1", AMOUNT, "https://wallet.test/?topup=payment-1", NOW)
REFUND_ID = "refund-1"


@pytest.fixture
def server() -> Iterator[FakeStripe]:
    with fake_stripe() as server:
        yield server


@pytest.fixture
def counter(server: FakeStripe) -> StripeCounter:
    return StripeCounter(server)


def _headers(server: FakeStripe) -> dict[str, str]:
    return {name.lower(): value for name, value in server.asked[-1][3].items()}


def test_a_checkout_says_all_that_brings_its_webhooks_home(
    server: FakeStripe, counter: StripeCounter
) -> None:
    counter.provider.open_checkout(REQUEST)
    [(method, path, said, _)] = server.asked
    assert (method, path) == ("POST", "/v1/checkout/sessions")
    assert said["client_reference_id"] == said["metadata"]["payment_id"] == "payment-1"
    assert said["payment_intent_data"]["metadata"]["payment_id"] == "payment-1"
    assert said["expires_at"] == str(int((NOW + PAGE_OPEN_FOR).timestamp()))
    assert said["success_url"] == said["cancel_url"] == REQUEST.return_url
    assert said["line_items"]["0"]["price_data"]["currency"] == "eur"
    assert said["line_items"]["0"]["price_data"]["unit_amount"] == "2000"
    assert _headers(server)["idempotency-key"] == "payment-1"


def test_stripe_is_told_nothing_of_this_machine(server: FakeStripe, counter: StripeCounter) -> None:
    counter.provider.look_up(counter.provider.open_checkout(REQUEST).reference)
    headers = _headers(server)
    assert "x-stripe-client-telemetry" not in headers
    about = json.loads(headers["x-stripe-client-user-agent"])
    assert not {"platform", "uname", "telemetry_id"} & set(about)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(0),
        Fault(0, is_done=True),
        Fault(500, {"type": "api_error"}),
        Fault(503),
        Fault(429, {"type": "invalid_request_error", "code": "rate_limit"}),
        Fault(401, {"type": "invalid_request_error", "message": f"Invalid API Key: {STRIPE_KEY}"}),
        Fault(403, {"type": "invalid_request_error"}),
        Fault(409, {"type": "idempotency_error"}),
    ],
)
def test_what_is_no_answer_is_told_as_none_and_the_same_again_goes_on(
    server: FakeStripe, counter: StripeCounter, fault: Fault
) -> None:
    server.faults = [fault]
    with pytest.raises(ProviderUnreachableError) as raised:
        counter.provider.open_checkout(REQUEST)
    assert STRIPE_KEY not in str(raised.value)
    assert raised.value.__cause__ is None
    opened = counter.provider.open_checkout(REQUEST)
    assert list(server.sessions) == [opened.reference], "one checkout, however often it was asked"


@pytest.mark.parametrize("call", ["look_up", "expire", "look_up_refund", "refund"])
def test_each_call_says_when_stripe_does_not_answer(
    server: FakeStripe, counter: StripeCounter, call: str
) -> None:
    provider = counter.provider
    opened = provider.open_checkout(REQUEST)
    server.faults = [Fault(500), Fault(500)]
    calls: dict[str, Callable[[], object]] = {
        "look_up": partial(provider.look_up, opened.reference),
        "expire": partial(provider.expire_checkout, opened.reference),
        "look_up_refund": partial(provider.look_up_refund, "re_1"),
        "refund": partial(provider.refund, RefundRequest(REFUND_ID, opened.reference, AMOUNT)),
    }
    with pytest.raises(ProviderUnreachableError):
        calls[call]()


def test_a_checkout_that_stripe_will_not_open_is_refused_for_good(counter: StripeCounter) -> None:
    too_small = CheckoutRequest("payment-2", Money(49, "EUR"), "https://wallet.test/", NOW)
    with pytest.raises(CheckoutRefusedError, match="amount_too_small"):
        counter.provider.open_checkout(too_small)


def test_a_refund_whose_answer_was_lost_is_found_and_not_made_again(
    server: FakeStripe, counter: StripeCounter
) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    asked = RefundRequest(REFUND_ID, opened.reference, Money(500, "EUR"))
    provider = counter.provider
    # Found, listed, and made; the last answer never comes.
    server.faults = [None, None, Fault(0, is_done=True)]
    with pytest.raises(ProviderUnreachableError):
        provider.refund(asked)
    # Stripe forgets its keys after a day.
    server.kept.clear()
    assert provider.refund(asked).state is RefundState.DONE
    assert [each["amount"] for each in server.refunds.values()] == [500]


def test_a_refund_that_waits_for_funds_is_not_given_up(
    server: FakeStripe, counter: StripeCounter
) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    short = Fault(400, {"type": "invalid_request_error", "code": "balance_insufficient"})
    server.faults = [None, None, short]
    asked = RefundRequest(REFUND_ID, opened.reference, AMOUNT)
    with pytest.raises(ProviderUnreachableError):
        counter.provider.refund(asked)
    assert counter.provider.refund(asked).state is RefundState.DONE


def test_a_session_that_completed_unpaid_is_open_until_its_payment_is_called_off(
    server: FakeStripe, counter: StripeCounter
) -> None:
    opened = counter.provider.open_checkout(REQUEST)
    counter.pay(opened.reference)
    session = server.sessions[opened.reference]
    session["payment_status"] = "unpaid"
    server.intents[session["payment_intent"]]["status"] = "processing"
    assert counter.provider.look_up(opened.reference).state is CheckoutState.OPEN
    server.intents[session["payment_intent"]]["status"] = "canceled"
    assert counter.provider.look_up(opened.reference).state is CheckoutState.EXPIRED


def test_keys_are_in_no_repr_and_no_log(
    server: FakeStripe, counter: StripeCounter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = [Fault(401, {"message": f"Invalid API Key provided: {STRIPE_KEY}"})]
    with pytest.raises(ProviderUnreachableError):
        counter.provider.open_checkout(REQUEST)
    counter.provider.open_checkout(REQUEST)
    seen = caplog.text + repr(counter.provider) + str(vars(counter.provider).keys())
    assert STRIPE_KEY not in seen
    assert STRIPE_WEBHOOK_SECRET not in seen


# Payloads in the shape of Stripe's reference, with members that nobody here reads.


def _event(kind: str, thing: dict[str, Any]) -> bytes:
    event = {
        "id": "evt_1QrT2eLkdIwHu7ix8n2x0Abc",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": 1781978400,
        "data": {"object": thing, "previous_attributes": {}},
        "livemode": False,
        "pending_webhooks": 2,
        "request": {"id": "req_8gVw", "idempotency_key": "8a1f"},
        "type": kind,
    }
    return json.dumps(event, indent=2).encode()


def _session(**changes: Any) -> dict[str, Any]:
    return {
        "id": "cs_test_a1b2",
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "amount_subtotal": 2000,
        "amount_total": 2000,
        "client_reference_id": "0197c0de-0000-7000-8000-000000000000",
        "currency": "eur",
        "customer": None,
        "customer_details": {"email": "ana@example.org", "name": "Ana"},
        "expires_at": 1781985600,
        "livemode": False,
        "metadata": {"payment_id": "0197c0de-0000-7000-8000-000000000000"},
        "mode": "payment",
        "payment_intent": "pi_3Qr",
        "payment_method_types": ["card"],
        "payment_status": "paid",
        "status": "complete",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "url": None,
    } | changes


def _intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_3Qr",
        "object": "payment_intent",
        "amount": 2000,
        "amount_received": 0,
        "currency": "eur",
        "last_payment_error": {"code": "card_declined", "type": "card_error"},
        "latest_charge": "ch_3Qr",
        "metadata": {"payment_id": "0197c0de-0000-7000-8000-000000000000"},
        "status": "requires_payment_method",
    } | changes


def _refund(**changes: Any) -> dict[str, Any]:
    return {
        "id": "re_3Qr",
        "object": "refund",
        "amount": 700,
        "balance_transaction": "txn_3Qr",
        "charge": "ch_3Qr",
        "currency": "eur",
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": {},
        "payment_intent": "pi_3Qr",
        "reason": None,
        "receipt_number": None,
        "status": "succeeded",
    } | changes


def _charge(**changes: Any) -> dict[str, Any]:
    return {
        "id": "ch_3Qr",
        "object": "charge",
        "amount": 2000,
        "amount_refunded": 700,
        "billing_details": {"email": "ana@example.org"},
        "currency": "eur",
        "payment_intent": "pi_3Qr",
        "payment_method_details": {"card": {"brand": "visa", "last4": "4242"}, "type": "card"},
        "refunded": False,
    } | changes


def _dispute(**changes: Any) -> dict[str, Any]:
    return {
        "id": "dp_3Qr",
        "object": "dispute",
        "amount": 2000,
        "balance_transactions": [],
        "charge": "ch_3Qr",
        "currency": "eur",
        "evidence_details": {"due_by": 1782432000, "has_evidence": False},
        "is_charge_refundable": False,
        "metadata": {},
        "payment_intent": "pi_3Qr",
        "reason": "fraudulent",
        "status": "needs_response",
    } | changes


_OLD_REFUNDS = {"object": "list", "data": [_refund(), _refund(id="re_1")], "has_more": False}
_RECORDED = [
    ("checkout.session.completed", _session(), EventKind.PAID, 2000),
    ("checkout.session.async_payment_succeeded", _session(), EventKind.PAID, 2000),
    (
        "checkout.session.async_payment_failed",
        _session(payment_status="unpaid"),
        EventKind.FAILED,
        2000,
    ),
    (
        "checkout.session.expired",
        _session(payment_status="unpaid", status="expired", payment_intent=None),
        EventKind.EXPIRED,
        2000,
    ),
    ("payment_intent.payment_failed", _intent(), EventKind.FAILED, 2000),
    ("charge.refunded", _charge(refunds=_OLD_REFUNDS), EventKind.REFUND_DONE, 700),
    ("charge.refund.updated", _refund(), EventKind.REFUND_DONE, 700),
    ("refund.created", _refund(), EventKind.REFUND_DONE, 700),
    ("refund.updated", _refund(), EventKind.REFUND_DONE, 700),
    ("refund.updated", _refund(status="canceled"), EventKind.REFUND_FAILED, 700),
    ("refund.failed", _refund(status="failed"), EventKind.REFUND_FAILED, 700),
    ("charge.dispute.created", _dispute(), EventKind.DISPUTED, 2000),
    ("charge.dispute.funds_withdrawn", _dispute(), EventKind.DISPUTED, 2000),
    ("charge.dispute.closed", _dispute(status="won"), EventKind.DISPUTE_WON, 2000),
    ("charge.dispute.funds_reinstated", _dispute(status="won"), EventKind.DISPUTE_WON, 2000),
]
_OF_NO_CONCERN = [
    ("customer.created", {"id": "cus_1", "object": "customer"}),
    ("checkout.session.completed", _session(payment_status="unpaid")),
    # Another shop's, on the same account.
    ("checkout.session.completed", _session(client_reference_id=None)),
    ("payment_intent.payment_failed", _intent(metadata={})),
    ("refund.created", _refund(status="pending")),
    ("refund.created", _refund(payment_intent=None)),
    # Since version 2022-11-15: `refund.created` tells.
    ("charge.refunded", _charge()),
    ("charge.dispute.created", _dispute(status="warning_needs_response")),
    ("charge.dispute.closed", _dispute(status="lost")),
    ("charge.dispute.closed", _dispute(status="warning_closed")),
    ("charge.dispute.created", _dispute(payment_intent=None)),
]


def _read(body: bytes) -> object:
    with fake_stripe() as server:
        counter = StripeCounter(server)
        return counter.provider.read_webhook(body, counter.sign(body, NOW), NOW)


@pytest.mark.parametrize(("kind", "thing", "means", "cents"), _RECORDED)
def test_a_recorded_webhook_is_read_as_stripe_means_it(
    kind: str, thing: dict[str, Any], means: EventKind, cents: int
) -> None:
    read = _read(_event(kind, thing))
    assert isinstance(read, ProviderEvent)
    assert (read.kind, read.amount) == (means, Money(cents, "EUR"))
    assert (read.provider, read.event_id) == ("stripe", "evt_1QrT2eLkdIwHu7ix8n2x0Abc")
    named = means in {EventKind.PAID, EventKind.EXPIRED} or thing["object"] == "checkout.session"
    assert read.reference == ("cs_test_a1b2" if named else "pi_3Qr")


def test_every_kind_that_is_subscribed_to_is_read() -> None:
    assert {kind for kind, *_ in _RECORDED} == set(EVENT_TYPES)


@pytest.mark.parametrize(("kind", "thing"), _OF_NO_CONCERN)
def test_a_webhook_that_moves_no_money_here_is_taken_and_changes_nothing(
    kind: str, thing: dict[str, Any]
) -> None:
    assert _read(_event(kind, thing)) == Unconcerning(
        "stripe", "evt_1QrT2eLkdIwHu7ix8n2x0Abc", kind
    )


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        ("checkout.session.completed", _session(amount_total=None)),
        ("checkout.session.completed", _session(amount_total=0)),
        ("checkout.session.completed", _session(currency="jpy")),
        ("checkout.session.completed", {"object": "checkout.session"}),
        ("refund.created", _refund(amount=-700)),
        ("refund.created", _refund(amount="700")),
        ("charge.dispute.created", _dispute(id="x" * 300)),
    ],
)
def test_a_webhook_that_cannot_be_meant_is_refused(kind: str, thing: dict[str, Any]) -> None:
    assert _read(_event(kind, thing)) is WebhookRefusal.MALFORMED


def test_two_signatures_count_while_a_secret_is_changed(counter: StripeCounter) -> None:
    body = _event("refund.created", _refund())
    right = counter.sign(body, NOW).partition(",")[2]
    signature = f"t={int(NOW.timestamp())},v1={'0' * 64},{right}"
    assert isinstance(counter.provider.read_webhook(body, signature, NOW), ProviderEvent)
    late = NOW + timedelta(seconds=301)
    assert counter.provider.read_webhook(body, signature, late) is WebhookRefusal.STALE


def test_another_endpoints_secret_signs_nothing_here() -> None:
    with fake_stripe() as server:
        other = StripeProvider(STRIPE_KEY, "whsec_another", server.url)
        body = _event("refund.created", _refund())
        signature = StripeCounter(server).sign(body, NOW)
        assert other.read_webhook(body, signature, NOW) is WebhookRefusal.SIGNATURE_WRONG
