"""A person ends a review entry: in exactly one of post, reverse, write off; in one transaction."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, select, update
from uuid_utils.compat import uuid7

from cloud.access.roles import Holder
from cloud.keys import KeyRing
from cloud.ledger.decide import accepted_at
from cloud.ledger.facts import CheckedQr, DeviceKey, KeyState, PostedSale
from cloud.ledger.postings import Direction, Posting, TransactionType, post
from cloud.ledger.receipts import short_code
from cloud.operations.desk.adjust_wallet import open_wallet
from cloud.operations.desk.decide_approval import may
from cloud.operations.desk.refund_sale import give_back
from cloud.operations.desk.review_list import (
    MAY_REVIEW,
    ReviewEntry,
    ReviewState,
    read_entry,
    read_request,
)
from cloud.operations.desk.review_refusals import (
    NOTHING_TO_REVERSE,
    UNKNOWN_REVIEW,
    ended_review,
    nothing_to_post,
)
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.operations.till.opening import check_qr
from cloud.operations.till.post_again import find_lost_sale, store_again
from cloud.store.database import Database
from cloud.store.keeping import SPENT_TOKENS_KEPT
from cloud.store.locks import lock_devices, lock_wallets
from cloud.store.postings import write_postings
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.rows import as_uuid_text
from cloud.store.sales import find_sale, read_what_is_left
from cloud.store.tables import (
    events,
    outcomes,
    review_entries,
    spent_tokens,
    staff_sessions,
    users,
)
from protocol.ids import (
    CorrelationId,
    DeviceId,
    EventId,
    IdempotencyKey,
    StaffId,
    StallId,
    TransactionId,
    UserId,
)
from protocol.messages import (
    Cancelled,
    OfflineAcceptance,
    Outcome,
    PostedOffline,
    Reason,
    Resubmission,
    encode_outcome,
)
from protocol.money import Money


class Ending(StrEnum):
    POST = "post"
    """The sale stands: an offline one is posted in full; of an approval, nothing changes."""
    REVERSE = "reverse"
    """In the end nothing is deducted: what stands under the key is given back."""
    WRITE_OFF = "write_off"
    """Nothing is moved: the ledger stays as it is, and whoever bears the loss bears it."""


_STATE_AFTER: Final = {
    Ending.POST: ReviewState.POSTED,
    Ending.REVERSE: ReviewState.REVERSED,
    Ending.WRITE_OFF: ReviewState.WRITTEN_OFF,
}
_ANSWER: Final = msgspec.json.Decoder(ReviewEntry)


@dataclass(frozen=True, slots=True)
class _Deed:
    """Who ends which entry, and when."""

    row: Row[Any]
    holder: Holder
    key: IdempotencyKey
    reason: str
    now: datetime

    @property
    def sale_name(self) -> DeviceKey:
        return DeviceId(self.row.device_id), IdempotencyKey(self.row.key)


def end_review(
    database: Database,
    keys: KeyRing,
    review_id: UUID,
    ending: Ending,
    *,
    reason: str,
    holder: Holder,
    key: IdempotencyKey,
    now: datetime,
) -> ReviewEntry | Refusal:
    """The entry as it ended. The appliance's lock is held: nothing of it comes in between."""
    with database.transaction() as connection:
        digest = digest_of(str(review_id), ending, reason)
        answer = claim(
            connection, holder.subject, key, operation="end_review", digest=digest, now=now
        )
        if isinstance(answer, Refusal):
            return answer
        if answer:
            return _ANSWER.decode(answer)
        row = _lock_entry(connection, review_id)
        if row is None or not may(holder, MAY_REVIEW, row.event_id):
            return UNKNOWN_REVIEW
        if row.state != ReviewState.OPEN:
            return ended_review(row.state)

        deed = _Deed(row, holder, key, reason, now)
        moved: TransactionId | Refusal | None
        match ending:
            case Ending.POST:
                moved = _post(connection, keys, deed)
            case Ending.REVERSE:
                moved = _reverse(connection, deed)
            case Ending.WRITE_OFF:
                moved = None
        if isinstance(moved, Refusal):
            return moved

        ended = _end(connection, deed, _STATE_AFTER[ending], moved)
        keep(connection, holder.subject, key, msgspec.json.encode(ended))
    return ended


def _lock_entry(connection: Connection, review_id: UUID) -> Row[Any] | None:
    """Its appliance first, as everywhere."""
    found = select(review_entries).where(review_entries.c.review_id == review_id)
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    lock_devices(connection, [DeviceId(row.device_id)])
    return connection.execute(found.with_for_update()).one()


def _post(connection: Connection, keys: KeyRing, deed: _Deed) -> TransactionId | Refusal:
    request = read_request(deed.row)
    sale = find_sale(connection, deed.sale_name)
    if sale is not None:
        lock_wallets(connection, [(sale.user_id, sale.amount.currency)])
        sale = read_what_is_left(connection, sale)
    if not isinstance(request, OfflineAcceptance | Resubmission):
        if sale is None or sale.left_in_cents == 0:
            return nothing_to_post("Nothing stands under this key that could be kept.")
        return sale.transaction_id
    if sale is not None and sale.left_in_cents > 0:
        return Refusal(
            Code.SALE_STANDS,
            "A sale stands under this key already, and one key is one sale.",
            "Reverse that one, or write this entry off.",
        )
    if isinstance(request, Resubmission):
        return _post_again(connection, keys, deed, request)
    posting = _offline_posting(connection, keys, deed, request)
    if isinstance(posting, Refusal):
        return posting
    return _post_in_full(connection, keys, deed, request, posting)


def _post_again(
    connection: Connection, keys: KeyRing, deed: _Deed, request: Resubmission
) -> TransactionId | Refusal:
    """What a restored database lost, by the cloud's own reply."""
    again = find_lost_sale(connection, keys, request)
    if isinstance(again, Reason):
        return nothing_to_post("Nobody is known by the reply that was sent along.")
    store_again(connection, again, deed.now)
    _answer_from_now_on(
        connection,
        deed,
        again.key.state,
        again.key.answer,
        digest=again.key.digest,
        user_id=UUID(again.posting.user_id),
        transaction_id=UUID(again.posting.id),
    )
    return again.posting.id


def _offline_posting(
    connection: Connection, keys: KeyRing, deed: _Deed, request: OfflineAcceptance
) -> Posting | Refusal:
    """The sale as the appliance signed it, for the wallet whose QR it holds, whatever its time."""
    qr = check_qr(keys, request.wallet_qr)
    if not isinstance(qr, CheckedQr):
        return nothing_to_post("The QR of this sale is none that we signed: nobody owes it.")
    user_id = connection.execute(
        select(users.c.user_id).where(users.c.payer_id == qr.token.payer_id)
    ).scalar_one_or_none()
    if user_id is None:
        return nothing_to_post("Nobody is known by the QR of this sale.")
    currency = connection.execute(
        select(events.c.currency).where(events.c.event_id == qr.event_id)
    ).scalar_one_or_none()
    if (qr.event_id, currency) != (request.event_id, request.amount.currency):
        return nothing_to_post("The QR of this sale is another event's.")
    if request.amount.amount_in_cents <= 0:
        return nothing_to_post("The sale is of no amount.")
    transaction_id = TransactionId(str(uuid7()))
    return Posting(
        id=transaction_id,
        user_id=UserId(str(user_id)),
        type=TransactionType.DEDUCT,
        direction=Direction.OUT,
        amount=request.amount,
        reference=short_code(transaction_id),
        idempotency_key=request.idempotency_key,
        correlation_id=CorrelationId(request.correlation_id),
        created_at=deed.now,
        created_by=deed.holder.subject,
        event_id=EventId(request.event_id),
        stall_id=StallId(request.stall_id),
        device_id=request.device,
        staff_id=_find_staff(connection, request),
        lines=request.lines,
        accepted_offline_at=accepted_at(request, deed.now),
    )


def _post_in_full(
    connection: Connection,
    keys: KeyRing,
    deed: _Deed,
    request: OfflineAcceptance,
    posting: Posting,
) -> TransactionId:
    wallet_key = (posting.user_id, posting.amount.currency)
    open_wallet(connection, *wallet_key, deed.now)
    before = lock_wallets(connection, [wallet_key])
    qr = check_qr(keys, request.wallet_qr)
    assert isinstance(qr, CheckedQr), "judged"
    burned = {
        "user_id": UUID(posting.user_id),
        "jti": qr.token.jti,
        "expires_at": datetime.fromtimestamp(qr.token.exp, UTC) + SPENT_TOKENS_KEPT,
    }
    is_first = insert_if_new(connection, spent_tokens, burned)
    write_postings(
        connection, [posting], before, {wallet_key: post(before[wallet_key], posting)}, deed.now
    )
    cents = posting.amount.amount_in_cents
    covered = min(cents, max(0, before[wallet_key].balance.amount_in_cents))
    answer = PostedOffline(
        transaction_id=posting.id,
        amount=posting.amount,
        short_in_cents=cents - covered,
        token_seen_before=not is_first,
        at_ms=round(deed.now.timestamp() * 1000),
        payer_id=qr.token.sub,
        token_id=qr.token.jti,
    )
    digest = request.content(qr.token.jti).digest()
    _answer_from_now_on(
        connection,
        deed,
        KeyState.POSTED_OFFLINE,
        answer,
        digest=digest,
        user_id=UUID(posting.user_id),
        transaction_id=UUID(posting.id),
    )
    return posting.id


def _reverse(connection: Connection, deed: _Deed) -> TransactionId | Refusal:
    sale: PostedSale | None = find_sale(connection, deed.sale_name)
    if sale is None:
        return NOTHING_TO_REVERSE
    lock_wallets(connection, [(sale.user_id, sale.amount.currency)])
    sale = read_what_is_left(connection, sale)
    if sale.left_in_cents == 0:
        return NOTHING_TO_REVERSE
    amount = Money(sale.left_in_cents, sale.amount.currency)
    posting = give_back(
        connection,
        sale,
        amount,
        holder=deed.holder,
        key=deed.key,
        reason=deed.reason,
        now=deed.now,
        action="sale_reversed",
    )
    _answer_from_now_on(connection, deed, KeyState.CANCELLED, Cancelled(amount))
    return posting.id


def _answer_from_now_on(
    connection: Connection, deed: _Deed, state: KeyState, answer: Outcome, **values: Any
) -> None:
    """What the appliance hears under this key; one that signed somebody in keeps its answer."""
    connection.execute(
        update(outcomes)
        .where(
            outcomes.c.device_id == deed.row.device_id,
            outcomes.c.key == deed.row.key,
            outcomes.c.state != KeyState.ANSWERED.value,
        )
        .values(state=state.value, answer=encode_outcome(answer), **values)
    )


def _find_staff(connection: Connection, request: OfflineAcceptance) -> StaffId | None:
    session_id = as_uuid_text(request.session_id)
    if session_id is None:
        return None
    found = select(staff_sessions.c.staff_id).where(
        staff_sessions.c.session_id == UUID(session_id),
        staff_sessions.c.device_id == request.device_id,
    )
    staff_id = connection.execute(found).scalar_one_or_none()
    return None if staff_id is None else StaffId(staff_id)


def _end(
    connection: Connection, deed: _Deed, state: ReviewState, moved: TransactionId | None
) -> ReviewEntry:
    connection.execute(
        update(review_entries)
        .where(review_entries.c.review_id == deed.row.review_id)
        .values(
            state=state.value,
            transaction_id=deed.row.transaction_id if moved is None else UUID(moved),
            resolved_at=deed.now,
            resolved_by=deed.holder.subject,
            resolution_reason=deed.reason,
        )
    )
    record = AuditRow(
        at=deed.now,
        actor=deed.holder.subject,
        action="review_ended",
        outcome=state.value,
        device_id=deed.row.device_id,
        event_id=deed.row.event_id,
        user_id=None if deed.row.user_id is None else str(deed.row.user_id),
        subject=str(deed.row.review_id),
        detail={"reason": deed.reason, "key": deed.row.key, "transaction": moved},
    )
    write_audit_records(connection, [record])
    ended = connection.execute(
        select(review_entries).where(review_entries.c.review_id == deed.row.review_id)
    ).one()
    return read_entry(ended)
