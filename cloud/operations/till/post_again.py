"""A settled sale, said again by its appliance: posted once more only where the database lost it."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, insert, select
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.ledger.facts import KeyState
from cloud.ledger.posting_again import PostedAgain, post_again, read_proof
from cloud.ledger.postings import post
from cloud.operations.rows import insert_if_new
from cloud.operations.till.opening import Opened
from cloud.store.database import Database
from cloud.store.keeping import SPENT_TOKENS_KEPT, AuditRow, write_audit_records
from cloud.store.locks import lock_devices, lock_wallets
from cloud.store.postings import write_postings
from cloud.store.tables import (
    credit_transactions,
    credit_wallets,
    device_certificates,
    devices,
    outcomes,
    review_entries,
    spent_tokens,
    staff_sessions,
    users,
)
from protocol.ids import StaffId, UserId
from protocol.messages import (
    Approved,
    Declined,
    MessageRefusal,
    Outcome,
    PostedOffline,
    Reason,
    Resubmission,
    UnderReview,
    decode_outcome,
    decode_reply,
    encode_outcome,
    kind_of,
)
from protocol.signing import Profile, SignatureRefusal, verify


def say_again(database: Database, keys: KeyRing, opened: Opened, request: Resubmission) -> Outcome:
    """What stands under the key, or the sale posted again as the cloud's own reply has it."""
    proof = check_proof(keys, request)
    now = opened.arrived.arrived_at
    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        known = connection.execute(
            select(outcomes.c.answer).where(
                outcomes.c.device_id == request.device_id, outcomes.c.key == request.key
            )
        ).scalar_one_or_none()
        if known is not None:
            answer = decode_outcome(bytes(known))
            _record(connection, opened, request, "known_already", None)
            return answer
        if isinstance(proof, Reason):
            _record(connection, opened, request, proof.value, None)
            return Declined(proof)
        user_id = _payer(connection, proof)
        if user_id is None:
            return _send_to_review(
                connection, opened, request, proof, reason=Reason.UNKNOWN_PAYER, user_id=None
            )
        shut_out = _why_shut_out(connection, opened, request)
        if shut_out is not None:
            return _send_to_review(
                connection,
                opened,
                request,
                proof,
                reason=shut_out,
                user_id=user_id,
            )

        again = post_again(request, proof, UserId(str(user_id)), _staff_of(connection, request))

        store_again(connection, again, now)
        _store_key(connection, request, again, now)
        _record(connection, opened, request, "posted_again", user_id)
    return again.key.answer


def check_proof(keys: KeyRing, request: Resubmission) -> Approved | PostedOffline | Reason:
    verified = verify(Profile.REPLY, request.reply.encode(), lambda kid: keys.find("reply", kid))
    if isinstance(verified, SignatureRefusal):
        return Reason.PROOF_NOT_OURS
    reply = decode_reply(verified.payload)
    if isinstance(reply, MessageRefusal):
        return reply.reason
    return read_proof(request, reply)


def find_lost_sale(
    connection: Connection, keys: KeyRing, request: Resubmission
) -> PostedAgain | Reason:
    """The sale as it stood, whoever the appliance is by now; or why it cannot be posted."""
    proof = check_proof(keys, request)
    if isinstance(proof, Reason):
        return proof
    user_id = _payer(connection, proof)
    if user_id is None:
        return Reason.UNKNOWN_PAYER
    return post_again(request, proof, UserId(str(user_id)), _staff_of(connection, request))


def _payer(connection: Connection, proof: Approved | PostedOffline) -> UUID | None:
    found = select(users.c.user_id).where(users.c.payer_id == proof.payer_id)
    return connection.execute(found).scalar_one_or_none()


def _why_shut_out(connection: Connection, opened: Opened, request: Resubmission) -> Reason | None:
    row = connection.execute(
        select(devices.c.status, devices.c.quarantined_at, device_certificates.c.revoked_at)
        .join(device_certificates, device_certificates.c.device_id == devices.c.device_id)
        .where(
            devices.c.device_id == request.device_id,
            device_certificates.c.thumbprint == opened.thumbprint,
        )
    ).one()
    if row.status != "active" or row.revoked_at is not None:
        return Reason.DEVICE_REVOKED
    return None if row.quarantined_at is None else Reason.DEVICE_QUARANTINED


def _staff_of(connection: Connection, request: Resubmission) -> StaffId | None:
    """None where the backup is older than the session."""
    try:
        session_id = UUID(request.session_id)
    except ValueError:
        return None
    found = connection.execute(
        select(staff_sessions.c.staff_id).where(
            staff_sessions.c.session_id == session_id,
            staff_sessions.c.device_id == request.device_id,
        )
    ).scalar_one_or_none()
    return None if found is None else StaffId(found)


def _stands_already(connection: Connection, again: PostedAgain) -> bool:
    posting = again.posting
    found = select(credit_transactions.c.id).where(
        credit_transactions.c.user_id == UUID(posting.user_id),
        credit_transactions.c.id == UUID(posting.id),
    )
    return connection.execute(found).one_or_none() is not None


def store_again(connection: Connection, again: PostedAgain, now: datetime) -> None:
    """The posting and its wallet, unless the backup held them."""
    posting = again.posting
    if _stands_already(connection, again):
        return
    wallet_key = (posting.user_id, posting.amount.currency)
    empty = {
        "user_id": UUID(posting.user_id),
        "currency": posting.amount.currency,
        "balance_in_cents": 0,
        "updated_at": now,
    }
    insert_if_new(connection, credit_wallets, empty)
    before = lock_wallets(connection, [wallet_key])
    after = {wallet_key: post(before[wallet_key], posting)}
    write_postings(connection, [posting], before, after, now)
    expires_at = datetime.fromtimestamp(again.spent.expires_at_s, UTC) + SPENT_TOKENS_KEPT
    row = {
        "user_id": UUID(posting.user_id),
        "jti": again.spent.token_id,
        "expires_at": expires_at,
    }
    insert_if_new(connection, spent_tokens, row)


def _store_key(
    connection: Connection, request: Resubmission, again: PostedAgain, now: datetime
) -> None:
    connection.execute(
        insert(outcomes).values(
            device_id=request.device_id,
            key=request.key,
            state=again.key.state.value,
            digest=again.key.digest,
            answer=encode_outcome(again.key.answer),
            user_id=UUID(again.posting.user_id),
            transaction_id=UUID(again.posting.id),
            epoch=request.journal.epoch,
            entry=request.entry,
            created_at=now,
        )
    )


def _send_to_review(
    connection: Connection,
    opened: Opened,
    request: Resubmission,
    proof: Approved | PostedOffline,
    *,
    reason: Reason,
    user_id: UUID | None,
) -> UnderReview:
    """Once: sent again, the same entry."""
    row = {
        "review_id": uuid7(),
        "device_id": request.device_id,
        "key": request.key,
        "kind": kind_of(request),
        "reason": reason.value,
        "request": opened.arrived.token,
        "user_id": user_id,
        "amount_in_cents": proof.amount.amount_in_cents,
        "currency": proof.amount.currency,
        "event_id": request.event_id,
        "state": "open",
        "created_at": opened.arrived.arrived_at,
    }
    insert_if_new(connection, review_entries, row)
    review_id = connection.execute(
        select(review_entries.c.review_id).where(
            review_entries.c.device_id == request.device_id, review_entries.c.key == request.key
        )
    ).scalar_one()
    answer = UnderReview(str(review_id))
    connection.execute(
        insert(outcomes).values(
            device_id=request.device_id,
            key=request.key,
            state=KeyState.REVIEW.value,
            answer=encode_outcome(answer),
            epoch=request.journal.epoch,
            entry=request.entry,
            created_at=opened.arrived.arrived_at,
        )
    )
    _record(connection, opened, request, reason.value, user_id)
    return answer


def _record(
    connection: Connection,
    opened: Opened,
    request: Resubmission,
    outcome: str,
    user_id: UUID | None,
) -> None:
    deed = AuditRow(
        at=opened.arrived.arrived_at,
        actor=f"device:{request.device_id}",
        action=kind_of(request),
        outcome=outcome,
        device_id=request.device_id,
        event_id=request.event_id,
        user_id=None if user_id is None else str(user_id),
        subject=request.key,
        request_hash=opened.request_hash,
    )
    write_audit_records(connection, [deed])
