from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import (
    Checkout,
    CheckoutRequest,
    ProviderEvent,
    ProviderUnreachableError,
    WebhookRefusal,
)
from cloud.payments.webhook_signature import sign_webhook
from cloud.store.tables import payments
from protocol.messages import PostedOffline
from tests.cloud.api.edge import SECRET, URL, Edge


def test_credits_come_with_the_providers_word_and_not_before(edge: Edge) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    assert opened["card_page"].startswith(f"{URL}/test-provider/pay/")
    assert _status(edge, attendee, opened) == "pending"
    assert edge.floor.balance(attendee.guest) == 0

    assert edge.tell(edge.webhook(opened["id"], 2000)).json() == {"outcome": "credited"}
    assert _status(edge, attendee, opened) == "paid"
    assert edge.floor.balance(attendee.guest) == 2000
    [purchase] = edge.floor.transactions(attendee.guest)
    assert (purchase.type, purchase.reference) == ("Purchase", f"test_{opened['id']}")


def test_the_same_key_opens_one_payment_and_gets_the_first_answer(edge: Edge) -> None:
    attendee = edge.sign_in()
    first = edge.open_top_up(attendee)
    edge.tell(edge.webhook(first.json()["id"], 2000))
    again = edge.open_top_up(attendee)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert _payments(edge) == 1


def test_the_same_key_with_another_amount_is_refused(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.open_top_up(attendee, 2000)
    other = edge.open_top_up(attendee, 5000)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert _payments(edge) == 1


def test_two_attendees_may_use_the_same_key(edge: Edge) -> None:
    assert edge.open_top_up(edge.sign_in()).status_code == 201
    assert edge.open_top_up(edge.sign_in()).status_code == 201
    assert _payments(edge) == 2


@pytest.mark.parametrize("key", [None, "", "short", "x" * 65, "has spaces in the key"])
def test_a_top_up_without_a_proper_key_is_refused(lone_edge: Edge, key: str | None) -> None:
    attendee = lone_edge.sign_in()
    headers = attendee.headers if key is None else attendee.headers | {"Idempotency-Key": key}
    answer = lone_edge.http.post(
        "/v1/topups", json={"amount_in_cents": 2000, "currency": "EUR"}, headers=headers
    )
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["errors"][0]
    assert _payments(lone_edge) == 0


@pytest.mark.parametrize(
    ("cents", "currency", "status"),
    [
        (99, "EUR", 422),
        (50_001, "EUR", 422),
        (0, "EUR", 422),
        (-2000, "EUR", 422),
        (20.5, "EUR", 422),
        ("2000", "EUR", 422),
        (2000, "SEK", 422),
        (2000, "JPY", 422),
        (2000, "eur", 422),
    ],
)
def test_an_amount_or_currency_that_nobody_sells_in_is_refused(
    lone_edge: Edge, cents: Any, currency: str, status: int
) -> None:
    answer = lone_edge.http.post(
        "/v1/topups",
        json={"amount_in_cents": cents, "currency": currency},
        headers=lone_edge.sign_in().headers | {"Idempotency-Key": "k" * 20},
    )
    assert answer.status_code == status
    assert _payments(lone_edge) == 0


def test_a_forged_webhook_credits_nothing_and_is_recorded(edge: Edge) -> None:
    attendee = edge.sign_in()
    body = edge.webhook(edge.open_top_up(attendee).json()["id"], 2000)
    for signature in (
        "",
        "t=1,v1=" + "0" * 64,
        sign_webhook(body, b"another secret altogether", edge.floor.now()),
        sign_webhook(body.replace(b"2000", b"9000"), SECRET, edge.floor.now()),
    ):
        assert edge.tell(body, signature).status_code == 400
    assert edge.floor.balance(attendee.guest) == 0
    refused = [row.outcome for row in edge.floor.audit(action="webhook")]
    assert refused == ["signature_missing", *["signature_wrong"] * 3]


def test_a_recorded_webhook_is_worth_nothing_later(edge: Edge) -> None:
    attendee = edge.sign_in()
    body = edge.webhook(edge.open_top_up(attendee).json()["id"], 2000)
    signature = edge.provider.sign(body, edge.floor.now())
    edge.floor.pass_time(seconds=301)
    answer = edge.tell(body, signature)
    assert (answer.status_code, answer.json()["code"]) == (400, "stale")
    assert edge.floor.balance(attendee.guest) == 0


def test_a_webhook_told_again_and_at_once_credits_once(edge: Edge) -> None:
    attendee = edge.sign_in()
    body = edge.webhook(edge.open_top_up(attendee).json()["id"], 2000)
    with ThreadPoolExecutor(8) as pool:
        outcomes = [answer.json()["outcome"] for answer in pool.map(edge.tell, [body] * 8)]
    assert sorted(outcomes) == ["credited", *["known_already"] * 7]
    assert edge.floor.balance(attendee.guest) == 2000


def test_another_event_about_a_credited_payment_credits_nothing_more(edge: Edge) -> None:
    attendee = edge.sign_in()
    body = edge.webhook(edge.open_top_up(attendee).json()["id"], 2000)
    edge.tell(body)
    other = edge.tell(body.replace(b'"id":"evt_', b'"id":"another_'))
    assert other.json() == {"outcome": "known_already"}
    assert edge.floor.balance(attendee.guest) == 2000


def test_two_payments_paid_at_once_open_one_wallet(edge: Edge) -> None:
    attendee = edge.sign_in()
    bodies = [
        edge.webhook(edge.open_top_up(attendee, key=letter * 20).json()["id"], 2000)
        for letter in "abcdef"
    ]
    with ThreadPoolExecutor(6) as pool:
        outcomes = [answer.json()["outcome"] for answer in pool.map(edge.tell, bodies)]
    assert outcomes == ["credited"] * 6
    assert edge.floor.balance(attendee.guest) == 12_000


def test_a_webhook_about_an_unknown_payment_is_asked_for_again(edge: Edge) -> None:
    answer = edge.tell(edge.webhook("01a20000-0000-7000-8000-000000000000", 2000))
    assert (answer.status_code, answer.json()["code"]) == (404, "payment_unknown")
    [row] = edge.floor.audit(action="webhook")
    assert row.outcome == "payment_unknown"


def test_a_webhook_with_another_amount_credits_nothing_and_is_recorded(edge: Edge) -> None:
    attendee = edge.sign_in()
    payment_id = edge.open_top_up(attendee).json()["id"]
    answer = edge.tell(edge.webhook(payment_id, 9000))
    assert (answer.status_code, answer.json()["code"]) == (409, "amount_differs")
    assert edge.floor.balance(attendee.guest) == 0
    [row] = edge.floor.audit(action="webhook")
    assert (row.outcome, row.detail["amount"]) == ("amount_differs", "90.00 EUR")
    assert edge.tell(edge.webhook(payment_id, 2000)).json() == {"outcome": "credited"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id":"x"}', b"\xff", b"{" * 5000])
def test_a_signed_webhook_that_cannot_be_read_is_refused(lone_edge: Edge, body: bytes) -> None:
    answer = lone_edge.tell(body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_declined_card_leaves_the_page_open_for_another(edge: Edge) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    edge.tell(edge.webhook(opened["id"], 2000, "payment.failed"))
    assert _status(edge, attendee, opened) == "declined"
    edge.tell(edge.webhook(opened["id"], 2000))
    assert _status(edge, attendee, opened) == "paid"
    edge.tell(edge.webhook(opened["id"], 2000, "payment.failed").replace(b'"evt_', b'"late_'))
    assert _status(edge, attendee, opened) == "paid"
    assert edge.floor.balance(attendee.guest) == 2000


def test_nobody_sees_anothers_payment(edge: Edge) -> None:
    opened = edge.open_top_up(edge.sign_in()).json()
    for payment_id in (opened["id"], "nonsense"):
        answer = edge.http.get(f"/v1/topups/{payment_id}", headers=edge.sign_in().headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "payment_unknown")


def test_a_provider_that_does_not_answer_costs_nothing_and_the_same_key_goes_on(edge: Edge) -> None:
    attendee = edge.sign_in()
    provider = _Unreachable(edge.provider)
    body = {"amount_in_cents": 2000, "currency": "EUR"}
    headers = attendee.headers | {"Idempotency-Key": "k" * 20}
    with edge.client(provider) as http:
        refused = http.post("/v1/topups", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (502, "provider_unreachable")
        assert _payments(edge) == 1, "the row is committed before the provider is asked"
        provider.answers = True
        assert http.post("/v1/topups", json=body, headers=headers).status_code == 201
    assert _payments(edge) == 1
    assert len(set(provider.asked)) == 1, "asked twice, about one payment"


def test_the_same_key_at_once_opens_one_payment(edge: Edge) -> None:
    attendee = edge.sign_in()
    with ThreadPoolExecutor(6) as pool:
        answers = [each.json() for each in pool.map(edge.open_top_up, [attendee] * 6)]
    assert len({answer["id"] for answer in answers}) == 1
    assert len({answer["card_page"] for answer in answers}) == 1
    assert _payments(edge) == 1


def test_a_top_up_pays_the_debt_of_an_offline_sale_first(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.top_up(attendee, 500)
    till = edge.floor.add_till()
    sale = till.deduct(edge.qr(attendee).json()["digits"], 800)
    posted = edge.floor.ask_one(till, till.accept_offline(sale))
    assert isinstance(posted, PostedOffline)
    assert edge.floor.balance(attendee.guest) == -300
    edge.top_up(attendee, 2000, key="m" * 20)
    assert edge.wallet(attendee)["balances"] == [{"amount_in_cents": 1700, "currency": "EUR"}]


class _Unreachable:
    """A provider that is down until told otherwise."""

    def __init__(self, behind: BuiltInProvider) -> None:
        self._behind = behind
        self.answers = False
        self.asked: list[str] = []

    @property
    def name(self) -> str:
        return self._behind.name

    def open_checkout(self, request: CheckoutRequest) -> Checkout:
        self.asked.append(request.payment_id)
        if not self.answers:
            raise ProviderUnreachableError
        return self._behind.open_checkout(request)

    def read_webhook(
        self, body: bytes, signature: str, now: datetime
    ) -> ProviderEvent | WebhookRefusal:
        return self._behind.read_webhook(body, signature, now + timedelta())


def _payments(edge: Edge) -> int:
    with edge.floor.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(payments)).scalar_one()


def _status(edge: Edge, attendee: Any, opened: Any) -> str:
    answer = edge.http.get(f"/v1/topups/{opened['id']}", headers=attendee.headers)
    return str(answer.json()["status"])
