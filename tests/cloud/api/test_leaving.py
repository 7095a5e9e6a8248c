"""An appliance leaves, over HTTP: asked for by ops, said no to, followed, and found again."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from protocol.claim_qr import read_claim_qr
from protocol.messages import Reply, UnderReview, decode_reply
from protocol.signing import Profile, Verified, verify
from provisioning.cli import leaving as commands
from provisioning.cli.app import app
from tests.cloud.api.enrolment_office import Office
from tests.cloud.floor import Floor, Till


def device(office: Office, till: Till, deed: str, **body: Any) -> Any:
    return office.ops.post(f"/v1/ops/devices/{till.device_id}/{deed}", json=body)


def leaving(office: Office, till: Till) -> Any:
    answer = office.ops.get(f"/v1/ops/devices/{till.device_id}/leaving")
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcome(floor: Floor, token: bytes) -> Any:
    signer = floor.keys.reply

    def find(kid: str) -> ec.EllipticCurvePublicKey | None:
        return signer.private.public_key() if kid == signer.kid else None

    verified = verify(Profile.REPLY, token, find)
    assert isinstance(verified, Verified)
    reply = decode_reply(verified.payload)
    assert isinstance(reply, Reply)
    return reply.outcome


def test_a_stolen_appliance_that_is_found_hands_its_sales_over_without_the_broker(
    office: Office,
) -> None:
    """Over the appliances' listener, with no certificate shown: the signature is the proof."""
    till, guest = office.floor.add_till("gone-1"), office.floor.add_guest()
    sale = till.accept_offline(till.deduct(office.floor.qr(guest)))
    assert device(office, till, "revoke", reason="stolen").status_code == 200
    assert leaving(office, till)["reviews"] == []
    headers = {"Content-Type": "application/jose", "Idempotency-Key": sale.key}
    for _ in range(2):
        answer = office.http.post("/v1/pos/requests", content=till.sign(sale), headers=headers)
        assert answer.status_code == 200, answer.text
        assert isinstance(outcome(office.floor, answer.content), UnderReview)
    assert office.floor.balance(guest) == 2000
    [review] = leaving(office, till)["reviews"]
    assert (review["amount_in_cents"], review["currency"]) == (350, "EUR")
    assert review["reason"] == "device_revoked"


def test_an_appliance_in_use_is_neither_decommissioned_nor_replaced_unless_forced(
    office: Office,
) -> None:
    till = office.floor.add_till("gone-2")
    for deed in ("decommission", "replace"):
        answer = device(office, till, deed)
        assert (answer.status_code, answer.json()["code"]) == (409, "device_unsynced")
        assert "Somebody is signed in" in answer.json()["detail"]
    forced = device(office, till, "decommission", force_reason="its screen is broken")
    assert (forced.status_code, forced.json()["status"]) == (200, "decommissioned")
    found = leaving(office, till)
    assert (found["status"], found["reason"]) == ("decommissioned", "its screen is broken")
    assert (found["crl_has_it"], found["session_ended_at"]) == (False, None)
    assert device(office, till, "replace", lost_reason="x").status_code == 201


def test_the_old_appliance_sells_until_the_one_in_its_place_has_enrolled(office: Office) -> None:
    till = office.floor.add_till("gone-3")
    made = device(office, till, "replace", force_reason="its printer is broken")
    assert made.status_code == 201, made.text
    claim = read_claim_qr(made.json()["qr_text"])
    assert claim is not None
    assert leaving(office, till)["status"] == "active"
    box = office.box()
    box.keep(office.enrol(box, claim))
    found = leaving(office, till)
    assert (found["status"], found["replaced_by"]) == ("decommissioned", made.json()["device_id"])


def test_the_command_says_truthfully_that_the_broker_has_not_let_go_yet(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No warden runs here."""
    till = office.floor.add_till("gone-4")
    monkeypatch.setattr(commands, "WAIT_S", 0.0)
    environment = {"RAILTIX_OPS_URL": office.ops_url, "RAILTIX_OPS_TOKEN": office.token}
    asked = ["device", "revoke", till.device_id, "--reason", "lost"]
    declined = CliRunner().invoke(app, asked, input="n\n", env=environment)
    assert declined.exit_code == 1
    assert "nothing was done" in declined.stderr
    assert leaving(office, till)["status"] == "active"
    done = CliRunner().invoke(app, [*asked, "--yes"], env=environment)
    assert done.exit_code == commands.NOT_YET
    assert "revoked. Nothing new of it is posted from now on." in done.stdout
    assert "Nothing of it is on the review list." in done.stdout
    assert "its session at the broker goes on" in done.stderr
    other = office.floor.add_till("gone-5")
    half = ["device", "decommission", other.device_id, "--force"]
    assert CliRunner().invoke(app, half, env=environment).exit_code == 1
    refused = CliRunner().invoke(app, [*half[:-1], "--yes"], env=environment)
    assert "Somebody is signed in there" in refused.stderr
    replaced = CliRunner().invoke(
        app,
        ["device", "replace", other.device_id, "--lost", "--reason", "x", "--yes"],
        env=environment,
    )
    assert replaced.exit_code == 0, replaced.stderr
    assert "bar-" in replaced.stdout
    assert leaving(office, other)["status"] == "revoked"
