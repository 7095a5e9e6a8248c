"""Renewal: whoever holds a certificate that counts gets the next one; then both count."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from cloud.operations.enrolment.enrol_claim import Enrolled, certify
from cloud.operations.enrolment.enrol_request import read_request
from cloud.operations.enrolment.enrol_tries import ACTOR
from cloud.operations.fleet.register_device import (
    keep_certificate,
    read_certificate,
    refuse_known_key,
)
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import device_certificates, devices
from protocol.ids import DeviceId, EventId, StallId
from provisioning.authority import certificates
from provisioning.authority.folder import Authority

A_DAY: Final = timedelta(days=1)
A_DAY_MAX: Final = 12
"""An appliance whose renewals fail asks again after ten minutes, then ever more rarely."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whose certificate a TLS connection was made with."""

    device_id: DeviceId
    event_id: EventId | None
    stall_id: StallId | None


def find_peer(database: Database, thumbprint: str | None, now: datetime) -> Peer | Refusal:
    with database.reading() as connection:
        return _find_peer(connection, thumbprint, now)


def renew(
    database: Database, authority: Authority, thumbprint: str | None, csr: bytes, *, now: datetime
) -> Enrolled | Refusal:
    """A quarantined appliance may: what it still has to send is signed by it."""
    renewed = _renew(database, authority, thumbprint, csr, now)
    if isinstance(renewed, Refusal) and renewed.code is not Code.TOO_MANY_REQUESTS:
        _record_refusal(database, thumbprint, renewed, now)
    return renewed


def _renew(
    database: Database, authority: Authority, thumbprint: str | None, csr: bytes, now: datetime
) -> Enrolled | Refusal:
    peer = find_peer(database, thumbprint, now)
    if isinstance(peer, Refusal):
        return peer
    requested = read_request(csr)
    if isinstance(requested, Refusal):
        return requested
    with database.reading() as connection:
        refusal = _refuse_flood(connection, peer.device_id, now) or refuse_known_key(
            connection, peer.device_id, requested.spki
        )
    chain_pem = refusal or certify(authority, peer.device_id, requested, now)
    if isinstance(chain_pem, Refusal):
        return chain_pem

    certificate = read_certificate(peer.device_id, chain_pem, now)
    assert not isinstance(certificate, Refusal), "our own authority made it"
    with database.transaction() as connection:
        lock_devices(connection, [peer.device_id], key=requested.spki)
        found = _find_peer(connection, thumbprint, now)
        if isinstance(found, Refusal):
            return found
        refusal = refuse_known_key(connection, peer.device_id, requested.spki)
        if refusal is not None:
            return refusal
        keep_certificate(connection, peer.device_id, certificate)
        renewed = AuditRow(
            at=now,
            actor=f"device:{peer.device_id}",
            action="certificate_renewed",
            outcome="done",
            subject=certificate.thumbprint,
            device_id=peer.device_id,
            event_id=found.event_id,
            detail={
                "serial": certificate.serial,
                "until": certificate.not_after.isoformat(),
                "by": thumbprint,
            },
        )
        write_audit_records(connection, [renewed])
    return Enrolled(peer.device_id, chain_pem)


def _find_peer(connection: Connection, thumbprint: str | None, now: datetime) -> Peer | Refusal:
    found = connection.execute(
        select(
            devices.c.device_id,
            devices.c.status,
            devices.c.event_id,
            devices.c.stall_id,
            device_certificates.c.not_after,
            device_certificates.c.revoked_at,
        )
        .join(devices, devices.c.device_id == device_certificates.c.device_id)
        .where(device_certificates.c.thumbprint == (thumbprint or ""))
    ).one_or_none()
    if found is None:
        return Refusal(
            Code.CERTIFICATE_UNKNOWN,
            "This connection was made without the certificate of an appliance of ours.",
            "Connect with the appliance's current certificate, or enrol with a claim.",
        )
    if found.status != "active":
        return Refusal(
            Code.DEVICE_REVOKED,
            f"{found.device_id} is {found.status}, and stays so.",
            "Enrol the appliance again under another id, with a claim.",
        )
    if found.revoked_at is not None:
        return Refusal(
            Code.CERTIFICATE_REVOKED,
            f"This certificate of {found.device_id} was revoked.",
            "Connect with its newest one, or enrol again with a claim.",
        )
    if found.not_after <= now:
        return Refusal(
            Code.CERTIFICATE_EXPIRED,
            f"This certificate of {found.device_id} has expired.",
            "Enrol again with a claim.",
        )
    return Peer(found.device_id, found.event_id, found.stall_id)


def _refuse_flood(connection: Connection, device_id: DeviceId, now: datetime) -> Refusal | None:
    """Each certificate is a line in the authority's register for ever, and slows everybody's."""
    since = now - A_DAY - certificates.BACKDATED
    issued = connection.execute(
        select(func.count())
        .select_from(device_certificates)
        .where(
            device_certificates.c.device_id == device_id, device_certificates.c.not_before > since
        )
    ).scalar_one()
    if issued < A_DAY_MAX:
        return None
    return Refusal(
        Code.TOO_MANY_REQUESTS,
        f"{device_id} was given {issued} certificates within a day.",
        "Find out why it asks again, or revoke it; a claim enrols it all the same.",
        retry_after_s=round(A_DAY.total_seconds()),
    )


def _record_refusal(
    database: Database, thumbprint: str | None, refusal: Refusal, now: datetime
) -> None:
    with database.transaction() as connection:
        device_id = connection.execute(
            select(device_certificates.c.device_id).where(
                device_certificates.c.thumbprint == (thumbprint or "")
            )
        ).scalar_one_or_none()
        record = AuditRow(
            at=now,
            actor=ACTOR if device_id is None else f"device:{device_id}",
            action="renewal_refused",
            outcome="refused",
            subject=thumbprint,
            device_id=device_id,
            detail={"why": refusal.code.value},
        )
        write_audit_records(connection, [record])
