"""Cash-outs over HTTP: one effect a key, one at a time a wallet, nobody else's."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from cloud.api.app import make_app
from cloud.operations.cards.make_card_refunds import make_card_refunds
from cloud.operations.cash_outs.cash_out_advance import advance_cash_outs
from cloud.operations.proof.reconcile import reconcile
from cloud.store.tables import card_refunds, cash_outs, events
from protocol.wallet_qr import peek
from tests.cloud.api.edge import Attendee, Edge, asking, serving

PATH = "/v1/wallet/cash-outs"


@pytest.fixture
def edge(edge: Edge) -> Edge:
    with edge.floor.database.transaction() as connection:
        connection.execute(update(events).values(cash_out="always"))
    return edge


def patron(edge: Edge, cents: int = 2000) -> Attendee:
    attendee = edge.sign_in()
    edge.top_up(attendee, cents)
    return attendee


def ask(
    edge: Edge, attendee: Attendee, cents: int | None = None, key: str = "c" * 20, **more: Any
) -> httpx.Response:
    body: dict[str, Any] = {"currency": "EUR"} | more
    if cents is not None:
        body["amount_in_cents"] = cents
    return edge.http.post(PATH, json=body, headers=attendee.headers | {"Idempotency-Key": key})


def carry(edge: Edge) -> None:
    advance_cash_outs(edge.floor.database, edge.floor.now())
    make_card_refunds(edge.floor.database, edge.provider, edge.floor.now())
    edge.tell_all()


def test_asked_looked_at_and_paid(edge: Edge) -> None:
    attendee = patron(edge)
    asked = ask(edge, attendee)
    assert asked.status_code == 201, asked.text
    said = asked.json()
    assert (said["state"], said["asked"], said["amount"], said["parts"]) == (
        "waiting",
        None,
        None,
        [],
    )
    assert asked.headers["location"] == f"{PATH}/{said['id']}"
    assert edge.wallet(attendee)["balances"] == [{"amount_in_cents": 2000, "currency": "EUR"}]
    carry(edge)
    ended = edge.http.get(f"{PATH}/{said['id']}", headers=attendee.headers).json()
    assert ended["state"] == "paid"
    assert ended["paid"] == ended["amount"] == {"amount_in_cents": 2000, "currency": "EUR"}
    [part] = ended["parts"]
    assert part["state"] == "done"
    assert edge.wallet(attendee)["balances"] == [{"amount_in_cents": 0, "currency": "EUR"}]
    newest = edge.wallet(attendee)["recent"][0]
    assert (newest["type"], newest["direction"]) == ("Deduct", "out")
    assert reconcile(edge.floor.database).is_balanced


def test_the_same_key_gets_the_first_answer_and_other_content_a_conflict(edge: Edge) -> None:
    attendee = patron(edge)
    first = ask(edge, attendee, 500)
    carry(edge)
    again = ask(edge, attendee, 500)
    assert (again.status_code, again.json()) == (201, first.json())
    other = ask(edge, attendee, 501)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert edge.wallet(attendee)["balances"][0]["amount_in_cents"] == 1500


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"amount_in_cents": 0}, 422),
        ({"amount_in_cents": -5}, 422),
        ({"amount_in_cents": 1.5}, 422),
        ({"amount_in_cents": 10**13}, 422),
        ({"currency": "JPY"}, 422),
        ({"currency": "eur"}, 422),
        ({"to": "another card"}, 422),
        ({"currency": "CHF"}, 422),
        ({"amount_in_cents": 2001}, 422),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_under_way(
    edge: Edge, body: dict[str, Any], status: int
) -> None:
    attendee = patron(edge)
    refused = ask(edge, attendee, **body)
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    listed = edge.http.get(PATH, headers=attendee.headers).json()
    assert listed == {"cash_outs": [], "next_cursor": None}


def test_a_key_is_required(edge: Edge) -> None:
    attendee = patron(edge)
    refused = edge.http.post(PATH, json={"currency": "EUR"}, headers=attendee.headers)
    assert refused.status_code == 422


def test_signed_out_and_strangers_get_nothing(edge: Edge) -> None:
    attendee, stranger = patron(edge), edge.sign_in()
    cash_out = ask(edge, attendee).json()["id"]
    for method, path in (
        ("GET", PATH),
        ("GET", f"{PATH}/{cash_out}"),
        ("DELETE", f"{PATH}/{cash_out}"),
    ):
        assert edge.http.request(method, path).status_code == 401
    for method in ("GET", "DELETE"):
        answer = edge.http.request(method, f"{PATH}/{cash_out}", headers=stranger.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "cash_out_unknown")
    assert edge.http.get(PATH, headers=stranger.headers).json()["cash_outs"] == []
    ops = edge.http.get(PATH, headers=edge.ops)
    assert ops.status_code == 401, "an operator is no attendee"


def test_withdrawn_it_stays_in_the_wallet(edge: Edge) -> None:
    attendee = patron(edge)
    cash_out = ask(edge, attendee).json()["id"]
    for _ in range(2):
        withdrawn = edge.http.delete(f"{PATH}/{cash_out}", headers=attendee.headers)
        assert withdrawn.status_code == 200
        assert withdrawn.json()["state"] == "withdrawn"
    carry(edge)
    assert edge.wallet(attendee)["balances"][0]["amount_in_cents"] == 2000
    assert ask(edge, attendee, key="d" * 20).status_code == 201


def allowance_of(edge: Edge, attendee: Attendee) -> int:
    token = peek(edge.qr(attendee).json()["token"])
    assert token is not None
    return token.oal or 0


def test_from_the_request_on_no_code_carries_an_allowance(edge: Edge) -> None:
    attendee, other = patron(edge), patron(edge)
    assert allowance_of(edge, attendee) == 500
    cash_out = ask(edge, attendee, 100).json()["id"]
    assert allowance_of(edge, attendee) == 0
    assert allowance_of(edge, other) == 500
    edge.http.delete(f"{PATH}/{cash_out}", headers=attendee.headers)
    assert allowance_of(edge, attendee) == 500
    ask(edge, attendee, 400, key="d" * 20)
    advance_cash_outs(edge.floor.database, edge.floor.now())
    assert allowance_of(edge, attendee) == 0, "posted, and not answered for"
    carry(edge)
    assert allowance_of(edge, attendee) == 400


def test_pages_come_newest_first_and_end(edge: Edge) -> None:
    attendee = patron(edge)
    made: list[str] = []
    for number in range(5):
        made.append(ask(edge, attendee, 100, key=f"page-{number:016}").json()["id"])
        carry(edge)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = edge.http.get(PATH, params=query, headers=attendee.headers).json()
        assert len(page["cash_outs"]) <= 2
        seen += [each["id"] for each in page["cash_outs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_where_no_cards_are_taken_none_is_paid_back(edge: Edge) -> None:
    attendee = patron(edge)
    cloud = replace(edge.cloud, provider=None)
    with (
        serving(make_app(cloud)) as url,
        asking(url) as http,
    ):
        headers = attendee.headers | {"Idempotency-Key": "c" * 20}
        refused = http.post(PATH, json={"currency": "EUR"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (404, "payments_off")


@pytest.mark.parametrize("same_key", [True, False])
def test_of_a_hundred_at_once_exactly_one_takes_effect(edge: Edge, same_key: bool) -> None:
    attendee = patron(edge)

    def attempt(number: int) -> httpx.Response:
        return ask(edge, attendee, key="k" * 20 if same_key else f"attempt-{number:012}")

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(attempt, range(100)))
    statuses = sorted(each.status_code for each in answers)
    if same_key:
        assert statuses == [201] * 100
        assert len({each.text for each in answers}) == 1
    else:
        assert statuses == [201] + [409] * 99
        assert {each.json()["code"] for each in answers if each.status_code == 409} == {
            "cash_out_open"
        }
    carry(edge)
    with edge.floor.database.reading() as connection:
        [row] = connection.execute(select(cash_outs)).all()
        [part] = connection.execute(select(card_refunds)).all()
    assert (row.state, row.amount_in_cents) == ("paid", 2000)
    assert (part.state, part.amount_in_cents) == ("done", 2000)
    deducts = [each for each in edge.floor.transactions(attendee.guest) if each.type == "Deduct"]
    assert [each.amount_in_cents for each in deducts] == [2000]
    assert reconcile(edge.floor.database).is_balanced
