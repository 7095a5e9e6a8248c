import ssl
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from cloud.access.roles import Role
from cloud.operations.people.access_tokens import create_token, revoke_tokens
from cloud.store.tables import badges, device_certificates, metadata, policies
from protocol.ids import DeviceId, EventId
from protocol.messages import Approved, Declined, Reason, SignedIn
from protocol.policy import Policy, find, open_policy
from protocol.signing import thumbprint
from tests.cloud.api.edge import URL, Edge, certificate
from tests.cloud.floor import Till

EVENT: dict[str, Any] = {
    "name": "Harbour Festival",
    "currency": "EUR",
    "locale": "en_IE",
    "timezone": "Europe/Dublin",
    "sale_max_in_cents": 9000,
    "offline": {"allowed": True, "sale_max_in_cents": 700},
    "stalls": [
        {
            "id": "bar",
            "name": "Bar",
            "products": [
                {"number": 2, "name": "Cider", "price_in_cents": 600},
                {"number": 1, "name": "Lager", "price_in_cents": 550},
            ],
        },
        {"id": "grill", "name": "Grill"},
    ],
    "staff": [
        {"id": "bo", "name": "Bo Lind", "initials": "BL", "stalls": ["grill", "bar"]},
        {"id": "ada", "name": "Ada Byrne", "initials": "AB"},
    ],
}
BAR = {"event_id": "harbour", "stall_id": "bar"}
GRILL = {"event_id": "harbour", "stall_id": "grill"}


def test_an_event_is_one_document_and_applying_it_twice_changes_nothing(edge: Edge) -> None:
    first = _apply(edge, EVENT).json()
    assert (first["is_new"], first["has_changed"]) == (True, True)
    shuffled = EVENT | {"stalls": EVENT["stalls"][::-1], "staff": EVENT["staff"][::-1]}
    again = _apply(edge, shuffled).json()
    assert (again["is_new"], again["has_changed"], again["policies"]) == (False, False, {})
    assert len(edge.floor.audit(action="event_applied")) == 1


def test_what_is_shown_can_be_applied(edge: Edge) -> None:
    _apply(edge, EVENT)
    shown = edge.http.get("/v1/ops/events/harbour", headers=edge.ops).json()
    assert [stall["id"] for stall in shown["stalls"]] == ["bar", "grill"]
    assert [product["name"] for product in shown["stalls"][0]["products"]] == ["Lager", "Cider"]
    assert shown["staff"][1]["stalls"] == ["bar", "grill"]
    assert not _apply(edge, shown).json()["has_changed"]


def test_an_appliance_gets_a_signed_policy_and_a_new_version_with_each_change(edge: Edge) -> None:
    _apply(edge, EVENT)
    _register(edge, "till-9", BAR)
    policy = _policy(edge, "till-9")
    assert (policy.version, policy.stall_name, policy.event_name) == (
        1,
        "Bar",
        "Harbour Festival",
    )
    assert [product.name for product in policy.products] == ["Lager", "Cider"]
    assert (policy.sale_max_in_cents, policy.offline.sale_max_in_cents) == (9000, 700)
    assert policy.wallet_keys == (edge.floor.keys.wallet_for(EventId("harbour")).named,)

    dearer = EVENT | {
        "stalls": [
            EVENT["stalls"][0]
            | {"products": [{"number": 1, "name": "Lager", "price_in_cents": 575}]},
            EVENT["stalls"][1],
        ]
    }
    assert _apply(edge, dearer).json()["policies"] == {"till-9": 2}
    assert _policy(edge, "till-9").products[0].price_in_cents == 575
    with edge.floor.database.reading() as connection:
        waiting = connection.execute(
            select(policies.c.version).where(policies.c.published_at.is_(None))
        ).scalars()
        assert sorted(waiting) == [1, 2]


def test_an_event_keeps_its_currency(edge: Edge) -> None:
    _apply(edge, EVENT)
    answer = _apply(edge, EVENT | {"currency": "GBP"})
    assert (answer.status_code, answer.json()["code"]) == (409, "currency_fixed")


def test_a_stall_with_an_appliance_is_not_left_out_by_accident(edge: Edge) -> None:
    _apply(edge, EVENT)
    _register(edge, "till-9", GRILL)
    answer = _apply(edge, EVENT | {"stalls": EVENT["stalls"][:1], "staff": []})
    assert (answer.status_code, answer.json()["code"]) == (409, "stall_in_use")
    assert "till-9" in answer.json()["detail"]
    assert len(edge.http.get("/v1/ops/events/harbour", headers=edge.ops).json()["stalls"]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"currency": "JPY"}, "currency"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"stalls": []}, "stalls"),
        ({"stalls": [{"id": "Bar 1", "name": "Bar"}]}, "stalls.0.id"),
        ({"stalls": [{"id": "bar", "name": "B\x1bar"}]}, "stalls.0.name"),
        ({"stalls": [{"id": "bar", "name": "A"}, {"id": "bar", "name": "B"}]}, "bar"),
        ({"staff": [{"id": "x", "name": "X", "initials": "X", "stalls": ["no"]}]}, "no stall no"),
        ({"colour": "red"}, "colour"),
        ({"starts_at": "2026-06-02T00:00Z", "ends_at": "2026-06-01T00:00Z"}, "ends_at"),
        ({"starts_at": "2026-06-02T00:00"}, "starts_at"),
        ({"sale_max_in_cents": 0}, "sale_max_in_cents"),
    ],
)
def test_a_wrong_document_is_refused_whole_and_says_where(
    lone_edge: Edge, change: dict[str, Any], said: str
) -> None:
    answer = _apply(lone_edge, EVENT | {"staff": []} | change)
    assert answer.status_code == 422
    assert said in " ".join(answer.json()["errors"])
    assert lone_edge.http.get("/v1/ops/events/harbour", headers=lone_edge.ops).status_code == 404


def test_only_a_living_ops_token_opens_the_ops_routes(edge: Edge) -> None:
    database, now = edge.floor.database, edge.floor.now()
    short = create_token(database, Role.OPS, "temp", now + timedelta(hours=1), now)
    ended = create_token(database, Role.OPS, "gone", None, now)
    revoke_tokens(database, Role.OPS, "gone", now)
    headers = {"Authorization": f"Bearer {short.token}"}
    assert edge.http.get("/v1/ops/devices", headers=headers).status_code == 200
    edge.floor.pass_time(hours=2)
    for token in (short.token, ended.token, "x", "rxo_" + "A" * 43, edge.ops_token + "x"):
        answer = edge.http.get("/v1/ops/devices", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_a_registered_appliance_signs_requests_with_its_certificates_key(edge: Edge) -> None:
    till, guest = _till(edge, "till-9"), edge.floor.add_guest(2000)
    outcome = edge.floor.ask_one(till, till.heartbeat())
    assert outcome.policy_version == 1
    assert edge.http.get("/v1/ops/devices/till-9", headers=edge.ops).json()["policy_acked"] == 1
    assert edge.floor.balance(guest) == 2000


def test_registering_twice_is_harmless_and_a_renewed_certificate_counts_besides(edge: Edge) -> None:
    _apply(edge, EVENT)
    pem, _ = certificate("till-9", edge.floor.now())
    for _time in range(2):
        assert _post_device(edge, "till-9", pem, BAR).status_code == 201
    renewed, _ = certificate("till-9", edge.floor.now())
    assert _post_device(edge, "till-9", renewed, None).json()["stall_id"] == "bar"
    with edge.floor.database.reading() as connection:
        assert len(connection.execute(select(device_certificates)).all()) == 2
    assert _policy(edge, "till-9").version == 1


def _of_another_version(pem: str) -> str:
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\x02\x01\x02", b"\x02\x01\x05", 1))


@pytest.mark.parametrize(
    "kind", ["other name", "other curve", "expired", "no certificate", "version 6"]
)
def test_a_certificate_that_cannot_be_used_enters_nobody(lone_edge: Edge, kind: str) -> None:
    now = lone_edge.floor.now()
    pem = {
        "other name": certificate("till-8", now)[0],
        "other curve": certificate("till-9", now, ec.SECP384R1())[0],
        "expired": certificate("till-9", now, valid=timedelta(days=-1))[0],
        "no certificate": "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
        "version 6": _of_another_version(certificate("till-9", now)[0]),
    }[kind]
    answer = _post_device(lone_edge, "till-9", pem, None)
    assert (answer.status_code, answer.json()["code"]) == (422, "certificate_not_usable")
    assert lone_edge.http.get("/v1/ops/devices", headers=lone_edge.ops).json() == []


def test_no_appliance_is_put_where_no_stall_is(edge: Edge) -> None:
    pem, _ = certificate("till-9", edge.floor.now())
    answer = _post_device(edge, "till-9", pem, {"event_id": "harbour", "stall_id": "moon"})
    assert (answer.status_code, answer.json()["code"]) == (404, "stall_unknown")
    assert edge.http.get("/v1/ops/devices/till-9", headers=edge.ops).status_code == 404


def test_a_revocation_counts_from_the_very_next_request_and_for_ever(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    assert isinstance(edge.floor.ask_one(till, sale), Approved)
    answer = edge.http.post(
        "/v1/ops/devices/till-1/revoke", json={"reason": "lost"}, headers=edge.ops
    )
    assert answer.json()["status"] == "revoked"
    next_sale = till.deduct(edge.floor.qr(guest), 350)
    assert edge.floor.ask_one(till, next_sale) == Declined(Reason.DEVICE_REVOKED)
    assert edge.floor.balance(guest) == 1650
    [row] = edge.floor.audit(action="device_revoked")
    detail = {"reason": "lost", "put_on_the_review_list": 1}
    assert (row.actor, row.device_id, row.detail) == ("ops:ana", "till-1", detail)

    pem, _ = certificate("till-1", edge.floor.now())
    assert _post_device(edge, "till-1", pem, None).json()["code"] == "device_revoked"
    move = {"event_id": "summer-fair", "stall_id": "grill"}
    moved = edge.http.post("/v1/ops/devices/till-1/move", json=move, headers=edge.ops)
    assert moved.json()["code"] == "device_revoked"


def test_a_quarantined_appliance_is_shown_released_and_neither_moved_nor_renewed(
    edge: Edge,
) -> None:
    till = edge.floor.add_till()
    beat = till.heartbeat()
    forked = msgspec.structs.replace(beat.journal, head="B" * 43)
    edge.floor.ask(till, beat, till.heartbeat(journal=forked))
    shown = edge.http.get("/v1/ops/devices/till-1", headers=edge.ops).json()
    assert (shown["status"], shown["quarantine_cause"]) == ("quarantined", "journal_forked")
    assert (shown["printer"], shown["queue"], shown["firmware"]) == ("ok", 0, "0.1.0")
    move = {"event_id": "summer-fair", "stall_id": "grill"}
    moved = edge.http.post("/v1/ops/devices/till-1/move", json=move, headers=edge.ops)
    assert (moved.status_code, moved.json()["code"]) == (409, "device_quarantined")
    address, why = "/v1/ops/devices/till-1/release", {"reason": "one card"}
    released = edge.http.post(address, json=why, headers=edge.ops).json()
    assert (released["status"], released["quarantined_at"]) == ("active", None)
    again = edge.http.post(address, json=why, headers=edge.ops)
    assert (again.status_code, again.json()["code"]) == (409, "device_not_quarantined")


def test_what_offline_sales_may_cost_is_told_before_they_are_switched_on(edge: Edge) -> None:
    edge.floor.add_till()
    told = edge.http.get("/v1/ops/events/summer-fair/offline", headers=edge.ops).json()
    assert told["rules"]["allowed"] is (told["loss"]["event_in_cents"] > 0)
    assert told["loss_if_allowed"] == {
        "appliances": 1,
        "sale_in_cents": 1000,
        "wallet_at_one_in_cents": 2000,
        "wallet_in_cents": 2000,
        "appliance_in_cents": 20_000,
        "event_in_cents": 20_000,
    }
    nowhere = edge.http.get("/v1/ops/events/nowhere/offline", headers=edge.ops)
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "event_unknown")


def test_a_moved_appliance_gets_its_new_policy_and_its_staff_sign_in_again(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    move = {"event_id": "summer-fair", "stall_id": "grill"}
    moved = edge.http.post("/v1/ops/devices/till-1/move", json=move, headers=edge.ops).json()
    assert (moved["stall_id"], moved["policy_version"]) == ("grill", 2)
    assert _policy(edge, "till-1").stall_id == "grill"
    assert _policy(edge, "till-1").top_up_url == f"{URL}/"
    outcome = edge.floor.ask_one(till, till.deduct(edge.floor.qr(guest), 350))
    assert outcome.reason in {Reason.SESSION_ENDED, Reason.DEVICE_ELSEWHERE}
    assert edge.floor.balance(guest) == 2000
    edge.http.post("/v1/ops/devices/till-1/move", json=move, headers=edge.ops)
    assert _policy(edge, "till-1").version == 2, "moving it to where it stands changes nothing"


def test_a_badge_and_its_pin_sign_in_and_the_badge_before_no_longer_does(edge: Edge) -> None:
    till = edge.floor.add_till()
    first = _badge(edge, "2580")
    signed_in = edge.floor.ask_one(till, till.sign_in(edge.floor, "2580", badge=first["badge"]))
    assert isinstance(signed_in, SignedIn)
    assert signed_in.staff_id == "mia"
    assert first["pin"] is None
    second = _badge(edge, None)
    assert second["pin"].isdecimal()
    assert len(second["pin"]) == 4
    refused = edge.floor.ask_one(till, till.sign_in(edge.floor, "2580", badge=first["badge"]))
    assert refused == Declined(Reason.BADGE_INVALID)
    again = till.sign_in(edge.floor, second["pin"], badge=second["badge"])
    assert isinstance(edge.floor.ask_one(till, again), SignedIn)


@pytest.mark.parametrize(
    ("staff_id", "pin", "status", "code"),
    [
        ("nobody", "2580", 404, "staff_unknown"),
        ("ada", "2580", 409, "staff_not_assigned"),
        ("mia", "1234", 422, "pin_not_allowed"),
        ("mia", "12", 422, "pin_not_allowed"),
        ("mia", "25a0", 422, "pin_not_allowed"),
    ],
)
def test_no_badge_for_those_who_may_not_have_one(
    lone_edge: Edge, staff_id: str, pin: str, status: int, code: str
) -> None:
    _apply(lone_edge, EVENT)
    answer = lone_edge.http.post(
        f"/v1/ops/events/summer-fair/staff/{staff_id}/badge",
        json={"pin": pin},
        headers=lone_edge.ops,
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    # Its request id may happen to hold two such digits.
    assert pin not in answer.text.replace(answer.json()["request_id"], "")


def test_a_pin_is_kept_nowhere(edge: Edge) -> None:
    _badge(edge, "739184")
    with edge.floor.database.reading() as connection:
        everything = "\n".join(
            str(row)
            for table in metadata.sorted_tables
            for row in connection.execute(select(table))
        )
        hashes = connection.execute(select(badges.c.pin_hash)).scalars().all()
    assert "739184" not in everything
    assert all(kept.startswith("$argon2id$") for kept in hashes)


def test_an_attendees_link_from_the_ops_desk_signs_in(edge: Edge) -> None:
    body = {"email": "Robin@Example.org"}
    first = edge.http.post("/v1/ops/attendees", json=body, headers=edge.ops).json()
    again = edge.http.post(
        "/v1/ops/attendees", json={"email": "robin@example.org "}, headers=edge.ops
    )
    assert again.status_code == 422, "an address has no spaces"
    second = edge.http.post("/v1/ops/attendees", json=body, headers=edge.ops).json()
    assert first["user_id"] == second["user_id"]
    link = first["sign_in_link"].partition("#sign-in=")[2]
    assert edge.http.post("/v1/session", json={"link": link}).status_code == 200


def test_the_policy_key_is_what_policies_are_signed_with(lone_edge: Edge) -> None:
    key = lone_edge.http.get("/v1/ops/policy-key", headers=lone_edge.ops).json()
    named = lone_edge.floor.keys.policy.named
    assert (key["kid"], key["spki"]) == (named.kid, named.spki)


def _apply(edge: Edge, document: dict[str, Any]) -> Any:
    return edge.http.put("/v1/ops/events/harbour", json=document, headers=edge.ops)


def _post_device(edge: Edge, device_id: str, pem: str, place: dict[str, str] | None) -> Any:
    body = {"device_id": device_id, "certificate_pem": pem, "place": place}
    return edge.http.post("/v1/ops/devices", json=body, headers=edge.ops)


def _register(edge: Edge, device_id: str, place: dict[str, str]) -> None:
    pem, _ = certificate(device_id, edge.floor.now())
    answer = _post_device(edge, device_id, pem, place)
    assert answer.status_code == 201, answer.text


def _till(edge: Edge, device_id: str) -> Till:
    _apply(edge, EVENT)
    pem, key = certificate(device_id, edge.floor.now())
    assert _post_device(edge, device_id, pem, BAR).status_code == 201
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return Till(DeviceId(device_id), "bar", key, thumbprint(der), "s" * 20, edge.floor.now)


def _badge(edge: Edge, pin: str | None) -> Any:
    answer = edge.http.post(
        "/v1/ops/events/summer-fair/staff/mia/badge",
        json={"draw_pin": True} if pin is None else {"pin": pin},
        headers=edge.ops,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def _policy(edge: Edge, device_id: str) -> Policy:
    answer = edge.http.get(f"/v1/ops/devices/{device_id}/policy", headers=edge.ops).json()
    keys = find((edge.floor.keys.policy.named,))
    policy = open_policy(answer["jws"].encode(), keys, DeviceId(device_id), answer["version"])
    assert isinstance(policy, Policy)
    return policy
