"""What never changes once it is written, kept in memory: keys of certificates, payers, policies.

What heartbeats are told in passing is kept here too, for seconds. Nothing that can be revoked is
answered from here: a certificate's and an appliance's state, a session and an assignment are read
in each transaction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection, Executable, Integer, String, select
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.deny_list import ListState
from cloud.ledger.facts import PolicyTerms
from cloud.store.rows import BatchStatement, uuid_text
from cloud.store.tables import device_certificates, policies, users
from protocol.encoding import from_base64url, public_key_from_text
from protocol.ids import DeviceId, EventId, PayerId, StallId, UserId
from protocol.named_key import NamedKey
from protocol.policy import Policy
from protocol.signing import PublicKey

_REMEMBERED_MAX: Final = 100_000
"""Of each kind; then that kind is forgotten and learnt anew: a bound, not a strategy."""

PolicyKey = tuple[DeviceId, int]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whose key a thumbprint names, and until when; not whether it was revoked."""

    device_id: DeviceId
    public_key: PublicKey
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class ListStates:
    """Where the deny lists stood, by currency."""

    states: Mapping[str, ListState]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class EventKeys:
    """The keys that may sign an event's wallet QRs, the retired ones too."""

    keys: tuple[NamedKey, ...]
    read_at: datetime


@dataclass(slots=True)
class Remembered:
    """Several threads may share one: each entry is written whole, and the same by each."""

    certificates: dict[str, Certificate] = field(default_factory=dict[str, Certificate])
    payers: dict[PayerId, UserId] = field(default_factory=dict[PayerId, UserId])
    policies: dict[PolicyKey, PolicyTerms] = field(default_factory=dict[PolicyKey, PolicyTerms])
    currencies: dict[EventId, str] = field(default_factory=dict[EventId, str])
    list_states: ListStates | None = None
    wallet_keys: dict[EventId, EventKeys] = field(default_factory=dict[EventId, EventKeys])
    """These two change, and are kept for so short that they may as well be late."""

    def keep_list_states(self, states: Mapping[str, ListState], read_at: datetime) -> None:
        self.list_states = ListStates(states, read_at)

    def find_certificates(
        self, connection: Connection, thumbprints: Iterable[str]
    ) -> dict[str, Certificate]:
        """Those that exist; one that does not is looked for again next time."""
        wanted = set(thumbprints)
        known = _recall(self.certificates, wanted)
        missing = [(each,) for each in wanted - known.keys()]
        found: dict[str, Certificate] = {}
        for row in _CERTIFICATES.run(connection, missing):
            public_key = public_key_from_text(row.spki)
            assert public_key is not None, f"certificate {row.thumbprint} holds no P-256 key"
            found[row.thumbprint] = Certificate(
                DeviceId(row.device_id), public_key, row.not_before, row.not_after
            )
        _remember(self.certificates, found)
        return known | found

    def find_payers(
        self, connection: Connection, payer_ids: Iterable[PayerId]
    ) -> dict[PayerId, UserId]:
        wanted = set(payer_ids)
        known = _recall(self.payers, wanted)
        missing = [(each,) for each in wanted - known.keys()]
        found: dict[PayerId, UserId] = {}
        for row in _PAYERS.run(connection, missing):
            found[PayerId(row.payer_id)] = UserId(uuid_text(row.user_id))
        _remember(self.payers, found)
        return known | found

    def find_policies(
        self, connection: Connection, keys: Iterable[PolicyKey]
    ) -> dict[PolicyKey, PolicyTerms]:
        wanted = set(keys)
        known = _recall(self.policies, wanted)
        missing = list(wanted - known.keys())
        found: dict[PolicyKey, PolicyTerms] = {}
        for row in _POLICIES.run(connection, missing):
            found[DeviceId(row.device_id), row.version] = _terms(row.jws)
        _remember(self.policies, found)
        return known | found


def _recall(remembered: dict[_K, _V], wanted: set[_K]) -> dict[_K, _V]:
    """A copy of what is known of these: another thread may forget it all at any time."""
    return {key: value for key in wanted if (value := remembered.get(key)) is not None}


def _remember(remembered: dict[_K, _V], found: dict[_K, _V]) -> None:
    if len(remembered) + len(found) > _REMEMBERED_MAX:
        remembered.clear()
    remembered.update(found)


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
        wallet_kids=frozenset(each.kid for each in policy.wallet_keys),
    )


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
