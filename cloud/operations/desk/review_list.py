"""The review list: what only a person can judge, and what the appliance signed about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Row, select

from cloud.access.roles import Holder, Role
from cloud.operations.desk.decide_approval import in_events, may
from cloud.operations.desk.review_refusals import UNKNOWN_REVIEW
from cloud.operations.refusals import Refusal
from cloud.store.database import Database
from cloud.store.tables import review_entries
from protocol.encoding import from_base64url, to_base64url
from protocol.messages import (
    Cancel,
    MessageRefusal,
    OfflineAcceptance,
    Resubmission,
    decode_request,
    kind_of,
)
from protocol.money import Money

MAY_REVIEW: Final = (Role.SUPERVISOR, Role.FINANCE)


class ReviewState(StrEnum):
    OPEN = "open"
    POSTED = "posted"
    REVERSED = "reversed"
    WRITTEN_OFF = "written_off"


@dataclass(frozen=True, slots=True)
class ReviewEntry:
    review_id: str
    device_id: str
    key: str
    kind: str
    """`offline_acceptance`, `cancel`, or `deduct`: an approval that was never settled."""
    reason: str
    state: ReviewState
    amount: Money | None
    event_id: str | None
    user_id: str | None
    transaction_id: str | None
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution_reason: str | None
    said: Mapping[str, Any] | None = None
    """What the appliance signed, without the QR; only where the entry is looked at alone."""


def list_reviews(
    database: Database,
    holder: Holder,
    *,
    state: ReviewState | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[ReviewEntry], str | None] | None:
    """The newest first, of the holder's events, and the next page's cursor. None: no cursor of
    ours."""
    statement = select(review_entries).where(
        in_events(review_entries.c.event_id, holder, MAY_REVIEW)
    )
    if state is not None:
        statement = statement.where(review_entries.c.state == state.value)
    if cursor is not None:
        raw = from_base64url(cursor.encode())
        if raw is None or len(raw) != 16:
            return None
        statement = statement.where(review_entries.c.review_id < UUID(bytes=raw))
    ordered = statement.order_by(review_entries.c.review_id.desc()).limit(limit + 1)
    with database.reading() as connection:
        rows = connection.execute(ordered).all()
    page, more = rows[:limit], len(rows) > limit
    cursor = to_base64url(page[-1].review_id.bytes) if more else None
    return [read_entry(row) for row in page], cursor


def find_review(database: Database, review_id: UUID, holder: Holder) -> ReviewEntry | Refusal:
    """One entry with what the appliance signed; another event's is as unknown as none."""
    with database.reading() as connection:
        row = connection.execute(
            select(review_entries).where(review_entries.c.review_id == review_id)
        ).one_or_none()
    if row is None or not may(holder, MAY_REVIEW, row.event_id):
        return UNKNOWN_REVIEW
    return read_entry(row, said=_said(row))


def read_request(row: Row[Any]) -> OfflineAcceptance | Cancel | Resubmission | None:
    """What the appliance asked; its signature was checked when it came."""
    if row.request is None:
        return None
    payload = from_base64url(bytes(row.request).split(b".")[1])
    assert payload is not None, "a stored request is a JWS"
    request = decode_request(payload)
    assert not isinstance(request, MessageRefusal), "it was read when it came"
    assert isinstance(request, OfflineAcceptance | Cancel | Resubmission), (
        "nothing else goes to review"
    )
    return request


def read_entry(row: Row[Any], said: Mapping[str, Any] | None = None) -> ReviewEntry:
    amount = None if row.amount_in_cents is None else Money(row.amount_in_cents, row.currency)
    return ReviewEntry(
        review_id=str(row.review_id),
        device_id=row.device_id,
        key=row.key,
        kind=row.kind,
        reason=row.reason,
        state=ReviewState(row.state),
        amount=amount,
        event_id=row.event_id,
        user_id=None if row.user_id is None else str(row.user_id),
        transaction_id=None if row.transaction_id is None else str(row.transaction_id),
        created_at=row.created_at,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        resolution_reason=row.resolution_reason,
        said=said,
    )


def _said(row: Row[Any]) -> Mapping[str, Any] | None:
    request = read_request(row)
    if request is None:
        return None
    said: dict[str, Any] = msgspec.to_builtins(request)
    # Whoever reads this has no use for a payment token, spent or not.
    said.pop("wallet_qr", None)
    said.pop("reply", None)
    return {"kind": kind_of(request)} | said
