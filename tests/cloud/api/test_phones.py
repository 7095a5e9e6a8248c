from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from cloud.store.database import Database
from cloud.store.tables import events, stalls
from protocol.wallet_qr import peek
from tests.cloud.api.edge import Attendee, Edge


def test_phones_that_ask_at_once_are_each_told_their_own(edge: Edge) -> None:
    attendees = [edge.sign_in() for _ in range(12)]
    for number, attendee in enumerate(attendees):
        edge.top_up(attendee, 1000 + 100 * number, f"top-up-{number:020}")
    with ThreadPoolExecutor(12) as crowd:
        codes = [answer.json() for answer in crowd.map(edge.qr, attendees * 3)]
        wallets = list(crowd.map(edge.wallet, attendees * 3))
    tokens = [peek(each["token"]) for each in codes]
    assert [token and token.sub for token in tokens] == [
        attendee.guest.payer_id for attendee in attendees * 3
    ]
    assert [token and token.oal for token in tokens[:12]] == [
        (1000 + 100 * number) // 4 for number in range(12)
    ]
    assert len({token and token.jti for token in tokens}) == 36
    assert [wallet["balances"][0]["amount_in_cents"] for wallet in wallets[:12]] == [
        1000 + 100 * number for number in range(12)
    ]


@pytest.mark.parametrize("event_id", ["nowhere", "\x00", "\N{GRINNING FACE}", "' OR 1=1 --", ""])
def test_whoever_asks_for_nonsense_spoils_nobodys_code(edge: Edge, event_id: str) -> None:
    attendees = [edge.sign_in() for _ in range(6)]
    with ThreadPoolExecutor(12) as crowd:
        asked: list[tuple[Attendee, str]] = [
            (attendee, wanted) for attendee in attendees for wanted in ("summer-fair", event_id)
        ]
        answers = list(crowd.map(edge.qr, *zip(*asked, strict=True)))
    assert [answer.status_code for answer in answers] == [200, 404] * 6


def test_who_signed_out_gets_no_code_from_then_on(edge: Edge) -> None:
    attendee, other = edge.sign_in(), edge.sign_in()
    assert edge.qr(attendee).status_code == 200
    edge.http.delete("/v1/session", headers=attendee.headers)
    assert edge.qr(attendee).status_code == 401
    assert edge.qr(other).status_code == 200


def test_an_event_that_ends_ends_its_codes_at_once(edge: Edge) -> None:
    attendee = edge.sign_in()
    assert edge.qr(attendee).status_code == 200
    with edge.floor.database.transaction() as connection:
        connection.execute(update(events).values(ends_at=edge.floor.now()))
    answer = edge.qr(attendee)
    assert (answer.status_code, answer.json()["code"]) == (409, "event_closed")
    assert edge.wallet(attendee)["events"] == []


def test_a_database_that_fails_is_asked_again_by_the_next(edge: Edge) -> None:
    attendee = edge.sign_in()
    fault = OperationalError("SELECT", {}, Exception("it is gone"))
    with patch.object(Database, "reading", side_effect=fault):
        answer = edge.http.get("/v1/wallet", headers=attendee.headers)
        assert answer.status_code >= 500
    assert edge.http.get("/v1/wallet", headers=attendee.headers).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b'{"event_id": "summer-fair"}'},
        {
            "content": b'{"event_id": "summer-fair"}',
            "headers": {"Content-Type": "text/plain;charset=application/json"},
        },
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        {"content": b"\xff", "headers": {"Content-Type": "application/json"}},
        {"json": {"event_id": "summer-fair", "more": 1}},
        {"json": {"event_id": 7}},
        {"json": []},
        {},
    ],
)
def test_what_is_no_request_for_a_code_is_told_where_it_is_wrong(
    lone_edge: Edge, sent: dict[str, Any]
) -> None:
    attendee = lone_edge.sign_in()
    headers = attendee.headers | sent.pop("headers", {})
    answer = lone_edge.http.post("/v1/wallet/qr", headers=headers, **sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_not_understood")
    assert answer.json()["errors"]


def test_json_may_name_its_letters(lone_edge: Edge) -> None:
    headers = lone_edge.sign_in().headers | {"Content-Type": "Application/JSON; charset=utf-8"}
    asked = b'{"event_id": "summer-fair"}'
    answer = lone_edge.http.post("/v1/wallet/qr", content=asked, headers=headers)
    assert answer.status_code == 200


def test_a_wallet_that_did_not_change_is_not_sent_again(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.top_up(attendee, 2000)
    tag = _wallet(edge, attendee).headers["etag"]
    for named in (tag, f"W/{tag}", f'"something-else", {tag}'):
        same = _wallet(edge, attendee, named)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        # What is in a wallet is for no cache to keep.
        assert same.headers["cache-control"] == "no-store"
    assert _wallet(edge, edge.sign_in(), tag).status_code == 200

    till = edge.floor.add_till()
    edge.floor.ask_one(till, till.deduct(edge.qr(attendee).json()["digits"], 350))
    after = _wallet(edge, attendee, tag)
    assert (after.status_code, after.json()["recent"][0]["title"]) == (200, "Bar")
    with edge.floor.database.transaction() as connection:
        connection.execute(update(stalls).values(name="The other bar"))
    renamed = _wallet(edge, attendee, after.headers["etag"])
    assert (renamed.status_code, renamed.json()["recent"][0]["title"]) == (200, "The other bar")


def test_a_wallet_shows_the_newest_ten_and_its_history_all(edge: Edge) -> None:
    attendee, other = edge.sign_in(), edge.sign_in()
    edge.top_up(attendee, 9000)
    edge.top_up(other, 700, "other-" * 5)
    till = edge.floor.add_till()
    for cents in range(101, 113):
        edge.floor.ask_one(till, till.deduct(edge.qr(attendee).json()["digits"], cents))
    recent = [each["amount"]["amount_in_cents"] for each in edge.wallet(attendee)["recent"]]
    assert recent == list(range(112, 102, -1))

    told: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = _history(edge, attendee, limit="5", **cursor).json()
        told += [each["amount"]["amount_in_cents"] for each in page["transactions"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert told == [*range(112, 100, -1), 9000]
    assert len(_history(edge, other).json()["transactions"]) == 1


def test_a_cursor_of_ones_own_making_is_refused(lone_edge: Edge) -> None:
    answer = _history(lone_edge, lone_edge.sign_in(), cursor="nothing")
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_unknown")


def _wallet(edge: Edge, attendee: Attendee, tag: str | None = None) -> httpx.Response:
    named = {} if tag is None else {"If-None-Match": tag}
    return edge.http.get("/v1/wallet", headers=attendee.headers | named)


def _history(edge: Edge, attendee: Attendee, **asked: str) -> httpx.Response:
    return edge.http.get("/v1/wallet/transactions", params=asked, headers=attendee.headers)
