"""Claims as ops make, see and withdraw them."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from cloud.access.roles import Role
from cloud.operations.people.access_tokens import create_token
from cloud.operations.people.tries import forget_old_secrets
from cloud.store.tables import events, stalls
from protocol.ids import EventId
from tests.cloud.api.enrolment_office import Office, said
from tests.cloud.floor import EVENT


def test_names_are_the_stalls_lowest_that_nobody_has_or_was_promised(tmp_path: Path) -> None:
    office = Office(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path)
    try:
        office.floor.add_till("bar-2")
        assert _promised(office, office.claim()) == "bar-1"
        third = office.claim()
        assert _promised(office, third) == "bar-3"
        office.ops.post(f"/v1/ops/claims/{third.claim_id}/withdraw")
        assert _promised(office, office.claim()) == "bar-3"
        assert _promised(office, office.claim("grill")) == "grill-1"
    finally:
        office.close()


def test_a_second_claim_for_a_name_withdraws_the_first(office: Office) -> None:
    first, second = office.claim(device_id="again-2"), office.claim(device_id="again-2")
    assert (office.look(first)["state"], office.look(second)["state"]) == ("withdrawn", "open")
    assert said(office.enrol(office.box(), first)) == (403, "claim_withdrawn")


@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        ({"stall_id": "nowhere"}, (404, "stall_unknown")),
        ({"event_id": "no-event"}, (404, "stall_unknown")),
        ({"device_id": "cloud-worker-1"}, (422, "name_not_allowed")),
        ({"device_id": "Bar 1"}, (422, "request_not_understood")),
        ({"replaces": "nobody-1"}, (404, "device_unknown")),
        ({"serial": "two words"}, (422, "request_not_understood")),
        ({"serial": ""}, (422, "request_not_understood")),
        ({"colour": "red"}, (422, "request_not_understood")),
    ],
)
def test_a_claim_for_what_is_not_there_is_refused(
    office: Office, wanted: dict[str, str], refused: tuple[int, str]
) -> None:
    body = {"event_id": EVENT, "stall_id": "bar"} | wanted
    assert said(office.ops.post("/v1/ops/claims", json=body)) == refused


def test_an_appliance_does_not_take_its_own_place(office: Office) -> None:
    office.enrolled(device_id="own-1")
    body = {"event_id": EVENT, "stall_id": "bar", "device_id": "own-1", "replaces": "own-1"}
    assert said(office.ops.post("/v1/ops/claims", json=body)) == (422, "name_not_allowed")


def test_ops_of_another_event_make_see_and_withdraw_no_claim_here(office: Office) -> None:
    with office.floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id="elsewhere", name="E", currency="EUR", created_at=office.floor.now()
            )
        )
        connection.execute(insert(stalls).values(event_id="elsewhere", stall_id="bar", name="B"))
    made = create_token(
        office.floor.database,
        Role.OPS,
        "eve",
        None,
        office.floor.now(),
        event_id=EventId("elsewhere"),
    )
    eve = {"Authorization": f"Bearer {made.token}"}
    claim = office.claim(device_id="wanted-1")
    address = f"/v1/ops/claims/{claim.claim_id}"
    body = {"event_id": EVENT, "stall_id": "bar"}
    # The same name at their own event would withdraw the claim that is open for it here.
    stolen = {"event_id": "elsewhere", "stall_id": "bar", "device_id": "wanted-1"}
    for answer in (
        office.ops.post("/v1/ops/claims", json=body, headers=eve),
        office.ops.post("/v1/ops/claims", json=stolen, headers=eve),
        office.ops.get(address, headers=eve),
        office.ops.post(f"{address}/withdraw", headers=eve),
    ):
        assert said(answer) == (403, "not_allowed")
    assert office.look(claim)["state"] == "open"
    assert office.ops.get("/v1/ops/claims", headers=eve).json() == []
    own = office.ops.post("/v1/ops/claims", json=stolen | {"device_id": "eves-1"}, headers=eve)
    assert own.status_code == 201
    assert said(office.ops.get("/v1/ops/claims/AAAAAAAAAA")) == (404, "claim_unknown")


def _promised(office: Office, claim: Any) -> str:
    return office.look(claim)["device_id"]


def test_old_claims_are_forgotten_with_other_old_secrets(tmp_path: Path) -> None:
    office = Office(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path)
    try:
        claim = office.claim()
        for days, status in ((29, 200), (2, 404)):
            office.floor.pass_time(days=days)
            forget_old_secrets(office.floor.database, office.floor.now())
            assert office.ops.get(f"/v1/ops/claims/{claim.claim_id}").status_code == status
    finally:
        office.close()
