from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.cards.poll_payments import poll_payments
from cloud.payments.built_in import DECLINED_CARD, DISPUTED_CARD
from cloud.payments.delivery import WebhookDelivery
from cloud.payments.webhook_signature import sign_webhook
from cloud.store.tables import payments
from protocol.messages import PostedOffline
from tests.cloud.api.edge import SECRET, URL, Edge
from tests.cloud.operations.card_desk import Shaky
from tests.cloud.payments.contract import StripeCounter
from tests.cloud.payments.fake_stripe import fake_stripe


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
    provider = Shaky(edge.provider)
    provider.down = {"open_checkout"}
    body = {"amount_in_cents": 2000, "currency": "EUR"}
    headers = attendee.headers | {"Idempotency-Key": "k" * 20}
    with edge.client(provider) as http:
        refused = http.post("/v1/topups", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (502, "provider_unreachable")
        assert _payments(edge) == 1, "the row is committed before the provider is asked"
        provider.down = set()
        assert http.post("/v1/topups", json=body, headers=headers).status_code == 201
    assert _payments(edge) == 1
    assert provider.asked == ["open_checkout"] * 2


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


def test_a_hundred_deliveries_of_one_webhook_credit_once(edge: Edge) -> None:
    attendee = edge.sign_in()
    body = edge.webhook(edge.open_top_up(attendee).json()["id"], 2000)
    signature = edge.provider.sign(body, edge.floor.now())
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(edge.tell, [body] * 100, [signature] * 100))
    assert {answer.status_code for answer in answers} == {200}
    outcomes = [answer.json()["outcome"] for answer in answers]
    assert sorted(outcomes) == ["credited", *["known_already"] * 99]
    assert edge.floor.balance(attendee.guest) == 2000
    assert len(edge.floor.audit(action="webhook")) == 100, "each is in the audit log"


def test_a_hundred_webhooks_about_one_payment_among_polls_credit_once(edge: Edge) -> None:
    attendee = edge.sign_in()
    payment_id = edge.open_top_up(attendee).json()["id"]
    edge.provider.pay(f"test_{payment_id}", "4242424242424242")
    body = edge.webhook(payment_id, 2000)
    bodies = [body.replace(b'"evt_', b'"evt_%d_' % number) for number in range(100)]
    edge.floor.pass_time(seconds=30)

    def poll() -> int:
        return poll_payments(edge.floor.database, edge.provider, edge.floor.now())

    with ThreadPoolExecutor(20) as pool:
        polls = [pool.submit(poll) for _ in range(5)]
        answers = list(pool.map(edge.tell, bodies))
        assert sum(each.result() for each in polls) <= 1
    assert {answer.json()["outcome"] for answer in answers} <= {"credited", "known_already"}
    assert edge.floor.balance(attendee.guest) == 2000
    assert len(edge.floor.transactions(attendee.guest)) == 1


def test_the_card_page_pays_and_tells_by_a_webhook_over_http(edge: Edge) -> None:
    """The browser's form, the provider's books, its delivery, our edge: all real."""
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    page = opened["card_page"].removeprefix(URL)
    shown = edge.http.get(page)
    assert (shown.status_code, "20.00 EUR" in shown.text) == (200, True)
    wrong = edge.http.post(page, data={"number": "12"})
    assert "13 to 19 digits" in wrong.text
    declined = edge.http.post(page, data={"number": DECLINED_CARD})
    assert "declined" in declined.text
    paid = edge.http.post(page, data={"number": "4242 4242 4242 4242"})
    assert (paid.status_code, paid.headers["location"]) == (303, f"{URL}/?topup={opened['id']}")
    delivery = WebhookDelivery(
        f"{edge.http.base_url}/v1/webhooks/test", edge.provider, edge.floor.now
    )
    delivery.start()
    try:
        while edge.provider.untold():
            delivery.nudge()
    finally:
        delivery.stop()
    assert _status(edge, attendee, opened) == "paid"
    assert edge.floor.balance(attendee.guest) == 2000
    assert "paid already" in edge.http.get(page).text


def test_an_expired_card_page_takes_no_card(edge: Edge) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    page = opened["card_page"].removeprefix(URL)
    edge.floor.pass_time(hours=1)
    poll_payments(edge.floor.database, edge.provider, edge.floor.now())
    assert _status(edge, attendee, opened) == "expired"
    assert "expired" in edge.http.get(page).text
    refused = edge.http.post(page, data={"number": "4242 4242 4242 4242"})
    assert refused.status_code == 410
    edge.tell_all()
    assert edge.floor.balance(attendee.guest) == 0


def test_a_page_of_nobodys_making_is_not_found(lone_edge: Edge) -> None:
    for ask in (lone_edge.http.get, lone_edge.http.post):
        answer = ask("/test-provider/pay/nonsense")
        assert (answer.status_code, answer.json()["code"]) == (404, "checkout_unknown")


def test_a_disputed_card_takes_the_credits_back(edge: Edge) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    answers = edge.pay(opened["id"], DISPUTED_CARD)
    assert [answer.json()["outcome"] for answer in answers] == ["credited", "taken_back"]
    assert edge.floor.balance(attendee.guest) == 0
    [told] = edge.floor.audit(action="webhook", outcome="taken_back")
    assert told.detail["about"].startswith("td_")


def test_a_dispute_that_comes_too_early_is_told_again(edge: Edge) -> None:
    attendee = edge.sign_in()
    payment_id = edge.open_top_up(attendee).json()["id"]
    body = edge.webhook(payment_id, 2000, "dispute.opened")[:-1] + b',"about":"td_1"}'
    early = edge.tell(body)
    assert (early.status_code, early.json()["code"]) == (409, "came_too_early")
    edge.pay(payment_id)
    assert edge.tell(body).json() == {"outcome": "taken_back"}


def test_one_sees_ones_own_top_ups_page_by_page(edge: Edge) -> None:
    attendee = edge.sign_in()
    made = [edge.open_top_up(attendee, key=letter * 20).json()["id"] for letter in "abcde"]
    edge.open_top_up(edge.sign_in())
    edge.pay(made[4])
    seen: list[Any] = []
    address = "/v1/topups?limit=2"
    while True:
        page = edge.http.get(address, headers=attendee.headers).json()
        assert len(page["top_ups"]) <= 2
        seen += page["top_ups"]
        if page["next_cursor"] is None:
            break
        address = f"/v1/topups?limit=2&cursor={page['next_cursor']}"
    assert [each["id"] for each in seen] == made[::-1]
    assert [each["status"] for each in seen] == ["paid", *["pending"] * 4]


@pytest.mark.parametrize("query", ["cursor=nonsense", "limit=0", "limit=201", "cursor=a.b"])
def test_a_page_that_cannot_be_meant_is_refused(lone_edge: Edge, query: str) -> None:
    answer = lone_edge.http.get(f"/v1/topups?{query}", headers=lone_edge.sign_in().headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_not_understood")


def test_what_went_back_to_the_card_is_said(edge: Edge) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    edge.pay(opened["id"])
    amount = edge.provider.look_up(f"test_{opened['id']}").amount
    edge.provider.refund_by_hand(f"test_{opened['id']}", amount)
    [answer] = edge.tell_all()
    assert answer.json() == {"outcome": "taken_back"}
    assert _status(edge, attendee, opened) == "refunded"
    assert make_card_refunds(edge.floor.database, edge.provider, edge.floor.now()) == 0


def test_an_events_own_limits_count_where_it_is_named(edge: Edge) -> None:
    attendee = edge.sign_in()
    for event_id, status, code in (
        ("summer-fair", 201, None),
        ("nowhere", 404, "event_unknown"),
        ("Not A Slug", 422, "request_not_understood"),
    ):
        answer = edge.http.post(
            "/v1/topups",
            json={"amount_in_cents": 2000, "currency": "EUR", "event_id": event_id},
            headers=attendee.headers
            | {"Idempotency-Key": event_id.replace(" ", "-").ljust(20, "k")},
        )
        assert (answer.status_code, answer.json().get("code")) == (status, code)


def test_another_providers_webhooks_are_not_taken_here(edge: Edge) -> None:
    answer = edge.http.post("/v1/webhooks/stripe", content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (404, "payments_off")


def test_a_top_up_at_stripe_from_page_to_refund(edge: Edge) -> None:
    attendee = edge.sign_in()
    with fake_stripe() as server:
        counter = StripeCounter(server)
        with edge.client(counter.provider) as http:
            opened = http.post(
                "/v1/topups",
                json={"amount_in_cents": 2000, "currency": "EUR"},
                headers=attendee.headers | {"Idempotency-Key": "k" * 20},
            ).json()
            [reference] = server.sessions

            def tell_all() -> list[str]:
                now = edge.floor.now()
                return [
                    http.post(
                        "/v1/webhooks/stripe",
                        content=body,
                        headers={"Stripe-Signature": counter.sign(body, now)},
                    ).json()["outcome"]
                    for body in counter.bodies()
                ]

            assert opened["card_page"] == server.sessions[reference]["url"]
            counter.decline(reference)
            counter.pay(reference)
            assert tell_all() == ["noted", "credited"]
            assert edge.floor.balance(attendee.guest) == 2000
            dispute = counter.dispute(reference)
            counter.win(dispute)
            assert tell_all() == ["taken_back", "put_back"]
            counter.refund_by_hand(reference, counter.provider.look_up(reference).amount)
            assert tell_all() == ["taken_back", "unconcerning"]
            assert edge.floor.balance(attendee.guest) == 0
            forged = http.post(
                "/v1/webhooks/stripe", content=b"{}", headers={"Stripe-Signature": "t=1,v1=00"}
            )
            assert (forged.status_code, forged.json()["code"]) == (400, "signature_wrong")
    seen = [row.outcome for row in edge.floor.audit(action="webhook", actor="provider:stripe")]
    assert seen == [
        "noted",
        "credited",
        "taken_back",
        "put_back",
        "taken_back",
        "unconcerning",
        "signature_wrong",
    ]


def _payments(edge: Edge) -> int:
    with edge.floor.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(payments)).scalar_one()


def _status(edge: Edge, attendee: Any, opened: Any) -> str:
    answer = edge.http.get(f"/v1/topups/{opened['id']}", headers=attendee.headers)
    return str(answer.json()["status"])
