"""The warden's thread: follows by itself, one at a time, and goes on when something is away."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, update
from structlog.testing import capture_logs

from cloud.metrics import CERTIFICATES_EXPIRING, CRL_EXPIRES, WARDEN_FAILING
from cloud.operations.fleet.register_device import revoke_device
from cloud.settings import AuthoritySettings, BrokerSettings
from cloud.store.tables import device_certificates
from cloud.warden.expiry import count, find_expiring, raise_alarms
from cloud.warden.registry import Registry
from cloud.warden.warden import Warden
from cloud.worker.worker import Worker as CloudWorker
from protocol.messages import Approved, Declined, Reason
from provisioning.authority.certificates import Constraints, Server, Worker
from provisioning.authority.folder import Authority, expires_at, found, new_key, read_crl
from provisioning.authority.passphrase import Passphrase
from provisioning.authority.reissue import OfflineRoot, reissue
from tests.cloud.floor import Floor, Till
from tests.cloud.warden.sitting import Sitting
from tests.cloud.wire import Line, WireTill, eventually
from venue.servers import Broker, Credentials

Enrol = Callable[[Floor], tuple[Till, Line]]
Start = Callable[..., Warden]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Warden] = []

    def start(floor: Floor, settings: AuthoritySettings, broker: BrokerSettings | None) -> Warden:
        warden = Warden(settings, broker, floor.database, floor.now)
        running.append(warden)
        warden.start()
        return warden

    yield start
    for warden in running:
        warden.stop()
    CRL_EXPIRES.set_function(lambda: math.nan)
    WARDEN_FAILING.clear()


@pytest.fixture
def own_ca(tmp_path: Path) -> Path:
    """An authority of the test's own, which it may take away or break."""
    folder = tmp_path / "ca"
    founded = found(folder, None, Constraints(), datetime.fromisoformat("2026-06-01T00:00:00Z"))
    assert isinstance(founded, Authority)
    return folder


def failing(duty: str) -> float:
    return WARDEN_FAILING.labels(duty)._value.get()


def test_a_revocation_is_followed_and_the_next_deduct_was_refused_before(
    sqlite_floor: Floor,
    enrol: Enrol,
    start: Start,
    authority_settings: AuthoritySettings,
    broker_settings: BrokerSettings,
) -> None:
    floor = sqlite_floor
    (lost, line), guest = enrol(floor), floor.add_guest()
    first = start(floor, authority_settings, broker_settings)
    eventually((authority_settings.folder / "warden.lock").exists)
    second = start(floor, authority_settings, broker_settings)
    with Sitting(line) as session:
        revoke_device(floor.database, lost.device_id, "lost", actor="ops:ana", now=floor.now())
        refused = floor.ask_one(lost, lost.deduct(floor.qr(guest)))
        assert refused == Declined(Reason.DEVICE_REVOKED)
        assert floor.balance(guest) == 2000
        assert session.has_ended()
    first.stop()
    other, other_line = enrol(floor)
    with Sitting(other_line) as session:
        revoke_device(floor.database, other.device_id, "lost", actor="ops:ana", now=floor.now())
        assert session.has_ended()
    assert second.is_alive
    eventually(lambda: len(floor.audit(action="broker_session_ended")) == 2)


def test_the_deduct_sent_right_after_the_revocation_on_the_open_connection_is_refused(
    sqlite_floor: Floor,
    enrol: Enrol,
    broker: Broker,
    worker_credentials: list[Credentials],
) -> None:
    floor = sqlite_floor
    (lost, line), guest = enrol(floor), floor.add_guest()
    reply = floor.keys.reply
    worker = CloudWorker(floor.desk, Line.of(broker, worker_credentials[0]))
    worker.start()
    try:
        assert worker.wait_until_subscribed(20)
        with WireTill(lost, line, reply.private.public_key(), reply.kid) as stall:
            assert isinstance(stall.ask(lost.deduct(floor.qr(guest))), Approved)
            revoke_device(floor.database, lost.device_id, "x", actor="ops:ana", now=floor.now())
            assert stall.ask(lost.deduct(floor.qr(guest))) == Declined(Reason.DEVICE_REVOKED)
    finally:
        worker.stop()
    assert len(floor.deducts(guest)) == 1
    assert floor.balance(guest) == 1650


def test_a_broker_that_is_away_is_named_and_waited_for(
    sqlite_floor: Floor, own_ca: Path, start: Start, broker_settings: BrokerSettings
) -> None:
    floor = sqlite_floor
    away = broker_settings.model_copy(update={"port": 1})
    till = floor.add_till("nobody-home")
    revoke_device(floor.database, till.device_id, "lost", actor="ops:ana", now=floor.now())
    with capture_logs() as logs:
        start(floor, AuthoritySettings(folder=own_ca), away)
        eventually(lambda: failing("sessions") == 1)
        eventually(lambda: failing("revocations") == 0)
    said = [each for each in logs if each["event"] == "warden_cannot"]
    assert [each["duty"] for each in said] == ["sessions"]
    assert "session_not_ended" in said[0]["fault"]


@pytest.mark.parametrize("trouble", ["folder away", "passphrase wrong"])
def test_an_authority_that_cannot_be_used_is_named_and_used_again_once_it_can(
    sqlite_floor: Floor, own_ca: Path, start: Start, trouble: str, tmp_path: Path
) -> None:
    floor, elsewhere = sqlite_floor, tmp_path / "elsewhere"
    till = floor.add_till("till-9")
    with floor.database.transaction() as connection:
        soon = floor.now() + timedelta(days=3)
        connection.execute(update(device_certificates).values(not_after=soon))
    secret = own_ca / "issuing/passphrase"
    right = secret.read_bytes()
    if trouble == "folder away":
        own_ca.rename(elsewhere)
        named, duty = "authority_not_usable", "lock"
    else:
        secret.write_bytes(b"not-the-right-passphrase\n")
        named, duty = "authority_not_opened", "revocations"
    with capture_logs() as logs:
        start(floor, AuthoritySettings(folder=own_ca), None)
        eventually(lambda: failing(duty) == 1)
        revoked = floor.add_till("till-10")
        revoke_device(floor.database, revoked.device_id, "x", actor="ops:ana", now=floor.now())
        # The ledger needs no authority.
        guest = floor.add_guest()
        assert floor.ask_one(till, till.deduct(floor.qr(guest))).amount.amount_in_cents == 350
        assert floor.ask_one(revoked, revoked.deduct(floor.qr(guest))) == Declined(
            Reason.DEVICE_REVOKED
        )
        if trouble == "folder away":
            elsewhere.rename(own_ca)
        else:
            eventually(lambda: len(floor.audit(action="certificate_expiring")) == 1)
            secret.write_bytes(right)
        eventually(lambda: failing(duty) == 0)
    faults = {each["fault"] for each in logs if each["event"] == "warden_cannot"}
    assert any(named in fault for fault in faults)
    assert "not-the-right" not in str(logs)
    assert right.decode().strip() not in str(logs)


def test_the_list_is_renewed_daily_and_whenever_the_clock_was_wrong(own_ca: Path) -> None:
    registry = Registry(AuthoritySettings(folder=own_ca))
    began = read_crl(own_ca).last_update_utc + timedelta(hours=1)
    assert not registry.bring_after([], began + timedelta(hours=22))
    assert registry.bring_after([], began + timedelta(hours=23))
    assert not registry.bring_after([], began + timedelta(hours=24))
    # A clock a month ahead dates a list that no broker takes once it is right again.
    month = timedelta(days=30)
    assert registry.bring_after([], began + month)
    assert registry.bring_after([], began)
    assert expires_at(read_crl(own_ca)) <= began + timedelta(days=7)
    (own_ca / "crl.pem").unlink()
    assert registry.bring_after([], began)
    (own_ca / "crl.pem").write_text("half a lis")
    assert registry.bring_after([], began)
    assert not registry.bring_after([], began)


def test_after_a_new_issuing_key_the_one_before_signs_no_list(own_ca: Path) -> None:
    registry = Registry(AuthoritySettings(folder=own_ca))
    began = read_crl(own_ca).last_update_utc + timedelta(hours=1)
    registry.bring_after([], began + timedelta(days=1))
    passphrase = Passphrase((own_ca / "root/passphrase").read_text().strip())
    replaced = reissue(own_ca, OfflineRoot(own_ca / "root/key.pem", passphrase), None, began)
    assert isinstance(replaced, Authority)
    assert registry.bring_after([], began + timedelta(days=2))
    issuing = x509.load_pem_x509_certificate((own_ca / "issuing.pem").read_bytes())
    key = issuing.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert read_crl(own_ca).is_signature_valid(key)


def test_a_list_that_runs_out_is_an_alarm(sqlite_floor: Floor, own_ca: Path, start: Start) -> None:
    (own_ca / "issuing/key.pem").unlink()
    with capture_logs() as logs:
        start(sqlite_floor, AuthoritySettings(folder=own_ca), None)
        eventually(lambda: failing("crl") == 1)
    assert "crl_expires_soon" in str([each for each in logs if each["event"] == "warden_cannot"])
    # Founded in June, and long over.
    [told] = CRL_EXPIRES.collect()
    assert told.samples[0].value < 0


def test_each_certificate_is_told_of_once_at_each_threshold(floor: Floor, own_ca: Path) -> None:
    begins = datetime.fromisoformat("2026-06-01T00:00:00Z")
    passphrase = Passphrase((own_ca / "issuing/passphrase").read_text().strip())
    authority = Authority.open(own_ca, passphrase)
    assert isinstance(authority, Authority)
    authority.issue(Worker("1"), new_key().public_key(), begins)
    authority.issue(Worker("1"), new_key().public_key(), begins + timedelta(days=60))
    authority.issue(Worker("2"), new_key().public_key(), begins)
    authority.issue(Server(("broker",)), new_key().public_key(), begins)
    till, left = floor.add_till("till-1"), floor.add_till("till-2")
    with floor.database.transaction() as connection:
        ends = begins + timedelta(days=90)
        connection.execute(update(device_certificates).values(not_after=ends))
        connection.execute(
            insert(device_certificates).values(
                thumbprint="R" * 43,
                device_id=left.device_id,
                spki="x",
                not_before=begins,
                not_after=ends + timedelta(days=60),
            )
        )
    registry = Registry(AuthoritySettings(folder=own_ca))
    for day, expected in ((70, 0), (76, 2), (77, 0), (83, 2), (89, 2), (91, 0)):
        now = begins + timedelta(days=day, seconds=1)
        expiring = find_expiring(floor.database, registry.register(), now)
        with capture_logs() as logs:
            assert raise_alarms(floor.database, expiring, now) == expected, day
            assert raise_alarms(floor.database, expiring, now) == 0
        assert len(logs) == expected
    records = floor.audit(action="certificate_expiring")
    assert [each.outcome for each in records if each.device_id == till.device_id] == [
        "within_14_days",
        "within_7_days",
        "within_1_days",
    ]
    assert {each.detail["name"] for each in records} == {"till-1", "cloud-worker-2"}
    assert count(expiring, now) == {1: 2, 7: 2, 14: 2}


def test_who_looks_late_is_told_of_the_nearest_threshold_alone(sqlite_floor: Floor) -> None:
    floor = sqlite_floor
    floor.add_till()
    now = floor.now() + timedelta(days=89, hours=12)
    expiring = find_expiring(floor.database, None, now)
    assert raise_alarms(floor.database, expiring, now) == 1
    assert raise_alarms(floor.database, expiring, now - timedelta(days=10)) == 0
    assert [each.outcome for each in floor.audit(action="certificate_expiring")] == [
        "within_1_days"
    ]
    assert CERTIFICATES_EXPIRING.describe()
