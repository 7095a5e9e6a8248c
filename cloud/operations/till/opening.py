"""Opens what arrived: signature, certificate and topic, before anything else is looked at."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from uuid_utils import uuid7

from cloud.keys import KeyRing
from cloud.ledger.facts import BatchRequest, CheckedQr, Presented
from cloud.store.database import Database
from cloud.store.remembered import Certificate, Remembered
from protocol import wallet_qr
from protocol.encoding import to_base64url
from protocol.ids import DeviceId
from protocol.messages import (
    UNREADABLE,
    BalanceRequest,
    Deduct,
    Key,
    MessageRefusal,
    OfflineAcceptance,
    Reason,
    Refund,
    Request,
    Slug,
    decode_request,
)
from protocol.signing import Profile, PublicKey, SignatureRefusal, Verified, fingerprint, verify
from protocol.wallet_qr import QrRefusal, SignedQr


class Arrived(msgspec.Struct, frozen=True):
    """A request as the wire brought it."""

    token: bytes
    device_id: DeviceId | None
    """Whose topic it came on; None over HTTPS, which has no topics."""
    arrived_at: datetime


class UnverifiedReason(StrEnum):
    """Why a request is nobody's: there is no appliance to answer. Signature refusals keep their
    names."""

    TOO_LONG = "too_long"
    NOT_A_TOKEN = "not_a_token"  # noqa: S105  # the name of a refusal
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_CERTIFICATE = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    CERTIFICATE_EXPIRED = "certificate_expired"
    ANOTHERS_TOPIC = "on_anothers_topic"
    ANOTHERS_KEY = "signed_by_anothers_key"
    MALFORMED = "malformed"
    UNSUPPORTED_VERSION = "unsupported_version"


@dataclass(frozen=True, slots=True)
class Unverified:
    """Gets no reply; its audit record names the reason."""

    arrived: Arrived
    reason: UnverifiedReason
    signed_by: DeviceId | None = None
    """Whose certificate it names, where the signature was checked."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Signed by an appliance of ours, but no request of ours: it can be told so."""

    arrived: Arrived
    device_id: DeviceId
    key: str
    kind: str
    reason: Reason


class Opened(msgspec.Struct, frozen=True):
    """A request from the appliance that it says it is from."""

    arrived: Arrived
    request: Request
    request_hash: str
    thumbprint: str


class _Peeked(msgspec.Struct, frozen=True):
    """What a request that cannot be read may still be answered by."""

    device_id: Slug
    key: Key
    kind: Annotated[str, msgspec.Meta(max_length=32, pattern=r"^[a-z_]+\Z")]


_PEEKED: Final = msgspec.json.Decoder(_Peeked)


def open_requests(
    database: Database, remembered: Remembered, arrived: Sequence[Arrived]
) -> list[Opened | Unreadable | Unverified]:
    """Each request opened, or the name of what is wrong with it, in the same order."""
    certificates: dict[str, Certificate] = {}
    missing: set[str] = set()

    def find_key(thumbprint: str) -> PublicKey | None:
        certificate = certificates.get(thumbprint) or remembered.certificates.get(thumbprint)
        if certificate is None:
            missing.add(thumbprint)
            return None
        certificates[thumbprint] = certificate
        return certificate.public_key

    verified = [verify(Profile.REQUEST, each.token, find_key) for each in arrived]
    if missing:
        with database.reading() as connection:
            certificates |= remembered.find_certificates(connection, missing)
        verified = [
            verify(Profile.REQUEST, each.token, find_key)
            if found is SignatureRefusal.UNKNOWN_KEY
            else found
            for each, found in zip(arrived, verified, strict=True)
        ]
    return [_open(certificates, each, found) for each, found in zip(arrived, verified, strict=True)]


def present(keys: KeyRing, opened: Iterable[Opened]) -> list[Presented]:
    """The requests with all that can be checked before the transaction: the wallet QR."""
    return [_present(keys, each) for each in opened]


def _open(
    certificates: dict[str, Certificate], arrived: Arrived, found: Verified | SignatureRefusal
) -> Opened | Unreadable | Unverified:
    if isinstance(found, SignatureRefusal):
        return Unverified(arrived, UnverifiedReason(found.value))
    certificate = certificates[found.key_id]
    device_id = certificate.device_id
    if arrived.device_id is not None and arrived.device_id != device_id:
        return Unverified(arrived, UnverifiedReason.ANOTHERS_TOPIC, device_id)
    if arrived.arrived_at > certificate.not_after:
        # The broker checks this when a connection is made; a live one goes on (docs/facts.md).
        return Unverified(arrived, UnverifiedReason.CERTIFICATE_EXPIRED, device_id)
    request = decode_request(found.payload)
    if isinstance(request, MessageRefusal):
        return _unreadable(arrived, device_id, found.payload, request.reason)
    if request.device != device_id:
        return Unverified(arrived, UnverifiedReason.ANOTHERS_KEY, device_id)
    return Opened(arrived, request, fingerprint(arrived.token), found.key_id)


def _unreadable(
    arrived: Arrived, device_id: DeviceId, payload: bytes, reason: Reason
) -> Unreadable | Unverified:
    try:
        peeked = _PEEKED.decode(payload)
    except UNREADABLE:
        return Unverified(arrived, UnverifiedReason(reason.value), device_id)
    if peeked.device_id != device_id:
        return Unverified(arrived, UnverifiedReason.ANOTHERS_KEY, device_id)
    return Unreadable(arrived, device_id, peeked.key, peeked.kind, reason)


def _present(keys: KeyRing, opened: Opened) -> Presented:
    request = opened.request
    assert isinstance(request, BatchRequest), "it runs alone"
    qr = digest = None
    if isinstance(request, Deduct | OfflineAcceptance | BalanceRequest):
        qr = check_qr(keys, request.wallet_qr)
    if isinstance(request, Deduct | OfflineAcceptance):
        digest = request.content(_token_of(request.wallet_qr, qr)).digest()
    elif isinstance(request, Refund):
        digest = request.content().digest()
    return Presented(
        request=request,
        request_hash=opened.request_hash,
        thumbprint=opened.thumbprint,
        arrived_at=opened.arrived.arrived_at,
        fresh_id=str(uuid7()),
        qr=qr,
        digest=digest,
    )


def check_qr(keys: KeyRing, text: str) -> CheckedQr | QrRefusal:
    """Whether a key of ours made it; not whether it counts now."""
    jws = wallet_qr.read(text)
    if isinstance(jws, QrRefusal):
        return jws
    signed = wallet_qr.check_signature(jws, keys.find_wallet_public)
    match signed:
        case SignedQr(token=token, key_id=key_id):
            wallet_key = keys.find_wallet(key_id)
            assert wallet_key is not None, "its signature was checked with this very key"
            return CheckedQr(token, wallet_key.event_id)
        case refusal:
            return refusal


def _token_of(text: str, qr: CheckedQr | QrRefusal | None) -> str:
    """What tells one QR from another in a sale's content: its `jti`, or the text's own hash."""
    if isinstance(qr, CheckedQr):
        return qr.token.jti
    token = wallet_qr.peek(text)
    if token is not None:
        return token.jti
    return to_base64url(hashlib.sha256(text.encode()).digest())
