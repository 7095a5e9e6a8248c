"""An appliance out of its box: by camera frames alone to its first sale, and what may go wrong."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from cloud.store.database import Database
from cloud.store.tables import review_entries
from protocol.claim_qr import claim_qr_text, read_claim_qr
from protocol.money import Money
from protocol.wifi_qr import WifiNetwork, WifiSecurity, wifi_qr_text
from provisioning.authority.certificates import Device
from provisioning.authority.folder import Authority as Signing
from provisioning.authority.folder import Issued
from provisioning.authority.passphrase import Passphrase, find_passphrase
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, eventually, now, staff_it
from venue.lights import Light
from venue.paper import plain
from venue.phone import phone
from venue.programs import run_to_end
from venue.stack import CURRENCY, EVENT, STALL, Appliance, Venue

TOP_UP = Money(2000, CURRENCY)
WIFI = WifiNetwork(ssid="Harbour", security=WifiSecurity.WPA, password='open; "sesame"')

pytestmark = pytest.mark.xdist_group("enrolment")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    """mosquitto, and a cloud that enrols; no appliance so far."""
    folder = tmp_path_factory.mktemp("office")
    document = BAR_DOCUMENT | {"offline": {"allowed": True}}
    with Venue(folder, document=document, appliances=0, enrols=True) as venue:
        yield venue


def hold_up(box: Appliance, venue: Venue, text: str) -> float:
    """A code before the camera, as a phone shows it; when."""
    began = now()
    box.counter.edge.show(phone(text, venue.rng(), "easy"))
    return began


def wait(box: Appliance, light: Light, since: float = 0.0) -> None:
    box.counter.edge.wait_for_light(light, since=since, timeout_s=WITHIN_S)


def slip(box: Appliance, since: float, *, says: str) -> str:
    """The first slip since that says this, its lines joined."""

    def look() -> str | None:
        papers = [each for each in box.counter.edge.papers if each.at > since]
        said = [" ".join(plain(each.printed).split()) for each in papers]
        return next((each for each in said if says in each), None)

    return eventually(look, f"a slip that says {says!r}")


def test_from_the_box_to_the_first_sale_by_camera_frames_alone(office: Venue) -> None:
    box = office.blank("box-1", serial="1000-1")
    edge = box.counter.edge
    wait(box, Light.ENROL)
    assert "Serial 1000-1" in slip(box, 0, says="Show me a code")
    edge.put_in_reach(Harbour=WIFI.password)
    began = hold_up(box, office, wifi_qr_text(WIFI))
    eventually(lambda: edge.joined or None, "the Wi-Fi to be joined")
    claim = office.desk.claim(EVENT, STALL, serial="1000-1")
    began = hold_up(box, office, claim.qr_text)
    said = slip(box, began, says="Welcome")
    assert f"This appliance is {claim.device_id}." in said
    assert "Harbour Festival" in said
    assert "Bar North" in said
    edge.clear()
    wait(box, Light.NOBODY_SIGNED_IN, began)

    box.counter.sign_in(staff_it(office))
    guest = office.attendee("first@example.org")
    guest.top_up(TOP_UP)
    sale = box.counter.sell("500#", guest.fresh_qr().digits, "easy")
    assert sale.light is Light.APPROVED
    assert guest.balance(CURRENCY).amount_in_cents == 1500
    # Before that, the green may be one that nobody saw: staff would be asked after the cut.
    wait(box, Light.READY, sale.lit_at)

    # Each start of an enrolled appliance is an ordinary one: the same till, and no second welcome.
    box.cut_power()
    box.switch_on(office.rng())
    wait(box, Light.READY)
    assert "Welcome" not in " ".join(plain(each.printed) for each in box.counter.edge.papers)
    log = box.program.log.read_text()
    secret = read_claim_qr(claim.qr_text)
    assert secret is not None
    assert secret.secret not in log
    assert WIFI.password not in log
    box.switch_off()


def test_a_wrong_fingerprint_is_told_nothing_and_a_right_claim_helps(office: Venue) -> None:
    box = office.blank("box-2")
    wait(box, Light.ENROL)
    claim = office.desk.claim(EVENT, STALL)
    read = read_claim_qr(claim.qr_text)
    assert read is not None
    began = hold_up(box, office, claim_qr_text(replace(read, fingerprint=bytes(32))))
    assert "not whom the claim names" in slip(box, began, says="Not enrolled")
    wait(box, Light.NOT_ENROLLED, began)
    # The claim is as good as new: its secret was told to nobody.
    began = hold_up(box, office, claim.qr_text)
    slip(box, began, says=claim.device_id)
    box.switch_off()


def test_a_used_and_a_withdrawn_claim_say_so_on_paper(office: Venue) -> None:
    first, second = office.blank("box-3"), office.blank("box-4")
    claim = office.desk.claim(EVENT, STALL)
    began = hold_up(first, office, claim.qr_text)
    slip(first, began, says="Welcome")
    first.switch_off()
    began = hold_up(second, office, claim.qr_text)
    slip(second, began, says="was used before")
    wait(second, Light.NOT_ENROLLED, began)
    withdrawn = office.desk.claim(EVENT, STALL)
    office.desk.withdraw(withdrawn)
    began = hold_up(second, office, withdrawn.qr_text)
    slip(second, began, says="was withdrawn")
    bound = office.desk.claim(EVENT, STALL, serial="another-one")
    began = hold_up(second, office, bound.qr_text)
    slip(second, began, says="is for another appliance")
    second.switch_off()


def test_without_a_network_the_claim_waits_until_there_is_one(office: Venue) -> None:
    box = office.blank("box-5")
    wait(box, Light.ENROL)
    office.enrolment_network.cut()
    try:
        claim = office.desk.claim(EVENT, STALL)
        began = hold_up(box, office, claim.qr_text)
        slip(box, began, says="does not reach the cloud")
        wait(box, Light.NO_WAY, began)
        box.counter.edge.clear()
    finally:
        # From here on: it tries again by itself as well, and may be first.
        mended = now()
        office.enrolment_network.mend()
    box.counter.edge.put_in_reach(Harbour=WIFI.password)
    hold_up(box, office, wifi_qr_text(WIFI))
    slip(box, mended, says=claim.device_id)
    box.switch_off()


def test_a_power_cut_while_the_cloud_answers_loses_neither_key_nor_claim(office: Venue) -> None:
    box = office.blank("box-6")
    wait(box, Light.ENROL)
    claim = office.desk.claim(EVENT, STALL)
    key = box.folder / "identity.new" / "key.pem"
    office.enrolment_network.swallow_replies()
    hold_up(box, office, claim.qr_text)
    drafted = eventually(lambda: key.read_bytes() if key.exists() else None, "the drafted key")
    box.cut_power()
    office.enrolment_network.mend()
    box.switch_on(office.rng())
    wait(box, Light.ENROL)
    began = hold_up(box, office, claim.qr_text)
    slip(box, began, says=claim.device_id)
    assert (Path(box.folder) / "identity" / "key.pem").read_bytes() == drafted
    box.switch_off()


def with_a_certificate_of(days: int, office: Venue, name: str) -> Appliance:
    """An appliance that was enrolled so long ago, and lay in its box since."""
    folder = office.authority.ca
    passphrase = find_passphrase(folder, None, {})
    assert isinstance(passphrase, Passphrase)
    signing = Signing.open(folder, passphrase)
    assert isinstance(signing, Signing)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = signing.issue(Device(name), key.public_key(), datetime.now(UTC) - timedelta(days))  # noqa: TID251
    assert isinstance(issued, Issued)
    identity = office.folder / name / "identity"
    identity.mkdir(parents=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    trust = {"policy_keys": [office.desk.policy_key()]}
    cloud = {
        "url": f"https://localhost:{office.enrolment_network.port}",
        "broker": {"host": office.broker.host, "port": office.broker.port},
    }
    for file, content in (
        ("key.pem", pem),
        ("certificate.pem", issued.chain_pem),
        ("ca.pem", issued.root_pem),
        ("trust.json", json.dumps(trust).encode()),
        ("cloud.json", json.dumps(cloud).encode()),
    ):
        (identity / file).write_bytes(content)
        (identity / file).chmod(0o600)
    office.desk.register_device(name, identity / "certificate.pem", EVENT, STALL)
    return office.blank(name)


def test_a_certificate_past_two_thirds_of_its_life_is_renewed_and_the_next_sale_signed_under_it(
    office: Venue,
) -> None:
    box = with_a_certificate_of(62, office, "lay-around-1")
    identity = box.folder / "identity" / "certificate.pem"
    old = identity.read_bytes()
    wait(box, Light.NOBODY_SIGNED_IN)
    eventually(lambda: "certificate_renewed" in box.program.output() or None, "the renewal")
    assert identity.read_bytes() != old
    assert not (box.folder / "identity.old").exists()
    assert not (box.folder / "identity.next").exists()
    wait(box, Light.NOBODY_SIGNED_IN, now())
    box.counter.sign_in(staff_it(office))
    guest = office.attendee("renewed@example.org")
    guest.top_up(TOP_UP)
    assert box.counter.sell("300#", guest.fresh_qr().digits, "easy").light is Light.APPROVED
    box.switch_off()


def test_what_a_stolen_appliance_sold_alone_reaches_the_review_list_once_it_is_found(
    office: Venue,
) -> None:
    box = office.blank("stolen", relays=True)
    wait(box, Light.ENROL)
    claim = office.desk.claim(EVENT, STALL, device_id="stolen-1")
    began = hold_up(box, office, claim.qr_text)
    slip(box, began, says="Welcome")
    box.counter.edge.clear()
    wait(box, Light.NOBODY_SIGNED_IN, began)
    box.counter.sign_in(staff_it(office))
    guest = office.attendee("found@example.org")
    guest.top_up(TOP_UP)
    digits, began = guest.fresh_qr().digits, now()
    box.network.cut()
    wait(box, Light.OFFLINE_ALLOWED, began)
    box.counter.key("400#")
    box.counter.show_phone(digits, "easy")
    wait(box, Light.APPROVED_OFFLINE, began)
    box.switch_off()

    office.desk.revoke_device("stolen-1", "stolen")
    upload = [sys.executable, "-m", "device", "upload", "--config", box.folder / "pos.toml"]
    assert "Everything is answered." in run_to_end(upload)

    assert "Nothing waits here." in run_to_end(upload)
    assert reviewed(office, "stolen-1") == [("offline_acceptance", 400, "open")]
    assert guest.balance(CURRENCY) == TOP_UP
    assert office.reconcile()["balanced"]


def reviewed(office: Venue, device_id: str) -> list[tuple[str, int, str]]:
    """What of this appliance waits for a person."""
    database = Database(f"sqlite:///{office.folder / 'cloud' / 'cloud.sqlite'}")
    try:
        with database.reading() as connection:
            found = select(
                review_entries.c.kind, review_entries.c.amount_in_cents, review_entries.c.state
            ).where(review_entries.c.device_id == device_id)
            return [(row.kind, row.amount_in_cents, row.state) for row in connection.execute(found)]
    finally:
        database.close()
