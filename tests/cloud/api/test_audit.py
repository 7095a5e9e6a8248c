from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from cloud.access.roles import Role
from cloud.audit.proofs import NotProven, Proven, check
from cloud.operations.people.access_tokens import create_token
from cloud.operations.proof.sequence_records import sequence_records
from tests.cloud.api.edge import Edge


def bearer(edge: Edge, role: Role) -> dict[str, str]:
    made = create_token(edge.floor.database, role, f"{role.value}-1", None, edge.floor.now())
    return {"Authorization": f"Bearer {made.token}"}


@pytest.fixture
def sold(edge: Edge, tmp_path: Path) -> tuple[Edge, UUID]:
    """Three sales, of which all are in the tree; and the first one's id."""
    till, guest = edge.floor.add_till(), edge.floor.add_guest()
    for _ in range(3):
        edge.floor.ask(till, till.deduct(edge.floor.qr(guest)))
    sequence(edge, tmp_path)
    return edge, edge.floor.deducts(guest)[0].id


def sequence(edge: Edge, folder: Path) -> None:
    for _ in range(3):
        sequence_records(
            edge.floor.database, edge.floor.keys, edge.floor.now(), folder / "checkpoint.jws"
        )


def test_anyone_may_keep_the_newest_checkpoint(edge: Edge, tmp_path: Path) -> None:
    none_yet = edge.http.get("/v1/audit/checkpoint")
    assert (none_yet.status_code, none_yet.json()["code"]) == (404, "no_checkpoint")
    sequence(edge, tmp_path)
    said = edge.http.get("/v1/audit/checkpoint").json()
    kept = (tmp_path / "checkpoint.jws").read_text().strip()
    assert (said["jws"], said["epoch"]) == (kept, 1)


def test_an_admin_reads_the_log_page_by_page(sold: tuple[Edge, UUID]) -> None:
    edge, _ = sold
    admin = bearer(edge, Role.ADMIN)
    wanted: dict[str, Any] = {"action": "deduct", "limit": 2}
    first = edge.http.get("/v1/console/audit/records", params=wanted, headers=admin).json()
    rest = edge.http.get(
        "/v1/console/audit/records",
        params=wanted | {"cursor": first["next_cursor"]},
        headers=admin,
    ).json()
    seen = [*first["records"], *rest["records"]]
    assert [len(first["records"]), len(rest["records"]), rest["next_cursor"]] == [2, 1, None]
    assert [each["id"] for each in seen] == sorted((each["id"] for each in seen), reverse=True)
    assert {each["action"] for each in seen} == {"deduct"}
    assert all(each["leaf"]["epoch"] == 1 for each in seen)
    assert all(each["device_id"] == "till-1" and each["request_hash"] for each in seen)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"device_id": "till-1"}, 3),
        ({"device_id": "till-2"}, 0),
        ({"actor": "staff:mia", "outcome": "approved"}, 3),
        ({"action": "audit_epoch_began", "subject": "1"}, 1),
        ({"event_id": "summer-fair"}, 3),
    ],
)
def test_records_are_found_by_what_they_say(
    sold: tuple[Edge, UUID], wanted: dict[str, str], count: int
) -> None:
    edge, _ = sold
    found = edge.http.get(
        "/v1/console/audit/records", params=wanted, headers=bearer(edge, Role.ADMIN)
    )
    assert len(found.json()["records"]) == count


def test_records_are_found_by_time(sold: tuple[Edge, UUID]) -> None:
    edge, _ = sold
    admin, now = bearer(edge, Role.ADMIN), edge.floor.now()

    def count(**wanted: Any) -> int:
        said = {name: at.isoformat() for name, at in wanted.items()} | {"action": "deduct"}
        found = edge.http.get("/v1/console/audit/records", params=said, headers=admin)
        return len(found.json()["records"])

    assert count(since=now, until=now + timedelta(seconds=1)) == 3
    assert count(since=now + timedelta(seconds=1)) == 0
    assert count(until=now) == 0


@pytest.mark.parametrize(
    "wanted",
    [
        {"cursor": "AAAA"},
        {"limit": "0"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00:00+01:00"},
        {"actor": "\x00"},
    ],
)
def test_what_cannot_be_a_page_of_records_is_refused(
    lone_edge: Edge, wanted: dict[str, str]
) -> None:
    answer = lone_edge.http.get(
        "/v1/console/audit/records", params=wanted, headers=bearer(lone_edge, Role.ADMIN)
    )
    assert answer.status_code == 422


def test_a_proof_had_over_http_holds_for_whoever_has_the_key(sold: tuple[Edge, UUID]) -> None:
    edge, transaction_id = sold
    answer = edge.http.get(
        f"/v1/console/audit/proofs/{transaction_id}", headers=bearer(edge, Role.FINANCE)
    )
    key = edge.floor.keys.checkpoint.private.public_key()
    found = check(answer.content, key)
    assert isinstance(found, Proven)
    assert found.record["id"] == str(transaction_id)
    assert isinstance(check(answer.content, edge.floor.keys.reply.private.public_key()), NotProven)


def test_what_is_in_no_tree_yet_is_not_proven(edge: Edge) -> None:
    finance = bearer(edge, Role.FINANCE)
    guest = edge.floor.add_guest()
    [purchase] = edge.floor.transactions(guest)
    early = edge.http.get(f"/v1/console/audit/proofs/{purchase.id}", headers=finance)
    assert (early.status_code, early.json()["code"]) == (409, "not_proven")
    unknown = edge.http.get(f"/v1/console/audit/proofs/{uuid7()}", headers=finance)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "transaction_unknown")


@pytest.mark.parametrize("role", [Role.OPS, Role.SUPERVISOR, Role.STALL_OWNER, Role.FINANCE])
def test_only_an_admin_reads_the_log(lone_edge: Edge, role: Role) -> None:
    answer = lone_edge.http.get("/v1/console/audit/records", headers=bearer(lone_edge, role))
    assert answer.status_code == 403
