"""After an appliance left: register, revocation list, broker, session, with the real ones."""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from cloud.operations.fleet.register_device import revoke_device
from cloud.settings import BrokerSettings
from cloud.store.tables import device_certificates, devices
from cloud.warden.following import AGAIN_AFTER, end_sessions, list_revocations
from cloud.warden.registry import Registry
from protocol.ids import DeviceId
from provisioning.authority.certificates import Kind
from provisioning.authority.register import Reason
from tests.cloud.floor import Floor, Till
from tests.cloud.warden.sitting import Sitting, is_let_in
from tests.cloud.wire import Line, eventually
from venue.servers import Authority

Enrol = Callable[[Floor], tuple[Till, Line]]


def revoke(floor: Floor, till: Till) -> None:
    revoke_device(
        floor.database, till.device_id, "lost at the gate", actor="ops:ana", now=floor.now()
    )


def standing(floor: Floor, device_id: DeviceId) -> tuple[datetime | None, ...]:
    """When the CRL had it, when its session was ended, when once more."""
    with floor.database.reading() as connection:
        row = connection.execute(
            select(
                device_certificates.c.revocation_listed_at,
                devices.c.session_ended_at,
                devices.c.session_ended_again_at,
            )
            .join(devices, devices.c.device_id == device_certificates.c.device_id)
            .where(devices.c.device_id == device_id)
        ).one()
    return tuple(row)


def test_a_revoked_appliances_session_ends_and_no_new_one_begins(
    floor: Floor, enrol: Enrol, registry: Registry, broker_settings: BrokerSettings
) -> None:
    (lost, lost_line), (other, other_line) = enrol(floor), enrol(floor)
    with Sitting(lost_line) as session, Sitting(other_line) as others:
        revoke(floor, lost)
        assert list_revocations(floor.database, registry, floor.now()) == 1
        # The list alone ends nothing that stands.
        assert session.is_open()
        assert end_sessions(floor.database, registry, broker_settings, floor.now()) == 1
        assert session.has_ended()
        eventually(lambda: not is_let_in(lost_line))
        assert others.is_open()
    assert is_let_in(other_line)
    listed_at, ended_at, again_at = standing(floor, lost.device_id)
    assert listed_at is not None
    assert ended_at is not None
    assert again_at is None
    assert standing(floor, other.device_id) == (None, None, None)
    [deed] = floor.audit(action="broker_session_ended")
    assert (deed.actor, deed.device_id) == ("system:warden", lost.device_id)


def test_a_session_that_began_before_the_broker_knew_is_ended_too(
    sqlite_floor: Floor, enrol: Enrol, registry: Registry, broker_settings: BrokerSettings
) -> None:
    floor = sqlite_floor
    lost, line = enrol(floor)
    revoke(floor, lost)
    assert end_sessions(floor.database, registry, broker_settings, floor.now()) == 1
    with Sitting(line) as slipped_in:
        list_revocations(floor.database, registry, floor.now())
        # Too early: the broker may not have read the list.
        assert end_sessions(floor.database, registry, broker_settings, floor.now()) == 0
        later = floor.now() + AGAIN_AFTER + timedelta(seconds=1)
        assert end_sessions(floor.database, registry, broker_settings, later) == 1
        assert slipped_in.has_ended()
    eventually(lambda: not is_let_in(line))
    assert end_sessions(floor.database, registry, broker_settings, later) == 0
    assert None not in standing(floor, lost.device_id)
    assert len(floor.audit(action="broker_session_ended")) == 1


def test_the_second_look_waits_until_the_list_has_every_certificate(
    sqlite_floor: Floor, enrol: Enrol, registry: Registry, broker_settings: BrokerSettings
) -> None:
    floor = sqlite_floor
    lost, _ = enrol(floor)
    revoke(floor, lost)
    end_sessions(floor.database, registry, broker_settings, floor.now())
    much_later = floor.now() + timedelta(minutes=5)
    assert end_sessions(floor.database, registry, broker_settings, much_later) == 0


def test_listing_again_changes_nothing(
    sqlite_floor: Floor, enrol: Enrol, registry: Registry
) -> None:
    floor = sqlite_floor
    lost, _ = enrol(floor)
    revoke(floor, lost)
    assert list_revocations(floor.database, registry, floor.now()) == 1
    number = registry.register().crl_number
    revoke(floor, lost)
    assert list_revocations(floor.database, registry, floor.now()) == 0
    assert registry.register().crl_number == number
    [entry] = registry.register().of_device(lost.device_id)
    assert entry.reason is Reason.KEY_COMPROMISE


def test_what_was_issued_and_never_kept_is_revoked_with_the_rest(
    sqlite_floor: Floor,
    enrol: Enrol,
    registry: Registry,
    authority: Authority,
) -> None:
    """A renewal that was under way: the authority signed, and the cloud was gone."""
    floor = sqlite_floor
    lost, line = enrol(floor)
    authority.certify_devices(lost.device_id)
    assert len(registry.register().of_device(lost.device_id)) == 2
    revoke(floor, lost)
    list_revocations(floor.database, registry, floor.now())
    assert all(entry.revoked_at for entry in registry.register().of_device(lost.device_id))
    eventually(lambda: not is_let_in(line))


def test_a_takeovers_certificate_lives_for_an_hour_and_is_nobodys_to_keep(
    sqlite_floor: Floor, enrol: Enrol, registry: Registry, broker_settings: BrokerSettings
) -> None:
    floor = sqlite_floor
    lost, _ = enrol(floor)
    revoke(floor, lost)
    end_sessions(floor.database, registry, broker_settings, floor.now())
    [entry] = [
        each
        for each in registry.register().entries
        if each.kind is Kind.TAKEOVER and each.common_name == lost.device_id
    ]
    assert entry.not_after - floor.now() <= timedelta(hours=1)
    assert entry.thumbprint not in {
        each.thumbprint for each in registry.register().of_device(lost.device_id)
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_handshake_does_not_get_past_the_list(
    sqlite_floor: Floor,
    enrol: Enrol,
    registry: Registry,
    version: ssl.TLSVersion,
) -> None:
    """Whoever resumes a session of TLS shows no certificate again."""
    floor = sqlite_floor
    lost, line = enrol(floor)
    context = ssl.create_default_context(cafile=str(line.authorities))
    context.load_cert_chain(str(line.certificate), str(line.key))
    context.minimum_version = context.maximum_version = version
    with Sitting(line, context) as sitting:
        assert sitting.is_open()
        resumed = sitting.tls_session
    revoke(floor, lost)
    list_revocations(floor.database, registry, floor.now())
    eventually(lambda: not is_let_in(line))
    assert not is_let_in(line, context, resumed)
