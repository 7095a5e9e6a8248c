"""Appliances: known by their certificate, put at a stall, moved, revoked."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, select, update

from cloud.keys import KeyRing
from cloud.operations.event.issue_policy import issue_policy
from cloud.operations.fleet.read_devices import Device, read_device
from cloud.operations.fleet.read_unsynced import Force, read_unsynced, refuse_unsynced
from cloud.operations.fleet.retire_device import Leaving, end_sessions, retire
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices, lock_event
from cloud.store.tables import device_certificates, devices, policies, stalls
from protocol.encoding import public_key_to_text
from protocol.ids import DeviceId, EventId, StallId
from protocol.signing import thumbprint
from provisioning.authority.register import serial_text

PEM_BYTES_MAX: Final = 64 * 1024

Within = frozenset[EventId] | None
"""The events for which somebody acts; None: every event."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What of an appliance's certificate is kept: enough to check what it signs."""

    thumbprint: str
    serial: str
    """As the authority's register spells it."""
    spki: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Place:
    event_id: EventId
    stall_id: StallId


@dataclass(frozen=True, slots=True)
class SignedPolicy:
    version: int
    jws: str
    issued_at: datetime
    expires_at: datetime
    is_published: bool


def register_device(
    database: Database,
    keys: KeyRing,
    device_id: DeviceId,
    certificate_pem: bytes,
    place: Place | None,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
    top_up_url: str | None = None,
) -> Device | Refusal:
    """Enter the appliance and its certificate, and put it at a stall where one is named.

    A known appliance gets the certificate besides those it has, as at a renewal. Whoever acts for
    some events alone says at which of them it stands.
    """
    certificate = read_certificate(device_id, certificate_pem, now)
    if isinstance(certificate, Refusal):
        return certificate
    with database.transaction() as connection:
        if place is not None:
            lock_event(connection, place.event_id, to_change=False)
        lock_devices(connection, [device_id], key=certificate.spki)
        if not is_within(within, None if place is None else place.event_id):
            return ELSEWHERE
        if place is not None and not is_stall(connection, place):
            return no_stall(place)
        is_new = insert_if_new(connection, devices, {"device_id": device_id, "created_at": now})
        refusal = None if is_new else refuse_outside(connection, device_id, within)
        refusal = (
            refusal
            or refuse_inactive(connection, device_id)
            or refuse_known_key(connection, device_id, certificate.spki)
        )
        if refusal is not None:
            return refusal
        keep_certificate(connection, device_id, certificate)
        if place is not None:
            assign(connection, keys, device_id, place, now, top_up_url=top_up_url)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="device_registered",
            outcome="done",
            subject=certificate.thumbprint,
            device_id=device_id,
            event_id=None if place is None else place.event_id,
        )
        write_audit_records(connection, [deed])
        return read_device(connection, device_id, now)


def move_device(
    database: Database,
    keys: KeyRing,
    device_id: DeviceId,
    place: Place,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
    top_up_url: str | None = None,
    force: Force | None = None,
) -> Device | Refusal:
    """Put the appliance at another stall; whoever was signed in there signs in again.

    To another event it goes once nothing of the old one is left in it, or by `force`: its sales
    are posted at the old event whenever they come, but nobody there sees it any more.
    """
    with database.transaction() as connection:
        lock_event(connection, place.event_id, to_change=False)
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        if not is_within(within, place.event_id):
            return ELSEWHERE
        if not is_stall(connection, place):
            return no_stall(place)
        refusal = refuse_inactive(connection, device_id)
        if refusal is not None:
            return refusal
        unsynced = (
            ()
            if _is_at(connection, device_id, place)
            else read_unsynced(connection, device_id, now)
        )
        if unsynced and force is None:
            return refuse_unsynced(device_id, unsynced)
        assign(connection, keys, device_id, place, now, top_up_url=top_up_url)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="device_moved",
            outcome="done" if force is None else "forced",
            subject=place.stall_id,
            device_id=device_id,
            event_id=place.event_id,
            detail=None if force is None else force.told(unsynced),
        )
        write_audit_records(connection, [deed])
        return read_device(connection, device_id, now)


def revoke_device(
    database: Database,
    device_id: DeviceId,
    reason: str,
    *,
    actor: str,
    now: datetime,
    within: Within = None,
) -> Device | Refusal:
    """From the very next transaction on nothing new of this appliance is posted.

    The device's lock is taken alone: a batch that holds it is over, and the next one sees this.
    The warden ends its session at the broker; `read_leaving` says how far that is.
    """
    with database.transaction() as connection:
        lock_devices(connection, [device_id])
        refusal = refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        reviewed = retire(connection, device_id, Leaving.REVOKED, reason, now)
        left = read_device(connection, device_id, now)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="device_revoked",
            outcome="done",
            device_id=device_id,
            event_id=left.event_id,
            detail={"reason": reason, "put_on_the_review_list": reviewed},
        )
        write_audit_records(connection, [deed])
        return left


def find_device(
    database: Database, device_id: DeviceId, now: datetime, within: Within = None
) -> Device | Refusal:
    with database.reading() as connection:
        refusal = refuse_outside(connection, device_id, within)
        return refusal or read_device(connection, device_id, now)


def newest_policy(
    database: Database, device_id: DeviceId, within: Within = None
) -> SignedPolicy | Refusal:
    with database.reading() as connection:
        refusal = None if within is None else refuse_outside(connection, device_id, within)
        if refusal is not None:
            return refusal
        row = connection.execute(
            select(policies)
            .where(policies.c.device_id == device_id)
            .order_by(policies.c.version.desc())
            .limit(1)
        ).one_or_none()
    if row is None:
        return Refusal(
            Code.POLICY_UNKNOWN,
            f"No policy was ever issued for {device_id!r}.",
            "Put the appliance at a stall.",
        )
    published = row.published_at is not None
    return SignedPolicy(row.version, row.jws, row.issued_at, row.expires_at, published)


def read_certificate(
    device_id: DeviceId, certificate_pem: bytes, now: datetime
) -> Certificate | Refusal:
    """The first certificate in the file, where it is this appliance's and still counts."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem[:PEM_BYTES_MAX])
        key = certificate.public_key()
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        return _not_usable("It is no certificate in PEM form.")
    if not (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"):
        return _not_usable("Its key is not P-256.")
    if [name.value for name in names] != [device_id]:
        return _not_usable(f"Its common name is not {device_id!r}.")
    if certificate.not_valid_after_utc <= now:
        return _not_usable("It has expired.")
    return Certificate(
        thumbprint(certificate.public_bytes(Encoding.DER)),
        serial_text(certificate.serial_number),
        public_key_to_text(key),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def is_within(within: Within, event_id: EventId | None) -> bool:
    return within is None or event_id in within


def refuse_outside(connection: Connection, device_id: DeviceId, within: Within) -> Refusal | None:
    """An appliance that is unknown, or at an event that is not theirs who ask."""
    found = connection.execute(
        select(devices.c.event_id).where(devices.c.device_id == device_id)
    ).one_or_none()
    if found is None:
        return _unknown(device_id)
    return None if is_within(within, found.event_id) else ELSEWHERE


def refuse_inactive(connection: Connection, device_id: DeviceId) -> Refusal | None:
    found = connection.execute(
        select(devices.c.status, devices.c.quarantined_at).where(devices.c.device_id == device_id)
    ).one_or_none()
    if found is None:
        return _unknown(device_id)
    if found.status != "active":
        return Refusal(
            Code.DEVICE_REVOKED,
            f"{device_id} is {found.status}, and stays so.",
            "Enrol the appliance again under another id.",
        )
    if found.quarantined_at is not None:
        return Refusal(
            Code.DEVICE_QUARANTINED,
            f"{device_id} is quarantined: its journal contradicts what it said before.",
            "Find out why (docs/offline.md), then release it or revoke it.",
        )
    return None


def refuse_known_key(connection: Connection, device_id: DeviceId, spki: str) -> Refusal | None:
    """A key is one appliance's for ever, also of one that was revoked; its lock is held."""
    found = connection.execute(
        select(device_certificates.c.device_id)
        .where(device_certificates.c.spki == spki, device_certificates.c.device_id != device_id)
        .limit(1)
    ).scalar_one_or_none()
    if found is None:
        return None
    return Refusal(
        Code.KEY_ON_ANOTHER_DEVICE,
        "This key is known as another appliance's.",
        "Have the appliance make a key of its own: a copied card is no second appliance.",
    )


def keep_certificate(connection: Connection, device_id: DeviceId, certificate: Certificate) -> None:
    row = {
        "thumbprint": certificate.thumbprint,
        "device_id": device_id,
        "serial": certificate.serial,
        "spki": certificate.spki,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
    }
    insert_if_new(connection, device_certificates, row)


def assign(
    connection: Connection,
    keys: KeyRing,
    device_id: DeviceId,
    place: Place,
    now: datetime,
    *,
    top_up_url: str | None,
) -> None:
    """The place's event and the appliance are held (`store.locks`)."""
    current = connection.execute(
        select(devices.c.event_id, devices.c.stall_id).where(devices.c.device_id == device_id)
    ).one()
    if (current.event_id, current.stall_id) == (place.event_id, place.stall_id):
        return
    connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id)
        .values(event_id=place.event_id, stall_id=place.stall_id)
    )
    end_sessions(connection, device_id, now)
    issue_policy(connection, keys, device_id, now, top_up_url=top_up_url)


def _is_at(connection: Connection, device_id: DeviceId, place: Place) -> bool:
    """Whether it is at this event already, or nowhere yet."""
    current = select(devices.c.event_id).where(devices.c.device_id == device_id)
    return connection.execute(current).scalar_one() in {None, place.event_id}


def is_stall(connection: Connection, place: Place) -> bool:
    found = select(stalls.c.stall_id).where(
        stalls.c.event_id == place.event_id, stalls.c.stall_id == place.stall_id
    )
    return connection.execute(found).one_or_none() is not None


def no_stall(place: Place) -> Refusal:
    return Refusal(
        Code.STALL_UNKNOWN,
        f"There is no stall {place.stall_id!r} at event {place.event_id!r}.",
        "Apply an event that has it, or correct the name.",
    )


def _unknown(device_id: DeviceId) -> Refusal:
    return Refusal(
        Code.DEVICE_UNKNOWN,
        f"There is no appliance {device_id!r}.",
        "Register it with its certificate first.",
    )


def _not_usable(why: str) -> Refusal:
    return Refusal(
        Code.CERTIFICATE_NOT_USABLE,
        f"The certificate cannot be used. {why}",
        "Issue one with `railtix-ops ca issue device ID` and send its certificate.pem.",
    )


ELSEWHERE: Final = Refusal(
    Code.NOT_ALLOWED,
    "This is not at an event of yours.",
    "Ask somebody with the role ops for that event, or for every event.",
)
