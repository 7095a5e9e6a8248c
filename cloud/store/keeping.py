"""Writes what a batch decided, all of it or nothing, in as few statements as it has tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, bindparam, case, update

from cloud.ledger.decide import Decided
from cloud.ledger.decisions import Decision, ReviewCause, Seen
from cloud.ledger.facts import DeviceKey, Facts, KnownKey, Presented
from cloud.store.approvals import keep_approvals
from cloud.store.postings import LEDGER, write_postings
from cloud.store.progress import keep_progress
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.rows import in_one_go, insert_rows, printable
from cloud.store.tables import (
    device_certificates,
    devices,
    outcomes,
    review_entries,
    spent_tokens,
    staff_sessions,
)
from cloud.store.unsettled import review_unsettled_of
from protocol.messages import (
    Cancel,
    Deduct,
    JournalPosition,
    OfflineAcceptance,
    Refund,
    encode_outcome,
    kind_of,
)
from protocol.updates import System

SPENT_TOKENS_KEPT: Final = timedelta(hours=48)
"""Past a token's `exp`: longer than any upload is posted without a person (24 h)."""
CLOCK_AHEAD_MAX: Final = timedelta(minutes=5)
"""An appliance that names a later moment of its own has a clock that is not to be shown."""


def keep_decided(
    connection: Connection, facts: Facts, batch: Sequence[tuple[Presented, bytes]], decided: Decided
) -> None:
    """Store it in the open transaction; `batch` holds each request with its token as it came.

    Raises sqlalchemy.exc.IntegrityError where something stands already that the facts did not
    show: nobody may write past `store.locks`, yet the database is asked again.
    """
    requests = [presented for presented, _ in batch]
    decisions = decided.decisions
    postings = [each.posting for each in decisions if each.posting is not None]
    now = max(each.arrived_at for each in requests)
    keys = _last_of_each_key(requests, decisions)
    _change_keys(connection, facts, keys)
    _keep_reviews(connection, batch, decisions)
    _end_sessions(connection, requests, decisions)
    _keep_heartbeats(connection, requests, decisions)
    _note_first_uses(connection, facts, now)
    keep_approvals(connection, requests, decisions)
    rows = [_audit_row(*each) for each in zip(requests, decisions, strict=True)]
    with in_one_go(connection):
        write_postings(connection, postings, facts.wallets, decided.wallets, now)
        _keep_keys(connection, facts, keys)
        _keep_spent_tokens(connection, decisions)
        write_audit_records(connection, rows)
    _review_left_journals(connection, requests, decisions)
    _quarantine(connection, requests, decisions)


def _review_left_journals(
    connection: Connection,
    requests: Sequence[Presented],
    decisions: Sequence[Decision],
) -> None:
    """What an appliance that began another journal had not settled in the one before."""
    for presented, decision in zip(requests, decisions, strict=True):
        if decision.left is not None:
            review_unsettled_of(
                connection,
                presented.request.device,
                ReviewCause.JOURNAL_NEW_EPOCH,
                presented.arrived_at,
                journal=decision.left,
            )


def _quarantine(
    connection: Connection, requests: Sequence[Presented], decisions: Sequence[Decision]
) -> None:
    """Under the appliance's lock, with what was noticed: the next transaction sees it."""
    for presented, decision in zip(requests, decisions, strict=True):
        if decision.quarantine is None:
            continue
        request = presented.request
        connection.execute(
            update(devices)
            .where(devices.c.device_id == request.device_id, devices.c.quarantined_at.is_(None))
            .values(quarantined_at=presented.arrived_at, quarantine_cause=decision.quarantine.value)
        )
        deed = AuditRow(
            at=presented.arrived_at,
            actor=LEDGER,
            action="device_quarantined",
            outcome="done",
            device_id=request.device_id,
            subject=request.key,
            request_hash=presented.request_hash,
            detail={
                "cause": decision.quarantine.value,
                "epoch": request.journal.epoch,
                "last": request.journal.last,
                "settled_below": request.journal.settled_below,
            },
        )
        write_audit_records(connection, [deed])


_Keys = Mapping[DeviceKey, tuple[Presented, KnownKey]]


def _last_of_each_key(requests: Sequence[Presented], decisions: Sequence[Decision]) -> _Keys:
    """Each key once, as the batch's last decision about it left it."""
    return {
        (presented.request.device, presented.request.idempotency_key): (presented, decision.key)
        for presented, decision in zip(requests, decisions, strict=True)
        if decision.key is not None
    }


def _keep_keys(connection: Connection, facts: Facts, keys: _Keys) -> None:
    insert_rows(
        connection,
        outcomes,
        _OUTCOME_COLUMNS,
        [
            _outcome_row(presented, known)
            for device_key, (presented, known) in keys.items()
            if device_key not in facts.keys
        ],
    )


def _change_keys(connection: Connection, facts: Facts, keys: _Keys) -> None:
    changed = [
        {
            "of_device_id": device_id,
            "of_key": key,
            "state": known.state.value,
            "answer": encode_outcome(known.answer),
            "user_id": None if known.sale is None else UUID(known.sale.user_id),
            "transaction_id": None if known.sale is None else UUID(known.sale.transaction_id),
        }
        for (device_id, key), (_, known) in keys.items()
        if (device_id, key) in facts.keys
    ]
    if changed:
        connection.execute(_CHANGE_OUTCOME, changed)


def _outcome_row(presented: Presented, known: KnownKey) -> tuple[Any, ...]:
    request = presented.request
    assert isinstance(request, Deduct | OfflineAcceptance | Cancel | Refund), "it takes a key"
    posted = known.sale or known.refund
    return (
        request.device_id,
        request.key,
        known.state.value,
        known.digest,
        encode_outcome(known.answer),
        None if posted is None else posted.user_id,
        None if posted is None else posted.transaction_id,
        request.journal.epoch,
        request.entry,
        presented.arrived_at,
    )


def _keep_spent_tokens(connection: Connection, decisions: Sequence[Decision]) -> None:
    insert_rows(
        connection,
        spent_tokens,
        ("user_id", "jti", "expires_at"),
        [
            (
                each.spent.user_id,
                each.spent.token_id,
                datetime.fromtimestamp(each.spent.expires_at_s, UTC) + SPENT_TOKENS_KEPT,
            )
            for each in decisions
            if each.spent is not None
        ],
    )


def _keep_reviews(
    connection: Connection,
    batch: Sequence[tuple[Presented, bytes]],
    decisions: Sequence[Decision],
) -> None:
    rows = [
        {
            "review_id": UUID(review.review_id),
            "device_id": presented.request.device_id,
            "key": presented.request.key,
            "kind": kind_of(presented.request),
            "reason": review.reason.value,
            "request": token,
            "user_id": None if review.user_id is None else UUID(review.user_id),
            "amount_in_cents": None if review.amount is None else review.amount.amount_in_cents,
            "currency": None if review.amount is None else review.amount.currency,
            "event_id": review.event_id,
            "state": "open",
            "created_at": presented.arrived_at,
        }
        for (presented, token), decision in zip(batch, decisions, strict=True)
        for review in [decision.review]
        if review is not None
    ]
    if rows:
        connection.execute(review_entries.insert(), rows)


def _end_sessions(
    connection: Connection, requests: Sequence[Presented], decisions: Sequence[Decision]
) -> None:
    rows = [
        {"of_session_id": UUID(decision.ended), "ended_at": presented.arrived_at}
        for presented, decision in zip(requests, decisions, strict=True)
        if decision.ended is not None
    ]
    if rows:
        connection.execute(_END_SESSION, rows)


def _note_first_uses(connection: Connection, facts: Facts, now: datetime) -> None:
    """Once a certificate: what came before it may be superseded from now on."""
    if facts.unused_certificates:
        connection.execute(
            update(device_certificates)
            .where(
                device_certificates.c.thumbprint.in_(sorted(facts.unused_certificates)),
                device_certificates.c.first_used_at.is_(None),
            )
            .values(first_used_at=now)
        )


def _keep_heartbeats(
    connection: Connection, requests: Sequence[Presented], decisions: Sequence[Decision]
) -> None:
    seen = [
        (presented.request.device_id, decision.seen)
        for presented, decision in zip(requests, decisions, strict=True)
        if decision.seen is not None
    ]
    _see(
        connection,
        [
            {
                "of_device_id": device_id,
                "firmware": printable(each.firmware),
                "printer": printable(each.printer),
                "queue": each.queue,
                "queue_in_cents": each.queue_in_cents,
                "temperature_c": each.temperature_c,
                "clock": each.clock,
                "last_sale_at": _moment_said(each.last_sale_ms, each.at),
                "uptime_s": each.uptime_s,
                "last_seen_at": each.at,
                **_system_values(each.system),
            }
            for device_id, each in seen
        ],
    )
    keep_progress(
        connection,
        [
            (device_id, each.system.update, each.at)
            for device_id, each in seen
            if each.system is not None and each.system.update is not None
        ],
    )
    acknowledged = [
        {"of_device_id": device_id, "acked": each.policy_acked, "acked_at": each.at}
        for device_id, each in seen
        if each.policy_acked is not None
    ]
    if acknowledged:
        connection.execute(_ACKNOWLEDGE_POLICY, acknowledged)
    _see(
        connection,
        [
            {"of_device_id": device_id, **_journal_values(each.journal, each)}
            for device_id, each in seen
            if each.journal is not None
        ],
    )
    _see(
        connection,
        [
            {"of_device_id": device_id, "resend_for": None}
            for device_id, each in seen
            if each.has_resent
        ],
    )


def _see(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(_SEE_DEVICE, rows)


def _journal_values(journal: JournalPosition, seen: Seen) -> dict[str, Any]:
    return {
        "journal_epoch": journal.epoch,
        "journal_last": journal.last,
        "journal_settled_below": journal.settled_below,
        "journal_head": journal.head,
        "journal_settled_by": None if seen.settled_by is None else printable(seen.settled_by),
        "journal_left": list(seen.journal_left),
        "journal_anew": False,
    }


def _system_values(system: System | None) -> dict[str, Any]:
    if system is None:
        return dict.fromkeys(("image", "compatible", "slot", "update_version"))
    return {
        "image": system.image,
        "compatible": system.compatible,
        "slot": system.slot or None,
        "update_version": None if system.update is None else system.update.version,
    }


def _moment_said(said_ms: int | None, heard_at: datetime) -> datetime | None:
    """A moment an appliance names; one that has not come yet is none (its clock is wrong)."""
    if said_ms is None or said_ms > (heard_at + CLOCK_AHEAD_MAX).timestamp() * 1000:
        return None
    return datetime.fromtimestamp(said_ms / 1000, UTC)


def _audit_row(presented: Presented, decision: Decision) -> AuditRow:
    request = presented.request
    staff = decision.staff_id
    is_placed = isinstance(request, Deduct | OfflineAcceptance | Cancel | Refund)
    return AuditRow(
        at=presented.arrived_at,
        actor=f"device:{request.device_id}" if staff is None else f"staff:{staff}",
        action=kind_of(request),
        outcome=decision.outcome_name,
        device_id=request.device_id,
        event_id=request.event_id if is_placed else None,
        user_id=decision.user_id,
        subject=request.key,
        request_hash=presented.request_hash,
        detail=_detail(decision),
    )


def _detail(decision: Decision) -> Mapping[str, Any] | None:
    detail: dict[str, Any] = {}
    if decision.flags:
        detail["flags"] = [flag.value for flag in decision.flags]
    if decision.about is not None:
        detail["sale"] = "/".join(decision.about)
    if decision.approval_used is not None:
        detail["approval"] = decision.approval_used
    if decision.wanted is not None:
        detail["approval_wanted"] = decision.wanted.approval_id
    return detail or None


_OUTCOME_COLUMNS: Final = (
    "device_id",
    "key",
    "state",
    "digest",
    "answer",
    "user_id",
    "transaction_id",
    "epoch",
    "entry",
    "created_at",
)
_CHANGE_OUTCOME: Final = update(outcomes).where(
    outcomes.c.device_id == bindparam("of_device_id"), outcomes.c.key == bindparam("of_key")
)
_END_SESSION: Final = update(staff_sessions).where(
    staff_sessions.c.session_id == bindparam("of_session_id")
)
_SEE_DEVICE: Final = update(devices).where(devices.c.device_id == bindparam("of_device_id"))
_ACKED: Final = bindparam("acked", type_=devices.c.policy_acked.type)
# Each heartbeat names its policy: the first that names it is the acknowledgement.
_ACKNOWLEDGE_POLICY: Final = (
    update(devices)
    .where(devices.c.device_id == bindparam("of_device_id"))
    .values(
        policy_acked=_ACKED,
        policy_acked_at=case(
            (
                devices.c.policy_acked != _ACKED,
                bindparam("acked_at", type_=devices.c.policy_acked_at.type),
            ),
            else_=devices.c.policy_acked_at,
        ),
    )
)
