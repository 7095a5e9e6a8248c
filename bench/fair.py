"""An event with its stalls, appliances, signed-in staff and attendees, laid straight into the
tables: what a fair looks like an hour after the gates opened."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from sqlalchemy import Connection, Table, insert, text
from uuid_utils import uuid7

from cloud.keys import KeyRing
from cloud.store.database import Database
from cloud.store.records import await_tree
from cloud.store.tables import (
    credit_transactions,
    credit_wallets,
    device_certificates,
    devices,
    events,
    policies,
    products,
    staff,
    staff_assignments,
    staff_sessions,
    stalls,
    users,
)
from protocol.encoding import public_key_to_text, to_base64url
from protocol.ids import DeviceId, EventId, KeyId
from protocol.messages import Deduct, JournalPosition, SaleLine, encode
from protocol.money import Money
from protocol.policy import Policy, Product, sign_policy
from protocol.signing import PrivateKey, Profile, fingerprint, sign, thumbprint
from protocol.wallet_qr import WalletToken, issue
from venue.servers import Credentials

EVENT: Final = EventId("bench-fair")
CURRENCY: Final = "EUR"
BALANCE_IN_CENTS: Final = 1_000_00
RICH_BALANCE_IN_CENTS: Final = 1_000_000_00
LINES: Final = (SaleLine(1, 2, 350), SaleLine(3, 1, 400))
AMOUNT: Final = Money(sum(line.total_in_cents for line in LINES), CURRENCY)
_POLICY_VERSION: Final = 1
_QR_LIFETIME_S: Final = 120


class Appliance(msgspec.Struct, frozen=True):
    """One till: whom it is to the broker and to the cloud."""

    device_id: DeviceId
    stall_id: str
    session_id: str
    credentials: Credentials
    key: PrivateKey
    thumbprint: str
    epoch: str


class Fair(msgspec.Struct, frozen=True):
    appliances: list[Appliance]
    payers: list[str]
    """The opaque `sub` of every attendee's QR."""
    rich_payer: str
    """One with enough for everybody's sales."""
    wallet_key: PrivateKey
    wallet_key_id: KeyId


class SignedSale(msgspec.Struct, frozen=True):
    """A deduct as it goes on the wire, and what its reply must name."""

    key: str
    jws: bytes
    request_hash: str


def lay_out(
    database: Database, keys: KeyRing, credentials: Sequence[Credentials], attendees: int
) -> Fair:
    """Write an event with one stall, one appliance and one signed-in member of staff for each of
    `credentials`, whose folders are named after the appliances."""
    now = _now()
    appliances = [_appliance(each) for each in credentials]
    payers = [_opaque() for _ in range(attendees)]
    rich_payer = _opaque()
    with database.transaction() as connection:
        _lay_event(connection, now, len(appliances))
        for number, appliance in enumerate(appliances):
            _lay_appliance(connection, keys, now, number, appliance)
        balances = [*((payer, BALANCE_IN_CENTS) for payer in payers)]
        _lay_wallets(connection, now, [*balances, (rich_payer, RICH_BALANCE_IN_CENTS)])
    tidy(database)
    wallet_key = keys.wallet_for(EVENT)
    return Fair(appliances, payers, rich_payer, wallet_key.private, wallet_key.kid)


def tidy(database: Database) -> None:
    """Vacuum and analyse, as autovacuum would have in that hour, and pgbench does to its tables."""
    if database.dialect == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.execute(text("VACUUM ANALYZE"))


def sign_sale(fair: Fair, appliance: Appliance, payer: str, entry: int) -> SignedSale:
    """A sale that an attendee's fresh QR pays for, signed by the appliance; `entry` is its number
    in the appliance's journal."""
    now_ms = time.time_ns() // 1_000_000
    now_s = now_ms // 1000
    token = WalletToken(payer, _opaque(), _opaque(), now_s, now_s + _QR_LIFETIME_S)
    request = Deduct(
        device_id=appliance.device_id,
        key=secrets.token_urlsafe(16),
        journal=JournalPosition(appliance.epoch, entry, entry, _HEAD),
        sent_at_ms=now_ms,
        session_id=appliance.session_id,
        event_id=EVENT,
        stall_id=appliance.stall_id,
        policy_version=_POLICY_VERSION,
        entry=entry,
        correlation_id=secrets.token_urlsafe(16),
        amount=AMOUNT,
        lines=LINES,
        wallet_qr=issue(token, fair.wallet_key, fair.wallet_key_id),
        scanned_at_ms=now_ms,
    )
    jws = sign(Profile.REQUEST, encode(request), appliance.key, appliance.thumbprint).encode()
    return SignedSale(request.key, jws, fingerprint(jws))


def _appliance(credentials: Credentials) -> Appliance:
    key = load_pem_private_key(credentials.key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "appliances have P-256 keys"
    name = credentials.folder.name
    return Appliance(
        device_id=DeviceId(name),
        stall_id=f"stall-of-{name}",
        session_id=str(uuid7()),
        credentials=credentials,
        key=key,
        thumbprint=thumbprint(_certificate(credentials).public_bytes(Encoding.DER)),
        epoch=secrets.token_urlsafe(16),
    )


def _certificate(credentials: Credentials) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credentials.certificate.read_bytes())


def _lay_event(connection: Connection, now: datetime, appliances: int) -> None:
    _fill(
        connection,
        events,
        {"event_id": EVENT, "name": "A fair", "currency": CURRENCY, "created_at": now},
    )
    _fill(
        connection,
        staff,
        *(
            {
                "staff_id": f"staff-{number}",
                "name": f"Staff {number}",
                "initials": f"S{number}",
                "created_at": now,
            }
            for number in range(appliances)
        ),
    )


def _lay_appliance(
    connection: Connection, keys: KeyRing, now: datetime, number: int, appliance: Appliance
) -> None:
    place = {"event_id": EVENT, "stall_id": appliance.stall_id}
    of_device = {"device_id": appliance.device_id}
    of_staff = {"staff_id": f"staff-{number}"}
    until = now + timedelta(days=1)
    certificate = _certificate(appliance.credentials)
    policy = _policy(keys, now, until, appliance)
    _fill(connection, stalls, place | {"name": f"Stall {number}"})
    _fill(
        connection,
        products,
        *(
            place
            | {"number": each.number, "name": each.name, "price_in_cents": each.price_in_cents}
            for each in policy.products
        ),
    )
    _fill(
        connection,
        devices,
        place | of_device | {"policy_version": 1, "policy_acked": 1, "created_at": now},
    )
    _fill(
        connection,
        device_certificates,
        of_device
        | {
            "thumbprint": appliance.thumbprint,
            "spki": public_key_to_text(appliance.key.public_key()),
            "not_before": certificate.not_valid_before_utc,
            "not_after": certificate.not_valid_after_utc,
        },
    )
    _fill(
        connection,
        policies,
        of_device
        | {
            "version": policy.version,
            "jws": sign_policy(policy, keys.policy.private, keys.policy.kid),
            "issued_at": now,
            "expires_at": until,
            "published_at": now,
        },
    )
    _fill(connection, staff_assignments, place | of_staff | {"assignment_id": UUID(str(uuid7()))})
    _fill(
        connection,
        staff_sessions,
        place
        | of_device
        | of_staff
        | {"session_id": UUID(appliance.session_id), "created_at": now, "expires_at": until},
    )


def _policy(keys: KeyRing, now: datetime, until: datetime, appliance: Appliance) -> Policy:
    return Policy(
        version=_POLICY_VERSION,
        device_id=appliance.device_id,
        issued_at_ms=round(now.timestamp() * 1000),
        expires_at_ms=round(until.timestamp() * 1000),
        event_id=EVENT,
        event_name="A fair",
        stall_id=appliance.stall_id,
        stall_name="A stall",
        currency=CURRENCY,
        products=(Product(1, "Lemonade", 350), Product(2, "Coffee", 300), Product(3, "Pie", 400)),
        wallet_keys=(keys.wallet_for(EVENT).named,),
        reply_keys=(keys.reply.named,),
        badge_keys=(keys.badge.named,),
        pin_key=keys.pin.named,
    )


def _lay_wallets(connection: Connection, now: datetime, balances: list[tuple[str, int]]) -> None:
    """Users with wallets, each of whose balances is one purchase."""
    ids = [UUID(str(uuid7())) for _ in balances]
    purchases = [UUID(str(uuid7())) for _ in balances]
    pairs = zip(ids, purchases, strict=True)
    await_tree(connection, transactions=[(str(user_id), str(each)) for user_id, each in pairs])
    _fill(
        connection,
        users,
        *(
            {"user_id": user_id, "payer_id": payer, "created_at": now}
            for user_id, (payer, _) in zip(ids, balances, strict=True)
        ),
    )
    _fill(
        connection,
        credit_transactions,
        *(
            {
                "user_id": user_id,
                "id": purchase_id,
                "type": "Purchase",
                "direction": "in",
                "amount_in_cents": balance_in_cents,
                "currency": CURRENCY,
                "reference": f"bench-{payer}",
                "idempotency_key": payer,
                "correlation_id": payer,
                "created_at": now,
                "created_by": "system:bench",
            }
            for user_id, purchase_id, (payer, balance_in_cents) in zip(
                ids, purchases, balances, strict=True
            )
        ),
    )
    _fill(
        connection,
        credit_wallets,
        *(
            {
                "user_id": user_id,
                "currency": CURRENCY,
                "balance_in_cents": balance_in_cents,
                "updated_at": now,
            }
            for user_id, (_, balance_in_cents) in zip(ids, balances, strict=True)
        ),
    )


def _fill(connection: Connection, table: Table, *rows: dict[str, Any]) -> None:
    connection.execute(insert(table), list(rows))


def _opaque() -> str:
    return to_base64url(secrets.token_bytes(16))


def _now() -> datetime:
    return datetime.fromtimestamp(time.time_ns() / 1e9, UTC)


_HEAD: Final = to_base64url(hashlib.sha256(b"bench").digest())


def keys_in(folder: Path) -> KeyRing:
    """The cloud's own keys, as its programs keep them under their state folder."""
    return KeyRing(folder / "keys")
