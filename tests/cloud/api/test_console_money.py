"""Refunds, approvals, adjustments and the review list over real HTTP, on both databases."""

import secrets
from typing import Any

import pytest

from cloud.access.roles import Role
from cloud.operations.people.access_tokens import create_token
from protocol.ids import EventId
from protocol.messages import UnderReview
from tests.cloud.api.edge import Edge
from tests.cloud.floor import EVENT
from tests.cloud.operations.giving_back import sold

CONSOLE = "/v1/console"


def signed_in(edge: Edge, role: Role, name: str, event_id: str | None = EVENT) -> dict[str, str]:
    event = None if event_id is None else EventId(event_id)
    made = create_token(edge.floor.database, role, name, None, edge.floor.now(), event_id=event)
    return {"Authorization": f"Bearer {made.token}"}


def post(edge: Edge, path: str, headers: dict[str, str], body: object, key: str = "") -> Any:
    keyed = headers | {"Idempotency-Key": key or secrets.token_urlsafe(16)}
    return edge.http.post(CONSOLE + path, json=body, headers=keyed)


def refunding(sale: Any, **more: Any) -> dict[str, Any]:
    return {"sale": {"device_id": sale.device_id, "key": sale.key}, "reason": "wrong drink"} | more


def refuses(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["next_step"]


def test_a_refund_is_asked_by_one_and_granted_by_another(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(20_000)
    sale = sold(edge.floor, till, guest, 5000)
    sue = signed_in(edge, Role.SUPERVISOR, "sue")
    tom = signed_in(edge, Role.SUPERVISOR, "tom", None)
    part = refunding(sale, amount={"amount_in_cents": 500, "currency": "EUR"})
    done = post(edge, "/refunds", sue, part)
    assert done.status_code == 200, done.text
    assert (done.json()["state"], done.json()["left_in_cents"]) == ("done", 4500)
    asked = post(edge, "/refunds", sue, refunding(sale)).json()
    assert (asked["state"], asked["amount"]["amount_in_cents"]) == ("waiting", 4500)
    waiting = edge.http.get(f"{CONSOLE}/approvals?state=waiting", headers=tom).json()
    assert [each["approval_id"] for each in waiting["approvals"]] == [asked["approval_id"]]
    grant, why = f"/approvals/{asked['approval_id']}/grant", {"reason": "saw the receipt"}
    refuses(post(edge, grant, sue, why), 403, "same_person")
    key = secrets.token_urlsafe(16)
    granted = post(edge, grant, tom, why, key)
    assert granted.status_code == 200, granted.text
    assert post(edge, grant, tom, why, key).json() == granted.json()
    refuses(post(edge, grant, tom, why), 409, "approval_ended")
    refuse = f"/approvals/{asked['approval_id']}/refuse"
    refuses(post(edge, refuse, tom, why), 409, "approval_ended")
    assert edge.floor.balance(guest) == 20_000


def test_finance_adjusts_and_freezes_where_it_is_finance(edge: Edge) -> None:
    guest = edge.floor.add_guest(2000)
    fay = signed_in(edge, Role.FINANCE, "fay")
    gus = signed_in(edge, Role.FINANCE, "gus", None)
    body = {
        "event_id": EVENT,
        "user_id": guest.user_id,
        "direction": "out",
        "amount_in_cents": 100,
        "currency": "EUR",
        "reason": "credited twice",
    }
    done = post(edge, "/adjustments", fay, body)
    assert done.status_code == 200, done.text
    assert done.json()["state"] == "done"
    above = post(edge, "/adjustments", fay, body | {"amount_in_cents": 5000}).json()
    grant = f"/approvals/{above['approval_id']}/grant"
    assert post(edge, grant, gus, {"reason": "checked"}).status_code == 200
    assert edge.floor.balance(guest) == -3100
    elsewhere = signed_in(edge, Role.FINANCE, "eli", "winter-fair")
    refuses(post(edge, "/adjustments", elsewhere, body), 403, "not_allowed")

    path = f"{CONSOLE}/events/{EVENT}/wallets/{edge.floor.add_guest().user_id}/offline"
    frozen = edge.http.put(path, json={"allowed": False, "reason": "lost phone"}, headers=fay)
    assert frozen.json()["offline_allowed"] is False, frozen.text
    denied = edge.http.put(path, json={"allowed": True, "reason": "found"}, headers=elsewhere)
    refuses(denied, 403, "not_allowed")


def test_a_review_is_looked_at_and_ended_once(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = sold(edge.floor, till, guest)
    edge.floor.revoke(till)
    review = edge.floor.ask_one(till, till.cancel(sale))
    assert isinstance(review, UnderReview)
    sue = signed_in(edge, Role.SUPERVISOR, "sue")
    [listed] = edge.http.get(f"{CONSOLE}/reviews", headers=sue).json()["reviews"]
    assert (listed["review_id"], listed["kind"]) == (review.review_id, "cancel")
    shown = edge.http.get(f"{CONSOLE}/reviews/{review.review_id}", headers=sue).json()
    assert shown["said"]["key"] == sale.key
    path, body = f"/reviews/{review.review_id}/end", {"ending": "reverse", "reason": "not sold"}
    ended = post(edge, path, sue, body)
    assert (ended.status_code, ended.json()["state"]) == (200, "reversed"), ended.text
    refuses(post(edge, path, sue, body), 409, "review_ended")
    assert edge.floor.balance(guest) == 2000
    elsewhere = signed_in(edge, Role.SUPERVISOR, "eli", "winter-fair")
    assert edge.http.get(f"{CONSOLE}/reviews", headers=elsewhere).json()["reviews"] == []
    one = edge.http.get(f"{CONSOLE}/reviews/{review.review_id}", headers=elsewhere)
    refuses(one, 404, "review_unknown")


@pytest.mark.parametrize("reason", ["", "a\u0000b", "line\nbreak", "x" * 201])
def test_a_reason_is_a_line_that_every_database_takes(edge: Edge, reason: str) -> None:
    sue = signed_in(edge, Role.SUPERVISOR, "sue")
    sale = {"device_id": "till-1", "key": "k" * 22}
    answer = post(edge, "/refunds", sue, {"sale": sale, "reason": reason})
    refuses(answer, 422, "request_not_understood")


def test_a_cursor_of_nobodys_is_refused_by_name(edge: Edge) -> None:
    sue = signed_in(edge, Role.SUPERVISOR, "sue")
    for path in ("approvals", "reviews"):
        answer = edge.http.get(f"{CONSOLE}/{path}?cursor=AAAA", headers=sue)
        assert answer.json()["code"] == "cursor_unknown"


def test_an_event_names_its_supervisors_and_reads_back_the_same(edge: Edge) -> None:
    event = {
        "name": "Harbour",
        "currency": "EUR",
        "stalls": [{"id": "bar", "name": "Bar"}],
        "staff": [
            {"id": "sue", "name": "Sue", "initials": "S", "is_supervisor": True},
            {"id": "kim", "name": "Kim", "initials": "K"},
        ],
    }
    put = edge.http.put("/v1/ops/events/harbour", json=event, headers=edge.ops)
    assert put.status_code == 200, put.text
    again = edge.http.put("/v1/ops/events/harbour", json=event, headers=edge.ops)
    assert again.json()["has_changed"] is False
    staff = edge.http.get("/v1/ops/events/harbour", headers=edge.ops).json()["staff"]
    assert {each["id"]: each["is_supervisor"] for each in staff} == {"sue": True, "kim": False}
