import csv
import io
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from cloud.access.roles import Role
from cloud.operations.people.access_tokens import create_token
from cloud.store.tables import events
from protocol.ids import EventId, StallId
from tests.cloud.api.edge import Edge
from tests.cloud.floor import EVENT, START
from tests.cloud.reports.books import Books

_WINTER = EventId("winter-fair")


@pytest.fixture
def edge(database_url: str, tmp_path: Path) -> Iterator[Edge]:
    edge = Edge(database_url, tmp_path)
    with edge.floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id=_WINTER, name="Winter fair", currency="EUR", created_at=START
            )
        )
    books = Books.open(edge.floor)
    books.sell((1, 1), reference="bar-1")
    books.sell((2, 1), stall_id="grill", reference="grill-1")
    books.sell((1, 2), event_id=_WINTER, reference="winter-1", created_at=START + timedelta(days=1))
    books.add("Purchase", 5000, event_id=None, reference="top-up-1")
    books.write()
    yield edge
    edge.close()


def _holder(edge: Edge, role: Role, event_id: Any = None, stall_id: Any = None) -> dict[str, str]:
    made = create_token(
        edge.floor.database,
        role,
        f"{role}-{event_id}-{stall_id}",
        None,
        edge.floor.now(),
        event_id=event_id,
        stall_id=stall_id,
    )
    return {"Authorization": f"Bearer {made.token}"}


def _export(edge: Edge, headers: dict[str, str], **asked: str) -> list[dict[str, Any]]:
    answer = edge.http.get(
        "/v1/console/exports/transactions", params={"format": "jsonl"} | asked, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return [msgspec.json.decode(line) for line in answer.content.splitlines()]


def _references(edge: Edge, headers: dict[str, str], **asked: str) -> set[str]:
    exported = {row["reference"] for row in _export(edge, headers, **asked)}
    paged = edge.http.get("/v1/console/transactions", params=asked, headers=headers)
    if paged.status_code == 200:
        assert {row["reference"] for row in paged.json()["transactions"]} == exported
    return exported


def test_each_role_gets_its_own_part_of_the_ledger(edge: Edge) -> None:
    everything = {"bar-1", "grill-1", "winter-1", "top-up-1"}
    bar = StallId("bar")
    seen = {
        (role, event_id, stall_id): _references(edge, _holder(edge, role, event_id, stall_id))
        for role, event_id, stall_id in (
            (Role.FINANCE, None, None),
            (Role.FINANCE, EVENT, None),
            (Role.FINANCE, EVENT, bar),
            (Role.STALL_OWNER, EVENT, bar),
            (Role.STALL_OWNER, EVENT, None),
            (Role.STALL_OWNER, None, None),
        )
    }
    assert list(seen.values()) == [
        everything,
        {"bar-1", "grill-1"},
        {"bar-1"},
        {"bar-1"},
        set(),
        set(),
    ]


@pytest.mark.parametrize("role", [Role.OPS, Role.SUPERVISOR, Role.ADMIN])
def test_other_roles_export_nothing(edge: Edge, role: Role) -> None:
    for path in ("exports/transactions", "transactions"):
        answer = edge.http.get(f"/v1/console/{path}", headers=_holder(edge, role))
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        assert edge.http.get(f"/v1/console/{path}").status_code == 401


def test_an_attendees_session_opens_no_report(edge: Edge) -> None:
    attendee = edge.sign_in()
    for path in ("exports/transactions", "transactions", f"events/{EVENT}/settlement"):
        assert edge.http.get(f"/v1/console/{path}", headers=attendee.headers).status_code == 401


def test_asking_for_another_event_or_stall_by_name_is_refused(edge: Edge) -> None:
    owner = _holder(edge, Role.STALL_OWNER, EVENT, StallId("bar"))
    finance = _holder(edge, Role.FINANCE, EVENT)
    for headers, asked in (
        (owner, {"event_id": EVENT, "stall_id": "grill"}),
        (owner, {"event_id": _WINTER}),
        (finance, {"event_id": _WINTER}),
    ):
        answer = edge.http.get("/v1/console/exports/transactions", params=asked, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    # By the stall alone nothing of another's comes either.
    assert _references(edge, owner, stall_id="grill") == set()


def test_a_stalls_owner_learns_nobodys_wallet(edge: Edge) -> None:
    owner = _holder(edge, Role.STALL_OWNER, EVENT, StallId("bar"))
    assert [row["user_id"] for row in _export(edge, owner)] == [None]
    finance = _holder(edge, Role.FINANCE, EVENT)
    assert all(row["user_id"] for row in _export(edge, finance))


def test_an_export_is_narrowed_by_time_type_event_and_stall(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE)
    later = {"from": "2026-06-21T00:00:00+00:00"}
    assert _references(edge, finance, **later) == {"winter-1"}
    assert "winter-1" not in _references(edge, finance, until="2026-06-21T20:00:00+02:00")
    assert _references(edge, finance, type="Purchase") == {"top-up-1"}
    assert _references(edge, finance, event_id=EVENT, stall_id="grill") == {"grill-1"}
    # Years that no database knows are as good as none.
    ever = {"from": "0001-01-01T00:00:00+23:59", "until": "9999-12-31T23:59:59-23:59"}
    assert len(_references(edge, finance, **ever)) == 4


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("csv", "text/csv; charset=utf-8; header=present"),
        ("jsonl", "application/jsonl"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ],
)
def test_a_file_says_what_it_is(edge: Edge, form: str, media_type: str) -> None:
    answer = edge.http.get(
        "/v1/console/exports/transactions",
        params={"format": form},
        headers=_holder(edge, Role.FINANCE),
    )
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="transactions-20260620T180000Z.{form}"'
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content


@pytest.mark.parametrize(
    "asked",
    [{"format": "pdf"}, {"from": "2026-06-20"}, {"type": "deduct"}, {"event_id": "No Slug"}],
)
def test_what_cannot_be_read_is_refused(edge: Edge, asked: dict[str, str]) -> None:
    answer = edge.http.get(
        "/v1/console/exports/transactions", params=asked, headers=_holder(edge, Role.FINANCE)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "request_not_understood")


def test_an_event_that_does_not_exist_is_no_empty_file(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE)
    for path in ("exports/transactions?event_id=nowhere", "events/nowhere/settlement"):
        answer = edge.http.get(f"/v1/console/{path}", headers=finance)
        assert (answer.status_code, answer.json()["code"]) == (404, "event_unknown")


def test_every_export_stands_in_the_audit_log(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE, EVENT)
    _export(edge, finance, event_id=EVENT, stall_id="bar", type="Deduct")
    [record] = edge.floor.audit(action="transactions_exported")
    assert (record.actor, record.event_id) == (f"finance:finance-{EVENT}-None", EVENT)
    assert record.detail == {"format": "jsonl", "type": "Deduct", "stall": "bar"}


def test_whoever_hangs_up_leaves_no_connection_behind(edge: Edge) -> None:
    books = Books.open(edge.floor)
    for _ in range(3000):
        books.sell((1, 1))
    books.write()
    asked = {"format": "csv"}
    with edge.http.stream(
        "GET",
        "/v1/console/exports/transactions",
        params=asked,
        headers=_holder(edge, Role.FINANCE),
    ) as answer:
        next(answer.iter_raw(100))
    pool: Any = edge.floor.database.engine.pool
    ends_at = time.perf_counter() + 20
    while pool.checkedout() and time.perf_counter() < ends_at:
        time.sleep(0.01)
    assert pool.checkedout() == 0


def test_a_transaction_is_looked_up_by_what_is_known_of_it(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE)
    [found] = edge.http.get(
        "/v1/console/transactions", params={"reference": "bar-1"}, headers=finance
    ).json()["transactions"]
    assert (found["stall_name"], found["signed_amount_in_cents"]) == ("Bar", -350)
    assert found["lines"] == [{"product": 1, "quantity": 1, "unit_price_in_cents": 350}]
    for asked in (
        {"transaction_id": found["id"]},
        {"correlation_id": found["correlation_id"]},
    ):
        again = edge.http.get("/v1/console/transactions", params=asked, headers=finance).json()
        assert again["transactions"] == [found]


def test_pages_of_transactions_follow_each_other_to_the_end(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE)
    asked: dict[str, Any] = {"limit": 3}
    first = edge.http.get("/v1/console/transactions", params=asked, headers=finance).json()
    asked["cursor"] = first["next_cursor"]
    second = edge.http.get("/v1/console/transactions", params=asked, headers=finance).json()
    told = [row["reference"] for row in first["transactions"] + second["transactions"]]
    assert told[0] == "winter-1"
    assert len(set(told)) == 4
    assert second["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["AAAA", "_" * 32, "A" * 31, "A" * 200])
def test_a_cursor_of_somebodys_own_is_refused(edge: Edge, cursor: str) -> None:
    answer = edge.http.get(
        "/v1/console/transactions",
        params={"cursor": cursor},
        headers=_holder(edge, Role.FINANCE),
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_unknown")


def test_a_settlement_is_for_those_who_settle(edge: Edge) -> None:
    bar, whole = StallId("bar"), f"/v1/console/events/{EVENT}/settlement"
    own = f"/v1/console/events/{EVENT}/stalls/bar/settlement"
    other = f"/v1/console/events/{EVENT}/stalls/grill/settlement"
    told = {
        (role, event_id, stall_id): tuple(
            edge.http.get(path, headers=_holder(edge, role, event_id, stall_id)).status_code
            for path in (whole, own, other)
        )
        for role, event_id, stall_id in (
            (Role.FINANCE, None, None),
            (Role.SUPERVISOR, EVENT, None),
            (Role.FINANCE, _WINTER, None),
            (Role.FINANCE, EVENT, bar),
            (Role.STALL_OWNER, EVENT, bar),
            (Role.STALL_OWNER, _WINTER, bar),
            (Role.OPS, None, None),
            (Role.ADMIN, None, None),
        )
    }
    assert list(told.values()) == [
        (200, 200, 200),
        (200, 200, 200),
        (403, 403, 403),
        (403, 200, 403),
        (403, 200, 403),
        (403, 403, 403),
        (403, 403, 403),
        (403, 403, 403),
    ]


def test_a_settlement_adds_up_as_json_and_as_csv(edge: Edge) -> None:
    finance = _holder(edge, Role.FINANCE)
    path = f"/v1/console/events/{EVENT}/settlement"
    said = edge.http.get(path, headers=finance).json()
    assert said["ledger_in_cents"] == 850
    assert [(each["stall_id"], each["figures"]["net_in_cents"]) for each in said["stalls"]] == [
        ("bar", 350),
        ("grill", 500),
    ]
    assert said["stalls"][0]["hours"][0]["begins_at"] == "2026-06-20T20:00:00+02:00"
    answer = edge.http.get(path, params={"format": "csv"}, headers=finance)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    for part in ("stall", "product", "hour", "all_stalls", "ledger"):
        assert sum(int(row["net_in_cents"]) for row in rows if row["part"] == part) == 850


def test_a_stalls_settlement_says_what_its_owner_needs(edge: Edge) -> None:
    owner = _holder(edge, Role.STALL_OWNER, EVENT, StallId("bar"))
    path = f"/v1/console/events/{EVENT}/stalls/bar/settlement"
    said = edge.http.get(path, headers=owner).json()
    assert (said["event_name"], said["currency"], said["name"]) == ("Summer fair", "EUR", "Bar")
    assert said["products"][0]["quantity"] == 1
    text = edge.http.get(path, params={"format": "csv"}, headers=owner).text
    assert "grill" not in text


def test_a_stall_that_is_not_there_has_no_settlement(edge: Edge) -> None:
    path = f"/v1/console/events/{EVENT}/stalls/moon/settlement"
    answer = edge.http.get(path, headers=_holder(edge, Role.FINANCE))
    assert (answer.status_code, answer.json()["code"]) == (404, "stall_unknown")
