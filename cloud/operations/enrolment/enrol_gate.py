"""Where appliances reach this cloud, whom they believe there, what they are told inside."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import select

from cloud.keys import KeyRing
from cloud.operations.enrolment.claims import MadeClaim
from cloud.operations.enrolment.enrol_renew import find_peer
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import events, stalls
from protocol.claim_qr import ClaimQr, claim_qr_text
from protocol.ids import DeviceId
from protocol.policy import NamedKey
from provisioning.authority.folder import Authority

CLOSED: Final = Refusal(
    Code.ENROLMENT_CLOSED,
    "This server enrols nobody: it has no authority, or no listener for appliances.",
    "Set [authority] and [appliances], or ask the server that has them.",
)


@dataclass(frozen=True, slots=True)
class Gate:
    """The appliances' listener as it is reached from outside."""

    host: str
    port: int
    broker_host: str
    broker_port: int
    root: x509.Certificate
    issuing: x509.Certificate
    authority: Authority | None
    """None: they may ask here, and nobody enrols."""

    def qr_text(self, made: MadeClaim) -> str:
        """What the claim's QR says."""
        claim = ClaimQr(
            host=self.host,
            port=self.port,
            fingerprint=self.root.fingerprint(SHA256()),
            claim_id=made.claim.claim_id,
            secret=made.secret,
        )
        return claim_qr_text(claim)


@dataclass(frozen=True, slots=True)
class Connection:
    """What an appliance needs beside its certificate."""

    device_id: DeviceId
    event_name: str | None
    stall_name: str | None
    policy_keys: tuple[NamedKey, ...]


def read_connection(
    database: Database, keys: KeyRing, thumbprint: str | None, now: datetime
) -> Connection | Refusal:
    peer = find_peer(database, thumbprint, now)
    if isinstance(peer, Refusal):
        return peer
    with database.reading() as connection:
        place = connection.execute(
            select(events.c.name, stalls.c.name.label("stall_name"))
            .join(stalls, stalls.c.event_id == events.c.event_id)
            .where(stalls.c.event_id == peer.event_id, stalls.c.stall_id == peer.stall_id)
        ).one_or_none()
    return Connection(
        peer.device_id,
        None if place is None else place.name,
        None if place is None else place.stall_name,
        keys.known("policy"),
    )
