"""What never changes once it is written, kept in memory: keys of certificates, payers, policies.

Nothing that can be revoked is answered from here: a certificate's and an appliance's state, a
session and an assignment are read in each transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Executable, Integer, String, select
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.facts import PolicyTerms
from cloud.store.rows import BatchStatement, uuid_text
from cloud.store.tables import device_certificates, policies, users
from protocol.encoding import from_base64url, public_key_from_text
from protocol.ids import DeviceId, EventId, PayerId, StallId, UserId
from protocol.policy import Policy
from protocol.signing import PublicKey

_REMEMBERED_MAX: Final = 100_000
"""Of each kind; then that kind is forgotten and learnt anew: a bound, not a strategy."""

PolicyKey = tuple[DeviceId, int]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whose key a thumbprint names, and until when; not whether it was revoked."""

    device_id: DeviceId
    public_key: PublicKey
    not_before: datetime
    not_after: datetime


@dataclass(slots=True)
class Remembered:
    """Several threads may share one: each entry is written whole, and the same by each."""

    certificates: dict[str, Certificate] = field(default_factory=dict[str, Certificate])
    payers: dict[PayerId, UserId] = field(default_factory=dict[PayerId, UserId])
    policies: dict[PolicyKey, PolicyTerms] = field(default_factory=dict[PolicyKey, PolicyTerms])

    def learn_certificates(self, connection: Connection, thumbprints: Iterable[str]) -> None:
        """Read those not known yet; one that does not exist is looked for again next time."""
        missing = {(each,) for each in thumbprints if each not in self.certificates}
        if not missing:
            return
        _bound(self.certificates)
        for row in _CERTIFICATES.run(connection, list(missing)):
            public_key = public_key_from_text(row.spki)
            assert public_key is not None, f"certificate {row.thumbprint} holds no P-256 key"
            self.certificates[row.thumbprint] = Certificate(
                DeviceId(row.device_id), public_key, row.not_before, row.not_after
            )

    def learn_payers(self, connection: Connection, payer_ids: Iterable[PayerId]) -> None:
        missing = {(each,) for each in payer_ids if each not in self.payers}
        if not missing:
            return
        _bound(self.payers)
        for row in _PAYERS.run(connection, list(missing)):
            self.payers[PayerId(row.payer_id)] = UserId(uuid_text(row.user_id))

    def learn_policies(self, connection: Connection, keys: Iterable[PolicyKey]) -> None:
        missing: Sequence[PolicyKey] = list({each for each in keys if each not in self.policies})
        if not missing:
            return
        _bound(self.policies)
        for row in _POLICIES.run(connection, missing):
            self.policies[DeviceId(row.device_id), row.version] = _terms(row.jws)


def _terms(jws: str) -> PolicyTerms:
    """What a policy of our own says; we signed it, so only its content is of interest here."""
    payload = from_base64url(jws.encode().split(b".")[1])
    assert payload is not None, "a stored policy is a JWS"
    policy = _POLICY.decode(payload)
    return PolicyTerms(
        expires_at_ms=policy.expires_at_ms,
        event_id=EventId(policy.event_id),
        stall_id=StallId(policy.stall_id),
        sale_max_in_cents=policy.sale_max_in_cents,
        offline=policy.offline,
    )


def _bound(remembered: dict[Any, Any]) -> None:
    if len(remembered) >= _REMEMBERED_MAX:
        remembered.clear()


def _select_certificates(wanted: FromClause) -> Executable:
    return select(
        device_certificates.c.thumbprint,
        device_certificates.c.device_id,
        device_certificates.c.spki,
        device_certificates.c.not_before,
        device_certificates.c.not_after,
    ).join(wanted, device_certificates.c.thumbprint == wanted.c.thumbprint)


def _select_payers(wanted: FromClause) -> Executable:
    return select(users.c.payer_id, users.c.user_id).join(
        wanted, users.c.payer_id == wanted.c.payer_id
    )


def _select_policies(wanted: FromClause) -> Executable:
    return select(policies.c.device_id, policies.c.version, policies.c.jws).join(
        wanted,
        (policies.c.device_id == wanted.c.device_id) & (policies.c.version == wanted.c.version),
    )


_POLICY: Final = msgspec.json.Decoder(Policy)
_CERTIFICATES: Final = BatchStatement({"thumbprint": String()}, _select_certificates)
_PAYERS: Final = BatchStatement({"payer_id": String()}, _select_payers)
_POLICIES: Final = BatchStatement({"device_id": String(), "version": Integer()}, _select_policies)
