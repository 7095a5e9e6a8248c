"""EST's first enrolment over the real listener: what a claim is good for."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.encoding import public_key_to_text
from protocol.ids import DeviceId
from protocol.policy import Policy, find, open_policy
from provisioning.authority.certificates import Device
from provisioning.authority.folder import Issued
from tests.cloud.api.enrolment_office import PKCS10, Office, certificates_in, said, set_status
from tests.cloud.floor import EVENT


def test_a_claim_gives_a_blank_appliance_a_name_a_stall_a_certificate_and_a_policy(
    office: Office,
) -> None:
    claim, box = office.claim("grill", device_id="grill-left"), office.box()
    answer = office.enrol(box, claim)
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["content-transfer-encoding"] == "base64"
    box.keep(answer)
    names = box.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["grill-left"]
    device = office.device("grill-left")
    assert (device.event_id, device.stall_id, device.status) == (EVENT, "grill", "active")
    [kept] = office.certificates_of("grill-left")
    assert kept.spki == public_key_to_text(box.key.public_key())
    assert int(kept.serial, 16) == box.certificate.serial_number
    policy = office.ops.get("/v1/ops/devices/grill-left/policy").json()
    keys = find((office.floor.keys.policy.named,))
    opened = open_policy(policy["jws"].encode(), keys, DeviceId("grill-left"), 1)
    assert isinstance(opened, Policy)
    assert (opened.stall_id, opened.top_up_url) == ("grill", "http://wallet.test/")
    assert office.look(claim)["state"] == "used"
    assert [deed for deed, _ in office.deeds("grill-left")] == [
        "claim_made",
        "claim_used",
        "certificate_issued",
    ]


def test_an_enrolled_appliance_is_told_where_the_broker_is_and_whose_policies_count(
    office: Office,
) -> None:
    box = office.enrolled(device_id="told-1")
    answer = office.client(box).get("/v1/pos/connection")
    told = answer.json()
    named = office.floor.keys.policy.named
    assert told.pop("cloud_time_ms") == int(office.floor.now().timestamp() * 1000)
    assert told == {
        "device_id": "told-1",
        "event_name": "Summer fair",
        "stall_name": "Bar",
        "broker": {"host": "localhost", "port": 8883},
        "policy_keys": [{"kid": named.kid, "spki": named.spki}],
    }


def test_the_root_and_the_issuing_certificate_are_there_for_everybody(office: Office) -> None:
    answer = office.http.get("/.well-known/est/cacerts")
    assert answer.headers["content-type"] == "application/pkcs7-mime"
    assert answer.headers["content-transfer-encoding"] == "base64"
    shown = certificates_in(answer)
    claim = office.claim()
    [root] = [each for each in shown if each.fingerprint(hashes.SHA256()) == claim.fingerprint]
    [issuing] = [each for each in shown if each is not root]
    issuing.verify_directly_issued_by(root)


def test_the_claim_names_the_address_that_the_certificate_is_for(office: Office) -> None:
    claim = office.claim()
    assert f"https://{claim.host}:{claim.port}" == office.url


def test_a_wrong_secret_is_refused_with_the_way_to_show_a_right_one(office: Office) -> None:
    claim, box = office.claim(device_id="wrong-1"), office.box()
    answer = office.enrol(box, claim, secret="A" * 32)
    assert said(answer) == (401, "claim_wrong")
    assert answer.headers["www-authenticate"] == 'Basic realm="enrolment"'
    assert office.deeds("wrong-1")[-1] == ("claim_refused", "wrong_secret")
    assert office.enrol(box, claim).status_code == 200


@pytest.mark.parametrize("name", ["A" * 10, "", "a:b", "Ω", "' OR 1=1 --", "K7QXM2D4TAA"])
def test_an_unknown_claim_is_refused_as_a_wrong_secret_is(office: Office, name: str) -> None:
    basic = base64.b64encode(f"{name}:{'A' * 32}".encode()).decode()
    for said_so in (basic, basic.rstrip("=") + "="):
        answer = office.http.post(
            "/.well-known/est/simpleenroll",
            content=base64.b64encode(office.box().csr()),
            headers=PKCS10 | {"Authorization": f"Basic {said_so}"},
        )
        assert said(answer) == (401, "claim_wrong")


@pytest.mark.parametrize(
    "shown", [None, "Basic", "Basic ====", "Basic QUFB", "Basic \xe9", "Bearer x"]
)
def test_without_a_claim_the_way_to_show_one_is_told(office: Office, shown: str | None) -> None:
    answer = office.http.post(
        "/.well-known/est/simpleenroll",
        content=base64.b64encode(office.box().csr()),
        headers=[
            *((name.encode(), said_so.encode()) for name, said_so in PKCS10.items()),
            *([] if shown is None else [(b"Authorization", shown.encode("latin-1"))]),
        ],
    )
    assert said(answer) == (401, "claim_wrong")
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_five_wrong_secrets_lock_the_claim_for_the_right_one_too(office: Office) -> None:
    claim, box = office.claim(device_id="locked-1"), office.box()
    for _ in range(5):
        assert said(office.enrol(box, claim, secret="B" * 32)) == (401, "claim_wrong")
    assert said(office.enrol(box, claim)) == (403, "claim_locked")
    assert office.look(claim)["state"] == "locked"
    deeds = office.deeds("locked-1")
    assert deeds.count(("claim_refused", "wrong_secret")) == 5
    assert deeds.count(("claim_locked", "wrong_secret")) == 1
    assert deeds[-1] == ("claim_refused", "locked")
    assert office.device("locked-1") is None


def test_right_secrets_are_not_counted_as_tries(office: Office) -> None:
    claim, box = office.claim(), office.box()
    answers = [office.enrol(box, claim) for _ in range(7)]
    assert {answer.status_code for answer in answers} == {200}
    assert office.look(claim)["tries"] == 0


def test_wrong_secrets_at_once_are_counted_one_by_one(office: Office) -> None:
    claim, box = office.claim(), office.box()
    with ThreadPoolExecutor(8) as guessers:
        tries = [guessers.submit(office.enrol, box, claim, secret="C" * 32) for _ in range(12)]
        codes = sorted(said(each.result())[1] for each in tries)
    assert codes == ["claim_locked"] * 7 + ["claim_wrong"] * 5


def test_a_claim_lasts_a_quarter_of_an_hour(
    office: Office, later: Callable[[timedelta], None]
) -> None:
    claim, box = office.claim(device_id="late-1"), office.box()
    later(timedelta(minutes=15))
    assert said(office.enrol(box, claim)) == (403, "claim_expired")
    assert office.deeds("late-1")[-1] == ("claim_refused", "claim_expired")
    assert office.look(claim)["state"] == "expired"


def test_a_claim_is_used_once(office: Office) -> None:
    claim = office.claim(device_id="once-1")
    office.box().keep(office.enrol(office.box(), claim))
    assert said(office.enrol(office.box(), claim)) == (403, "claim_used")
    assert office.deeds("once-1")[-1] == ("claim_refused", "claim_used")
    assert len(office.certificates_of("once-1")) == 1


def test_a_lost_answer_is_given_again_to_the_same_key_while_the_claim_lasts(
    office: Office, later: Callable[[timedelta], None]
) -> None:
    claim, box = office.claim(device_id="again-1"), office.box()
    first = certificates_in(office.enrol(box, claim))
    later(timedelta(minutes=14))
    assert certificates_in(office.enrol(box, claim)) == first
    later(timedelta(minutes=2))
    assert said(office.enrol(box, claim)) == (403, "claim_expired")
    assert len(office.certificates_of("again-1")) == 1


def test_a_withdrawn_claim_is_refused(office: Office) -> None:
    claim = office.claim(device_id="withdrawn-1")
    for _ in range(2):
        withdrawn = office.ops.post(f"/v1/ops/claims/{claim.claim_id}/withdraw")
        assert withdrawn.json()["state"] == "withdrawn"
    assert said(office.enrol(office.box(), claim)) == (403, "claim_withdrawn")
    assert [deed for deed, _ in office.deeds("withdrawn-1")] == [
        "claim_made",
        "claim_withdrawn",
        "claim_refused",
    ]


def test_a_used_claim_cannot_be_withdrawn(office: Office) -> None:
    claim = office.claim()
    office.enrol(office.box(), claim)
    answer = office.ops.post(f"/v1/ops/claims/{claim.claim_id}/withdraw")
    assert said(answer) == (403, "claim_used")


def test_a_claim_for_a_serial_number_is_for_that_appliance_alone(office: Office) -> None:
    claim, box = office.claim(serial="10000000a1", device_id="serial-1"), office.box()
    assert said(office.enrol(box, claim)) == (403, "serial_wrong")
    assert said(office.enrol(box, claim, serial="10000000A1")) == (403, "serial_wrong")
    assert office.deeds("serial-1")[-1] == ("claim_refused", "serial_wrong")
    assert office.enrol(box, claim, serial="10000000a1").status_code == 200


def test_an_enrolled_name_takes_another_key_by_a_new_claim_and_both_count(office: Office) -> None:
    before = office.enrolled(device_id="twice-1")
    after = office.enrolled(device_id="twice-1", stall="grill")
    for box in (before, after):
        told = office.client(box).get("/v1/pos/connection").json()
        assert (told["device_id"], told["stall_name"]) == ("twice-1", "Grill")


@pytest.mark.parametrize("status", ["revoked", "decommissioned"])
def test_a_name_that_left_is_not_enrolled_again(office: Office, status: str) -> None:
    name = f"left-{status[:3]}"
    claim = office.claim(device_id=name)
    office.enrolled(device_id=f"{name}-x")
    box = office.enrolled(device_id=name)
    again = office.claim(device_id=name)
    set_status(office, name, status)
    assert said(office.enrol(box, again)) == (403, "device_revoked")
    refused = office.ops.post(
        "/v1/ops/claims", json={"event_id": EVENT, "stall_id": "bar", "device_id": name}
    )
    assert said(refused) == (409, "device_revoked")
    assert said(office.renew(box)) == (403, "device_revoked")
    assert said(office.client(box).get("/v1/pos/connection")) == (403, "device_revoked")
    assert said(office.enrol(office.box(), claim)) == (403, "claim_withdrawn")


def test_a_name_that_somebody_registered_meanwhile_is_not_given_away(office: Office) -> None:
    claim = office.claim(device_id="meanwhile-1")
    office.floor.pass_time(seconds=1)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = office.authority.issue(Device("meanwhile-1"), key.public_key(), office.floor.now())
    assert isinstance(issued, Issued)
    pem = issued.chain_pem.decode()
    body = {"device_id": "meanwhile-1", "certificate_pem": pem}
    assert office.ops.post("/v1/ops/devices", json=body).status_code in {200, 201}
    assert said(office.enrol(office.box(), claim)) == (403, "claim_withdrawn")


def test_the_appliance_whose_place_it_takes_is_decommissioned_with_the_enrolment(
    office: Office,
) -> None:
    old = office.enrolled(device_id="old-1")
    claim = office.claim(device_id="new-1", replaces="old-1")
    assert office.device("old-1").status == "active"
    assert office.enrol(office.box(), claim).status_code == 200
    assert office.device("old-1").status == "decommissioned"
    assert office.device("old-1").replaced_by == "new-1"
    assert said(office.client(old).get("/v1/pos/connection")) == (403, "device_revoked")


def test_a_stall_that_went_away_meanwhile_takes_no_appliance(office: Office) -> None:
    claim = office.claim("grill", device_id="nowhere-1")
    with office.floor.database.transaction() as connection:
        connection.exec_driver_sql(
            f"UPDATE claims SET stall_id = 'gone' WHERE claim_id = '{claim.claim_id}'"
        )
    assert said(office.enrol(office.box(), claim)) == (404, "stall_unknown")


@pytest.mark.parametrize("fault", ["away", "damaged"])
def test_an_authority_that_cannot_write_costs_no_claim_and_is_told_by_name(
    office: Office, fault: str
) -> None:
    claim, box, register = office.claim(), office.box(), office.folder / "ca" / "register.json"
    enrolled = office.enrolled()
    content = register.read_bytes()
    if fault == "away":
        register.unlink()
    else:
        register.write_bytes(b"{")
    try:
        assert said(office.enrol(box, claim)) == (503, "enrolment_closed")
        assert said(office.renew(enrolled)) == (503, "enrolment_closed")
    finally:
        register.write_bytes(content)
    assert office.enrol(box, claim).status_code == 200
