from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from cloud.access.roles import Role
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.orders.close_orders import close_expired_orders
from cloud.operations.people.access_tokens import create_token
from cloud.store.tables import users
from protocol.ids import EventId
from tests.cloud.api.crowd import post as letters_to
from tests.cloud.api.edge import Attendee, Edge
from tests.cloud.floor import START, eur

EVENT = "harbour-festival"


def _begin_sale(edge: Edge, event_id: str = EVENT, **changes: Any) -> None:
    """As an operator does: by applying the event's document."""
    document: dict[str, Any] = {
        "name": "Harbour Festival",
        "currency": "EUR",
        "starts_at": (START + timedelta(days=30)).isoformat(),
        "ends_at": (START + timedelta(days=32)).isoformat(),
        "stalls": [{"id": "bar", "name": "Bar"}],
        "ticket_types": [
            {"id": "weekend", "name": "Weekend", "price_in_cents": 8900, "stock": 3},
            {"id": "child", "name": "Child", "price_in_cents": 0, "stock": 500},
        ],
    }
    answer = edge.http.put(f"/v1/ops/events/{event_id}", json=document | changes, headers=edge.ops)
    assert answer.status_code == 200, answer.text


def _as(edge: Edge, role: Role, event_id: str | None = None) -> dict[str, str]:
    made = create_token(
        edge.floor.database,
        role,
        f"{role.value}-of-{event_id}",
        None,
        edge.floor.now(),
        event_id=None if event_id is None else EventId(event_id),
    )
    return {"Authorization": f"Bearer {made.token}"}


def _order(
    edge: Edge,
    attendee: Attendee,
    *,
    weekend: int = 1,
    child: int = 0,
    pays: int | str = "all",
    key: str = "k" * 20,
) -> Any:
    items = {"weekend": weekend, "child": child}
    return edge.http.post(
        "/v1/orders",
        json={
            "event_id": EVENT,
            "items": [
                {"ticket_type_id": name, "quantity": count}
                for name, count in items.items()
                if count
            ],
            "credits_in_cents": pays,
        },
        headers=attendee.headers | {"Idempotency-Key": key},
    )


def _look(edge: Edge, attendee: Attendee, order_id: str) -> Any:
    answer = edge.http.get(f"/v1/orders/{order_id}", headers=attendee.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _cents(money: Any) -> int:
    assert money["currency"] == "EUR"
    return int(money["amount_in_cents"])


def _give_address(edge: Edge, attendee: Attendee, address: str) -> None:
    with edge.floor.database.transaction() as connection:
        connection.execute(
            update(users)
            .where(users.c.user_id == UUID(attendee.guest.user_id))
            .values(email=address)
        )


def test_from_the_sale_to_the_door_by_credits_and_card(edge: Edge) -> None:
    _begin_sale(edge)
    attendee = edge.sign_in()
    _give_address(edge, attendee, "ada@example.org")
    edge.top_up(attendee, 5000, key="t" * 20)

    # Anybody sees what is on sale.
    [fair] = [
        event
        for event in edge.http.get("/v1/events").json()["events"]
        if event["event_id"] == EVENT
    ]
    assert [(kind["ticket_type_id"], kind["available"]) for kind in fair["ticket_types"]] == [
        ("child", 10),
        ("weekend", 3),
    ]

    answer = _order(edge, attendee, weekend=2, child=1)
    assert answer.status_code == 201, answer.text
    placed = answer.json()
    assert (_cents(placed["credits_part"]), _cents(placed["card_part"])) == (5000, 12_800)
    assert edge.floor.balance(attendee.guest) == 0
    order = _look(edge, attendee, placed["order_id"])
    assert (order["state"], order["tickets"]) == ("open", [])

    # The card page takes the number, sends the browser back, and tells by a signed webhook.
    page = placed["card_page"].removeprefix(edge.cloud.public_url)
    assert "128.00 EUR" in edge.http.get(page).text
    declined = edge.http.post(page, data={"number": "4000 0000 0000 0002"})
    assert "declined" in declined.text
    sent_back = edge.http.post(page, data={"number": "4242 4242 4242 4242"})
    assert sent_back.status_code == 303
    assert f"order={placed['order_id']}" in sent_back.headers["location"]
    assert all(told.status_code == 200 for told in edge.tell_all())

    order = _look(edge, attendee, placed["order_id"])
    assert (order["state"], len(order["tickets"])) == ("paid", 3)
    codes = [ticket["code"] for ticket in order["tickets"]]
    [letter] = [
        each for each in letters_to(edge, "ada@example.org") if type(each).__name__ == "OrderPaid"
    ]
    assert list(letter.ticket_codes) == codes

    door = f"/v1/console/events/{EVENT}/tickets/check"
    checked = edge.http.post(door, json={"code": codes[-1]}, headers=edge.ops)
    assert checked.status_code == 200, checked.text
    assert checked.json()["verdict"] == "valid"
    assert checked.json()["ticket_type_name"] == "Weekend"

    # The event gives it back.
    refund = edge.http.post(
        f"/v1/console/events/{EVENT}/orders/{placed['order_id']}/refund",
        json={"reason": "rained off"},
        headers=_as(edge, Role.FINANCE, EVENT) | {"Idempotency-Key": "r" * 20},
    )
    assert refund.status_code == 200, refund.text
    assert (_cents(refund.json()["credits_back"]), _cents(refund.json()["card_back"])) == (
        5000,
        12_800,
    )
    make_card_refunds(edge.floor.database, edge.provider, edge.floor.now())
    edge.tell_all()
    assert edge.floor.balance(attendee.guest) == 5000
    order = _look(edge, attendee, placed["order_id"])
    assert (order["state"], _cents(order["credits_back"])) == ("cancelled", 5000)
    assert edge.http.post(door, json={"code": codes[-1]}, headers=edge.ops).json()["verdict"] == (
        "void"
    )
    again = edge.http.get(f"/v1/events/{EVENT}").json()
    assert [kind["available"] for kind in again["ticket_types"]] == [10, 3]


def test_an_order_nobody_pays_gives_all_back_after_15_minutes(edge: Edge) -> None:
    _begin_sale(edge)
    attendee = edge.sign_in()
    edge.top_up(attendee, 5000, key="t" * 20)
    placed = _order(edge, attendee).json()
    edge.floor.pass_time(minutes=15)
    assert close_expired_orders(edge.floor.database, edge.provider, edge.floor.now()) == 1
    edge.tell_all()
    order = _look(edge, attendee, placed["order_id"])
    assert (order["state"], order["close_reason"]) == ("closed", "expired")
    assert order["card_page"] is None
    assert edge.floor.balance(attendee.guest) == 5000
    page = placed["card_page"].removeprefix(edge.cloud.public_url)
    assert edge.http.post(page, data={"number": "4242 4242 4242 4242"}).status_code == 410


def test_an_attendee_lets_go_and_orders_again(edge: Edge) -> None:
    _begin_sale(edge)
    attendee = edge.sign_in()
    placed = _order(edge, attendee, weekend=3).json()
    sold_out = _order(edge, edge.sign_in())
    assert (sold_out.status_code, sold_out.json()["code"]) == (409, "sold_out")
    path = f"/v1/orders/{placed['order_id']}/cancel"
    headers = attendee.headers | {"Idempotency-Key": "c" * 20}
    for _ in range(2):
        answer = edge.http.post(path, headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "closed")
    other = edge.http.post(path, headers=edge.sign_in().headers | {"Idempotency-Key": "c" * 20})
    assert (other.status_code, other.json()["code"]) == (404, "order_unknown")
    assert edge.http.post(path, headers=attendee.headers).status_code == 422
    assert _order(edge, attendee, weekend=3, key="m" * 20).status_code == 201


def test_the_same_request_gets_the_same_answer_and_another_one_a_conflict(edge: Edge) -> None:
    _begin_sale(edge)
    attendee = edge.sign_in()
    first = _order(edge, attendee)
    again = _order(edge, attendee)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    other = _order(edge, attendee, weekend=2)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")


def test_an_order_without_a_key_or_with_a_body_that_makes_no_sense_is_refused(
    lone_edge: Edge,
) -> None:
    _begin_sale(lone_edge)
    attendee = lone_edge.sign_in()
    one: dict[str, Any] = {"ticket_type_id": "weekend", "quantity": 1}
    good: dict[str, Any] = {"event_id": EVENT, "items": [one], "credits_in_cents": "all"}
    key = {"Idempotency-Key": "k" * 20}
    asked = [
        (good, {}),
        (good | {"items": []}, key),
        (good | {"items": [one, one]}, key),
        (good | {"items": [one | {"quantity": 0}]}, key),
        (good | {"items": [one | {"quantity": 1.5}]}, key),
        (good | {"items": [one | {"quantity": 101}]}, key),
        (good | {"credits_in_cents": -1}, key),
        (good | {"credits_in_cents": "some"}, key),
        (good | {"credits_in_cents": 10**13}, key),
        (good | {"price_in_cents": 1}, key),
        ({"event_id": EVENT, "items": [one]}, key),
    ]
    for body, headers in asked:
        answer = lone_edge.http.post("/v1/orders", json=body, headers=attendee.headers | headers)
        assert answer.status_code == 422, body
    assert lone_edge.http.post("/v1/orders", json=good, headers=key).status_code == 401
    assert lone_edge.http.get("/v1/orders", headers=attendee.headers).json()["orders"] == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"pays": 8900}, 409, "insufficient_credits"),
        ({"pays": 8901}, 422, "credits_above_total"),
        ({"weekend": 11}, 422, "too_many_tickets"),
        ({"weekend": 4}, 409, "sold_out"),
    ],
)
def test_what_cannot_be_ordered_is_refused_by_name(
    lone_edge: Edge, changes: dict[str, Any], status: int, code: str
) -> None:
    _begin_sale(lone_edge)
    answer = _order(lone_edge, lone_edge.sign_in(), **changes)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_orders_come_in_pages_newest_first_and_nobody_sees_anothers(edge: Edge) -> None:
    _begin_sale(edge)
    attendee, other = edge.sign_in(), edge.sign_in()
    made = [
        _order(edge, attendee, weekend=0, child=1, key=letter * 20).json()["order_id"]
        for letter in "abcde"
    ]
    _order(edge, other, weekend=0, child=1)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = edge.http.get(
            "/v1/orders", params={"limit": "2"} | cursor, headers=attendee.headers
        ).json()
        seen += [order["order_id"] for order in page["orders"]]
        assert len(page["orders"]) <= 2
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == made[::-1]
    answer = edge.http.get(f"/v1/orders/{made[0]}", headers=other.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "order_unknown")
    for cursor_text in ("nonsense", "AAAA", "_" * 22):
        answer = edge.http.get(
            "/v1/orders", params={"cursor": cursor_text}, headers=attendee.headers
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_unknown")


def test_events_come_in_pages_and_those_that_are_over_do_not(edge: Edge) -> None:
    for number in range(4):
        _begin_sale(edge, f"fair-{number}")
    over = {"starts_at": None, "ends_at": (START - timedelta(days=1)).isoformat()}
    _begin_sale(edge, "fair-of-last-year", **over)
    seen: list[str] = []
    path: str | None = "/v1/events?limit=3"
    while path is not None:
        page = edge.http.get(path).json()
        seen += [event["event_id"] for event in page["events"]]
        after = page["next_cursor"]
        path = None if after is None else f"/v1/events?limit=3&cursor={after}"
    assert seen == ["fair-0", "fair-1", "fair-2", "fair-3", "summer-fair"]
    # It is there to be looked at, and sells nothing.
    old = edge.http.get("/v1/events/fair-of-last-year").json()
    assert {kind["is_on_sale"] for kind in old["ticket_types"]} == {False}
    for cursor in ("A", "___", "4pyT", "QUJD"):
        answer = edge.http.get("/v1/events", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_unknown")
    answer = edge.http.get("/v1/events/no-such-fair")
    assert (answer.status_code, answer.json()["code"]) == (404, "event_unknown")


def test_whoever_has_the_answer_already_is_told_so(lone_edge: Edge) -> None:
    _begin_sale(lone_edge)
    attendee = lone_edge.sign_in()
    order_id = _order(lone_edge, attendee).json()["order_id"]
    for path in (f"/v1/events/{EVENT}", f"/v1/orders/{order_id}"):
        first = lone_edge.http.get(path, headers=attendee.headers)
        etag = first.headers["etag"]
        for named in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = lone_edge.http.get(path, headers=attendee.headers | {"If-None-Match": named})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    lone_edge.http.post(
        f"/v1/orders/{order_id}/cancel", headers=attendee.headers | {"Idempotency-Key": "c" * 20}
    )
    changed = lone_edge.http.get(
        f"/v1/orders/{order_id}", headers=attendee.headers | {"If-None-Match": etag}
    )
    assert (changed.status_code, changed.json()["state"]) == (200, "closed")


def test_only_finance_and_supervisors_of_the_event_give_back(edge: Edge) -> None:
    _begin_sale(edge)
    _begin_sale(edge, "another-fair")
    attendee = edge.sign_in()
    order_id = _order(edge, attendee, weekend=0, child=1).json()["order_id"]

    def refund(headers: dict[str, str], event_id: str = EVENT) -> Any:
        return edge.http.post(
            f"/v1/console/events/{event_id}/orders/{order_id}/refund",
            json={"reason": "rained off"},
            headers=headers | {"Idempotency-Key": "r" * 20},
        )

    assert refund({}).status_code == 401
    assert refund(attendee.headers).status_code == 401
    for role in (Role.OPS, Role.ADMIN, Role.STALL_OWNER):
        assert refund(_as(edge, role)).status_code == 403
    assert refund(_as(edge, Role.FINANCE, "another-fair")).status_code == 403
    # Theirs is the other event: an order of this one is not to be reached through it.
    elsewhere = refund(_as(edge, Role.SUPERVISOR, "another-fair"), "another-fair")
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "order_unknown")
    assert _look(edge, attendee, order_id)["state"] == "paid"
    finance = _as(edge, Role.FINANCE)
    first, again = refund(finance), refund(finance)
    assert (first.status_code, again.json()) == (200, first.json())
    assert _look(edge, attendee, order_id)["state"] == "cancelled"


def test_only_the_door_of_the_event_checks_tickets(edge: Edge) -> None:
    _begin_sale(edge)
    _begin_sale(edge, "another-fair")
    attendee = edge.sign_in()
    order_id = _order(edge, attendee, weekend=0, child=1).json()["order_id"]
    [ticket] = _look(edge, attendee, order_id)["tickets"]

    def check(headers: dict[str, str], event_id: str = EVENT) -> Any:
        return edge.http.post(
            f"/v1/console/events/{event_id}/tickets/check",
            json={"code": ticket["code"]},
            headers=headers,
        )

    assert check(attendee.headers).status_code == 401
    assert check(_as(edge, Role.FINANCE)).status_code == 403
    assert check(_as(edge, Role.SUPERVISOR, EVENT)).json()["verdict"] == "valid"
    assert check(_as(edge, Role.OPS, "another-fair")).status_code == 403
    assert check(_as(edge, Role.OPS), "another-fair").json() == {
        "verdict": "unknown",
        "ticket_id": None,
        "order_id": None,
        "ticket_type_id": None,
        "ticket_type_name": None,
    }


def test_money_in_the_wallet_is_titled_by_the_event_it_went_to(edge: Edge) -> None:
    _begin_sale(edge)
    attendee = edge.sign_in()
    edge.top_up(attendee, 9000, key="t" * 20)
    assert _order(edge, attendee).json()["card_page"] is None
    assert edge.floor.balance(attendee.guest) == eur(100).amount_in_cents
    newest = edge.wallet(attendee)["recent"][0]
    assert (newest["type"], newest["title"]) == ("Deduct", "Tickets: Harbour Festival")
