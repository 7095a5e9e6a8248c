"""An event's versions: the first edit wins, an older one comes back as a new one."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from cloud.access.roles import Role
from cloud.operations.people.access_tokens import create_token
from cloud.store.tables import claims, devices, event_versions, metadata, policies
from protocol.ids import DeviceId, EventId
from protocol.policy import Policy, find, open_policy
from tests.cloud.api.edge import Edge

HARBOUR = "/v1/ops/events/harbour"
FAIR = "/v1/ops/events/summer-fair"
EVENT: dict[str, Any] = {
    "name": "Harbour",
    "currency": "EUR",
    "stalls": [
        {
            "id": "bar",
            "name": "Bar",
            "products": [{"number": 1, "name": "Lager", "price_in_cents": 450}],
        },
        {"id": "grill", "name": "Grill"},
    ],
}


def test_each_document_that_was_applied_is_kept_as_a_version(edge: Edge) -> None:
    assert _put(edge, EVENT).json()["version"] == 1
    assert _put(edge, EVENT | {"name": "Harbour Fest"}).json()["version"] == 2
    same = _put(edge, EVENT | {"name": "Harbour Fest"}).json()
    assert (same["has_changed"], same["version"]) == (False, 2)
    told = _get(edge, f"{HARBOUR}/versions")
    assert [(each["version"], each["applied_by"]) for each in told] == [
        (2, "ops:ana"),
        (1, "ops:ana"),
    ]
    assert _get(edge, f"{HARBOUR}/versions?limit=1&before=2")[0]["version"] == 1
    assert _get(edge, f"{HARBOUR}/versions/1")["document"]["name"] == "Harbour"
    [_, record] = edge.floor.audit(action="event_applied")
    assert record.detail["version"] == 2


def test_an_edit_of_what_somebody_else_changed_meanwhile_is_refused_and_names_them(
    edge: Edge,
) -> None:
    _put(edge, EVENT)
    read = edge.http.get(HARBOUR, headers=edge.ops)
    again = edge.http.get(HARBOUR, headers=edge.ops | {"If-None-Match": read.headers["ETag"]})
    assert again.status_code == 304
    _put(edge, EVENT | {"name": "By somebody else"})
    mine = read.json() | {"name": "Mine"}
    refused = _put(edge, mine, {"If-Match": read.headers["ETag"]})
    assert (refused.status_code, refused.json()["code"]) == (412, "event_changed")
    assert "version 2" in refused.json()["detail"]
    assert "ops:ana" in refused.json()["detail"]
    assert _get(edge, HARBOUR)["name"] == "By somebody else"
    anew = edge.http.get(HARBOUR, headers=edge.ops).headers["ETag"]
    assert _put(edge, mine, {"If-Match": f'"old", W/{anew}'}).json()["version"] == 3


def test_an_event_is_created_only_where_there_is_none(lone_edge: Edge) -> None:
    assert _put(lone_edge, EVENT, {"If-Match": "*"}).status_code == 412
    assert _put(lone_edge, EVENT, {"If-None-Match": "*"}).json()["is_new"] is True
    twice = _put(lone_edge, EVENT | {"name": "Another"}, {"If-None-Match": "*"})
    assert (twice.status_code, twice.json()["code"]) == (412, "event_changed")


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_who_edit_at_once_exactly_one_wins(edge: Edge, *, is_there: bool) -> None:
    condition = {"If-None-Match": "*"}
    if is_there:
        _put(edge, EVENT)
        condition = {"If-Match": edge.http.get(HARBOUR, headers=edge.ops).headers["ETag"]}
    start, statuses = threading.Barrier(6), list[int]()

    def edit(number: int) -> None:
        start.wait()
        statuses.append(_put(edge, EVENT | {"name": f"By {number}"}, condition).status_code)

    _at_once(edit, 6)
    assert sorted(statuses) == [200, *[412] * 5]
    assert len(_get(edge, f"{HARBOUR}/versions")) == 1 + is_there


def test_edits_and_roll_backs_at_once_leave_versions_without_gaps_that_say_what_stands(
    edge: Edge,
) -> None:
    edge.floor.add_till()
    _put(edge, EVENT)
    start, statuses = threading.Barrier(8), list[int]()

    def change(number: int) -> None:
        start.wait()
        if number % 2:
            body = {"version": 1, "reason": "wrong"}
            answer = edge.http.post(f"{HARBOUR}/rollback", json=body, headers=edge.ops)
        else:
            answer = _put(edge, EVENT | {"name": f"By {number}"})
        statuses.append(answer.status_code)

    _at_once(change, 8)
    assert statuses == [200] * 8
    told = _get(edge, f"{HARBOUR}/versions")
    assert [each["version"] for each in told] == [*range(len(told), 0, -1)]
    newest = _get(edge, f"{HARBOUR}/versions/{len(told)}")["document"]
    assert newest == _get(edge, HARBOUR)


def test_a_roll_back_is_old_content_under_a_new_version_with_new_policies(edge: Edge) -> None:
    edge.floor.add_till()
    document = _get(edge, FAIR)
    first = _with_price(document, 350)
    _put(edge, first, to=FAIR)
    dearer = _put(edge, _with_price(document, 999), to=FAIR).json()
    back = _roll_back(edge, dearer["version"] - 1, reason="a slip of the hand").json()
    assert back["version"] == dearer["version"] + 1
    assert back["policies"] == {"till-1": dearer["policies"]["till-1"] + 1}
    assert _get(edge, FAIR)["stalls"][0]["products"][0]["price_in_cents"] == 350
    newest = _get(edge, f"{FAIR}/versions")[0]
    assert (newest["rolled_back_to"], newest["reason"]) == (
        dearer["version"] - 1,
        "a slip of the hand",
    )
    [record] = edge.floor.audit(action="event_rolled_back")
    assert record.detail["to"] == dearer["version"] - 1
    assert _policy(edge, "till-1").products[0].price_in_cents == 350
    same = _roll_back(edge, back["version"]).json()
    assert (same["has_changed"], same["policies"]) == (False, {})


def test_a_roll_back_to_before_a_stall_is_refused_while_an_appliance_stands_there(
    edge: Edge,
) -> None:
    document = _get(edge, FAIR)
    _put(edge, document | {"name": "Fair"}, to=FAIR)
    without = len(_get(edge, f"{FAIR}/versions"))
    pier = {"id": "pier", "name": "Pier"}
    _put(edge, document | {"stalls": [*document["stalls"], pier]}, to=FAIR)
    edge.floor.add_till("till-7", stall_id="pier")
    refused = _roll_back(edge, without)
    assert (refused.status_code, refused.json()["code"]) == (409, "stall_in_use")
    assert "till-7 at pier" in refused.json()["detail"]
    edge.http.post(
        "/v1/ops/devices/till-7/revoke", json={"reason": "lost"}, headers=edge.ops
    ).raise_for_status()
    assert _roll_back(edge, without).status_code == 200, "one that left holds no stall"
    with edge.floor.database.reading() as connection:
        where = select(devices.c.event_id, devices.c.stall_id).where(
            devices.c.device_id == "till-7"
        )
        assert connection.execute(where).one() == ("summer-fair", None)


def test_a_stall_stays_while_a_claim_waits_for_its_appliance(lone_edge: Edge) -> None:
    _put(lone_edge, EVENT)
    now = lone_edge.floor.now()
    claim = {
        "claim_id": "AAAAAAAAAA",
        "secret_hash": "x" * 43,
        "event_id": "harbour",
        "stall_id": "grill",
        "device_id": "grill-1",
        "created_at": now,
        "created_by": "ops:ana",
        "expires_at": now + timedelta(minutes=15),
        "tries": 0,
    }
    with lone_edge.floor.database.transaction() as connection:
        connection.execute(claims.insert().values(**claim))
    fewer = EVENT | {"stalls": EVENT["stalls"][:1]}
    refused = _put(lone_edge, fewer)
    assert (refused.status_code, refused.json()["code"]) == (409, "stall_in_use")
    assert "grill-1 at grill" in refused.json()["detail"]
    lone_edge.floor.pass_time(minutes=16)
    assert _put(lone_edge, fewer).status_code == 200


def test_a_version_that_is_not_there_or_no_event_any_more_is_refused_by_name(
    lone_edge: Edge,
) -> None:
    _put(lone_edge, EVENT)
    _put(lone_edge, EVENT | {"name": "Two"})
    for path, code in (
        (f"{HARBOUR}/versions/9", "version_unknown"),
        ("/v1/ops/events/nowhere/versions/1", "event_unknown"),
        ("/v1/ops/events/nowhere/versions", "event_unknown"),
        ("/v1/ops/events/nowhere/policies", "event_unknown"),
    ):
        answer = lone_edge.http.get(path, headers=lone_edge.ops)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert _roll_back(lone_edge, 9, HARBOUR).json()["code"] == "version_unknown"
    with lone_edge.floor.database.transaction() as connection:
        connection.execute(
            update(event_versions)
            .where(event_versions.c.version == 1)
            .values(document=EVENT | {"stalls": [], "colour": "red"})
        )
    refused = _roll_back(lone_edge, 1, HARBOUR)
    assert (refused.status_code, refused.json()["code"]) == (409, "version_not_usable")
    assert "colour" in refused.json()["detail"]
    assert _get(lone_edge, HARBOUR)["name"] == "Two"
    control = _roll_back(lone_edge, 1, HARBOUR, reason="x\x1b[2J")
    assert control.status_code == 422


def test_what_was_changed_past_the_document_is_kept_before_the_next_edit(lone_edge: Edge) -> None:
    """The floor's event was never applied as a document, as before versions were kept."""
    before = _get(lone_edge, FAIR)
    assert _get(lone_edge, f"{FAIR}/versions") == []
    assert _put(lone_edge, before | {"name": "New"}, to=FAIR).json()["version"] == 2
    assert _get(lone_edge, f"{FAIR}/versions/1")["document"] == before
    assert _get(lone_edge, f"{FAIR}/versions/1")["applied_by"] is None


def test_who_runs_which_version_is_told_until_each_has_acknowledged(edge: Edge) -> None:
    till = edge.floor.add_till()
    edge.floor.add_till("till-2", stall_id="grill")
    applied = _put(edge, _get(edge, FAIR) | {"name": "Fair"}, to=FAIR).json()
    wanted = applied["policies"]["till-1"]
    first, second = _get(edge, f"{FAIR}/policies")
    assert (first["device_id"], second["device_id"]) == ("till-1", "till-2")
    assert (first["version"], first["event_version"]) == (wanted, applied["version"])
    assert (first["is_behind"], first["is_published"], first["acked_at"]) == (True, False, None)
    edge.floor.pass_time(minutes=1)
    edge.floor.ask_one(till, till.heartbeat(policy_version=wanted))
    edge.floor.pass_time(minutes=1)
    edge.floor.ask_one(till, till.heartbeat(policy_version=wanted))
    first, second = _get(edge, f"{FAIR}/policies")
    assert (first["is_behind"], first["acked_version"]) == (False, wanted)
    assert first["acked_event_version"] == applied["version"]
    assert first["acked_at"] < first["last_seen_at"], "when it first said so"
    assert second["is_behind"] is True
    newest, oldest = _get(edge, "/v1/ops/devices/till-1/policies")
    assert (newest["event_version"], newest["is_acked"]) == (applied["version"], True)
    assert (oldest["version"], oldest["event_version"]) == (1, None)


def test_ops_of_one_event_rename_nobody_who_works_at_another(lone_edge: Edge) -> None:
    edge = lone_edge
    _put(edge, EVENT)
    mallory = {"id": "mia", "name": "Mallory", "initials": "XX"}
    floor = edge.floor
    token = create_token(
        floor.database, Role.OPS, "eve", None, floor.now(), event_id=EventId("harbour")
    ).token
    eve = {"Authorization": f"Bearer {token}"}
    refused = edge.http.put(HARBOUR, json=EVENT | {"staff": [mallory]}, headers=eve)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert "'mia'" in refused.json()["detail"]
    [mia] = _get(edge, FAIR)["staff"]
    assert mia["name"] != "Mallory"
    for member in (mia | {"stalls": None}, mallory | {"id": "mallory"}):
        done = edge.http.put(HARBOUR, json=EVENT | {"staff": [member]}, headers=eve)
        assert done.status_code == 200, done.text
    assert _put(edge, EVENT | {"staff": [mallory]}).status_code == 200, "who acts for every event"


def test_no_version_or_policy_row_is_ever_changed_by_an_edit(lone_edge: Edge) -> None:
    lone_edge.floor.add_till()
    _put(lone_edge, _get(lone_edge, FAIR) | {"name": "One"}, to=FAIR)
    kept = _rows(lone_edge, "event_versions"), _rows(lone_edge, "policies")
    _put(lone_edge, _get(lone_edge, FAIR) | {"name": "Two"}, to=FAIR)
    _roll_back(lone_edge, 2)
    assert kept[0] < _rows(lone_edge, "event_versions")
    assert kept[1] < _rows(lone_edge, "policies")


def _rows(edge: Edge, table: str) -> set[str]:
    with edge.floor.database.reading() as connection:
        return {str(row) for row in connection.execute(select(metadata.tables[table]))}


def _at_once(deed: Any, count: int) -> None:
    threads = [threading.Thread(target=deed, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _put(
    edge: Edge,
    document: dict[str, Any],
    condition: dict[str, str] | None = None,
    *,
    to: str = HARBOUR,
) -> Any:
    return edge.http.put(to, json=document, headers=edge.ops | (condition or {}))


def _get(edge: Edge, path: str) -> Any:
    answer = edge.http.get(path, headers=edge.ops)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _roll_back(edge: Edge, version: int, of: str = FAIR, *, reason: str = "wrong") -> Any:
    body = {"version": version, "reason": reason}
    return edge.http.post(f"{of}/rollback", json=body, headers=edge.ops)


def _with_price(document: dict[str, Any], cents: int) -> dict[str, Any]:
    lemonade = {"number": 1, "name": "Lemonade", "price_in_cents": cents}
    first, *others = document["stalls"]
    return document | {"stalls": [first | {"products": [lemonade]}, *others]}


def _policy(edge: Edge, device_id: str) -> Policy:
    with edge.floor.database.reading() as connection:
        jws = connection.execute(
            select(policies.c.jws)
            .where(policies.c.device_id == device_id)
            .order_by(policies.c.version.desc())
            .limit(1)
        ).scalar_one()
    keys = find((edge.floor.keys.policy.named,))
    policy = open_policy(jws.encode(), keys, DeviceId(device_id), 0)
    assert isinstance(policy, Policy)
    return policy
