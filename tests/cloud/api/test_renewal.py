"""EST's renewal over the real listener: whose certificate gets the next one."""

import base64
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import update

from cloud.operations.enrolment.enrol_renew import A_DAY_MAX
from cloud.store.tables import devices
from provisioning.authority.certificates import Device, Signer, Worker, leaf_certificate
from provisioning.authority.folder import Issued
from tests.cloud.api.enrolment_office import PKCS10, Office, said


def test_a_renewed_certificate_counts_beside_the_old_one(office: Office) -> None:
    box = office.enrolled(device_id="renew-1")
    anew = office.box()
    anew.keep(office.renew(box, anew.key))
    for each in (box, anew):
        assert office.client(each).get("/v1/pos/connection").json()["device_id"] == "renew-1"
    assert len(office.certificates_of("renew-1")) == 2
    assert office.deeds("renew-1")[-1] == ("certificate_renewed", None)


def test_the_same_key_may_be_renewed(office: Office) -> None:
    box = office.enrolled(device_id="renew-2")
    assert office.renew(box).status_code == 200


def test_a_quarantined_appliance_may_renew_and_is_not_enrolled_again(office: Office) -> None:
    box = office.enrolled(device_id="quarantined-1")
    claim = office.claim(device_id="quarantined-1")
    with office.floor.database.transaction() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == "quarantined-1")
            .values(quarantined_at=office.floor.now(), quarantine_cause="journal_forked")
        )
    assert office.renew(box).status_code == 200
    assert said(office.enrol(office.box(), claim)) == (409, "device_quarantined")


def test_a_revoked_certificate_renews_nothing_while_its_appliance_goes_on(office: Office) -> None:
    box = office.enrolled(device_id="superseded-1")
    with office.floor.database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE device_certificates SET revoked_at = not_before "
            "WHERE device_id = 'superseded-1'"
        )
    assert said(office.renew(box)) == (403, "certificate_revoked")
    assert office.deeds("superseded-1")[-1] == ("renewal_refused", "certificate_revoked")


def test_a_connection_that_outlives_its_certificate_is_told_so(
    office: Office, later: Callable[[timedelta], None]
) -> None:
    box = office.enrolled(device_id="outlived-1")
    client = office.client(box)
    assert client.get("/v1/pos/connection").status_code == 200
    later(timedelta(days=90))
    assert said(client.get("/v1/pos/connection")) == (401, "certificate_expired")


def test_without_a_certificate_nothing_is_renewed(office: Office) -> None:
    answer = office.http.post(
        "/.well-known/est/simplereenroll",
        content=base64.b64encode(office.box().csr()),
        headers=PKCS10,
    )
    assert said(answer) == (401, "certificate_unknown")
    assert said(office.http.get("/v1/pos/connection")) == (401, "certificate_unknown")


def test_a_claim_renews_nothing(office: Office) -> None:
    claim = office.claim()
    answer = office.http.post(
        "/.well-known/est/simplereenroll",
        content=base64.b64encode(office.box().csr()),
        headers=PKCS10,
        auth=(claim.claim_id, claim.secret),
    )
    assert said(answer) == (401, "certificate_unknown")


def test_a_workers_certificate_is_no_appliances(office: Office) -> None:
    box = office.box()
    issued = office.authority.issue(Worker("9"), box.key.public_key(), office.floor.now())
    assert isinstance(issued, Issued)
    box.chain = x509.load_pem_x509_certificates(issued.chain_pem)
    assert said(office.client(box).get("/v1/pos/connection")) == (401, "certificate_unknown")
    assert said(office.renew(box)) == (401, "certificate_unknown")


@pytest.mark.parametrize("kind", ["expired", "foreign"])
def test_an_expired_or_foreign_certificate_ends_the_handshake(office: Office, kind: str) -> None:
    box = office.enrolled()
    signer: Any = office.authority._issuer  # pyright: ignore[reportPrivateUsage]
    now = office.floor.now()
    if kind == "expired":
        now -= timedelta(days=91)
    else:
        signer = Signer(signer.certificate, ec.generate_private_key(ec.SECP256R1()))
    made = leaf_certificate(Device("made-up"), box.key.public_key(), signer, 77, now)
    box.chain = [made, box.chain[1]]
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        office.client(box).get("/v1/pos/connection")


def test_an_appliance_that_renews_without_end_is_stopped_for_a_day(office: Office) -> None:
    box = office.enrolled(device_id="endless-1")
    for _ in range(A_DAY_MAX - 1):
        assert office.renew(box).status_code == 200
    refused = office.renew(box)
    assert said(refused) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "86400"
    assert len(office.certificates_of("endless-1")) == A_DAY_MAX
    # It goes on with what it has, and a claim helps who needs one.
    assert office.client(box).get("/v1/pos/connection").status_code == 200
    office.enrolled(device_id="endless-1")
