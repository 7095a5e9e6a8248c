"""The appliances' listener: what is there and what is not, floods, power cuts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud.access.pace import Pace
from provisioning.authority.folder import Authority, read_register
from tests.cloud.api.enrolment_office import PKCS10, Office, certificates_in, said
from tests.cloud.floor import EVENT


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/wallet",
        "/v1/ops/claims",
        "/v1/openapi.json",
        "/.well-known/jwks.json",
        "/static/x",
    ],
)
def test_nothing_for_attendees_or_ops_is_on_the_appliances_listener(
    office: Office, path: str
) -> None:
    answer = office.http.get(path, headers={"Authorization": f"Bearer {office.token}"})
    assert said(answer) == (404, "not_found")


def test_health_and_signed_requests_are_on_the_appliances_listener(office: Office) -> None:
    assert office.http.get("/healthz").json() == {"status": "alive"}
    assert office.http.get("/readyz").json()["status"] == "ready"
    answer = office.http.post(
        "/v1/pos/requests",
        content=b"x",
        headers={"Content-Type": "application/jose", "Idempotency-Key": "k" * 20},
    )
    assert said(answer) == (400, "key_differs")


def test_est_is_on_the_appliances_listener_alone(office: Office) -> None:
    for path in ("/.well-known/est/cacerts", "/v1/pos/connection"):
        assert office.ops.get(path).status_code == 404


def test_a_flood_of_guesses_is_stopped_and_the_log_does_not_grow_with_it(tmp_path: Path) -> None:
    office = Office(
        f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path, enrolment_failures=Pace(3, 600)
    )
    try:
        claim, box = office.claim(), office.box()
        unknown = replace(claim, claim_id="A" * 10)
        answers = [said(office.enrol(box, unknown)) for _ in range(12)]
        assert answers[:3] == [(401, "claim_wrong")] * 3
        assert set(answers[3:]) == {(429, "too_many_requests")}
        flood = office.enrol(box, claim)
        assert said(flood) == (429, "too_many_requests")
        assert int(flood.headers["retry-after"]) > 0
        deeds = [deed for deed, _ in office.deeds()]
        assert deeds.count("claim_refused") == 3
        assert len(deeds) < 8
    finally:
        office.close()


def test_a_server_without_an_authority_enrols_nobody_and_says_so(tmp_path: Path) -> None:
    office = Office(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path, is_closed=True)
    try:
        body = {"event_id": EVENT, "stall_id": "bar"}
        assert said(office.ops.post("/v1/ops/claims", json=body)) == (503, "enrolment_closed")
        for path in ("simpleenroll", "simplereenroll"):
            answer = office.http.post(f"/.well-known/est/{path}", content=b"", headers=PKCS10)
            assert said(answer) == (503, "enrolment_closed")
        assert len(certificates_in(office.http.get("/.well-known/est/cacerts"))) == 2
    finally:
        office.close()


def test_power_lost_between_issuing_and_storing_leaves_the_claim_open(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, box = office.claim(device_id="cut-1"), office.box()
    issue = Authority.issue

    def issue_and_die(*said_to: Any) -> Any:
        issue(*said_to)
        raise RuntimeError("the power went")

    monkeypatch.setattr(Authority, "issue", issue_and_die)
    assert office.enrol(box, claim).status_code == 500
    assert office.device("cut-1") is None
    monkeypatch.undo()
    box.keep(office.enrol(box, claim))
    [kept] = office.certificates_of("cut-1")
    known = [
        each
        for each in read_register(office.authority.folder).entries
        if each.common_name == "cut-1"
    ]
    assert [each.serial == kept.serial for each in known] == [False, True]


def test_secrets_are_kept_as_a_hash_and_told_once(office: Office) -> None:
    claim = office.claim()
    assert claim.secret not in str(office.look(claim))
    assert claim.secret not in str(office.ops.get("/v1/ops/claims").json())
    assert claim.secret not in repr(claim)
    assert claim.secret.encode() not in (office.folder / "cloud.sqlite").read_bytes()
