"""Roles that are for one event: what the path does not name is narrowed all the same."""

from typing import Any

import pytest
from sqlalchemy import insert

from cloud.access.roles import Role
from cloud.store.tables import events, stalls
from tests.cloud.api.crowd import Headers, is_refused, token
from tests.cloud.api.edge import Edge, certificate
from tests.cloud.floor import EVENT

BAR = {"event_id": EVENT, "stall_id": "bar"}
AWAY = {"event_id": "winter-fair", "stall_id": "bar"}


@pytest.fixture
def two_events(edge: Edge) -> Edge:
    """`summer-fair` with the appliance `near`, `winter-fair` with `far`; `new` stands nowhere."""
    with edge.floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id="winter-fair",
                name="Winter fair",
                currency="EUR",
                created_at=edge.floor.now(),
            )
        )
        connection.execute(
            insert(stalls).values(event_id="winter-fair", stall_id="bar", name="Bar")
        )
    for device_id, place in (("near", BAR), ("far", AWAY), ("new", None)):
        assert _register(edge, edge.ops, device_id, place).status_code == 201
    return edge


def test_ops_of_one_event_see_its_appliances_and_no_others(two_events: Edge) -> None:
    own = token(two_events, Role.OPS, EVENT)
    seen = two_events.http.get("/v1/ops/devices", headers=own).json()
    assert [each["device_id"] for each in seen] == ["near"]
    everything = two_events.http.get("/v1/ops/devices", headers=two_events.ops).json()
    assert [each["device_id"] for each in everything] == ["far", "near", "new"]
    listed = two_events.http.get("/v1/ops/events", headers=own).json()
    assert [each["event_id"] for each in listed] == [EVENT]


@pytest.mark.parametrize("device_id", ["far", "new"])
def test_ops_of_one_event_touch_no_appliance_elsewhere(two_events: Edge, device_id: str) -> None:
    own, http = token(two_events, Role.OPS, EVENT), two_events.http
    address = f"/v1/ops/devices/{device_id}"
    before = http.get(address, headers=two_events.ops).json()
    for refused in (
        http.get(address, headers=own),
        http.get(f"{address}/policy", headers=own),
        http.post(f"{address}/move", json=BAR, headers=own),
        http.post(f"{address}/revoke", json={"reason": "spite"}, headers=own),
        _register(two_events, own, device_id, BAR),
        _register(two_events, own, device_id, None),
    ):
        assert is_refused(refused), refused.text
    assert http.get(address, headers=two_events.ops).json() == before
    assert two_events.floor.audit(action="device_revoked") == []


def test_ops_of_one_event_put_no_appliance_elsewhere(two_events: Edge) -> None:
    own, http = token(two_events, Role.OPS, EVENT), two_events.http
    assert is_refused(http.post("/v1/ops/devices/near/move", json=AWAY, headers=own))
    assert is_refused(_register(two_events, own, "brand-new", AWAY))
    assert is_refused(_register(two_events, own, "brand-new", None))
    assert http.get("/v1/ops/devices/brand-new", headers=two_events.ops).status_code == 404


def test_ops_of_one_event_do_at_it_whatever_ops_do(two_events: Edge) -> None:
    own, http = token(two_events, Role.OPS, EVENT), two_events.http
    grill = {"event_id": EVENT, "stall_id": "grill"}
    assert _register(two_events, own, "brand-new", BAR).status_code == 201
    moved = http.post("/v1/ops/devices/brand-new/move", json=grill, headers=own)
    assert moved.json()["stall_id"] == "grill"
    assert http.get("/v1/ops/devices/brand-new/policy", headers=own).status_code == 200
    revoked = http.post("/v1/ops/devices/brand-new/revoke", json={"reason": "lost"}, headers=own)
    assert revoked.json()["status"] == "revoked"
    unknown = http.get("/v1/ops/devices/nowhere", headers=own)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "device_unknown")


def test_ops_of_one_event_change_no_other_and_sign_in_as_nobody(two_events: Edge) -> None:
    own, http = token(two_events, Role.OPS, EVENT), two_events.http
    document = http.get("/v1/ops/events/winter-fair", headers=two_events.ops).json()
    assert is_refused(http.put("/v1/ops/events/winter-fair", json=document, headers=own))
    assert is_refused(http.get("/v1/ops/events/winter-fair", headers=own))
    badge = "/v1/ops/events/winter-fair/staff/mia/badge"
    assert is_refused(http.post(badge, json={}, headers=own))
    assert is_refused(http.post("/v1/ops/attendees", json={}, headers=own))


def test_a_stall_owner_reads_one_stall_and_no_other(two_events: Edge) -> None:
    own, http = token(two_events, Role.STALL_OWNER, EVENT, "bar"), two_events.http
    mine = http.get(f"/v1/console/events/{EVENT}/stalls/bar/settlement", headers=own)
    assert mine.status_code == 200, mine.text
    for address in (
        f"/v1/console/events/{EVENT}/stalls/grill/settlement",
        "/v1/console/events/winter-fair/stalls/bar/settlement",
        f"/v1/console/events/{EVENT}/settlement",
        "/v1/ops/devices",
        "/v1/console/people",
        "/v1/console/reviews",
    ):
        assert is_refused(http.get(address, headers=own)), address


def _register(edge: Edge, headers: Headers, device_id: str, place: Any) -> Any:
    pem, _ = certificate(device_id, edge.floor.now())
    body: dict[str, Any] = {"device_id": device_id, "certificate_pem": pem, "place": place}
    return edge.http.post("/v1/ops/devices", json=body, headers=headers)
