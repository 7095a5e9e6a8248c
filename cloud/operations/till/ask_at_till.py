"""What staff may ask an appliance about itself: its last receipt, and their own shift."""

from cloud.ledger.facts import StaffSession
from cloud.ledger.judging import judge_session
from cloud.ledger.shifts import add_up
from cloud.operations.till.opening import Opened
from cloud.store.database import Database
from cloud.store.gathering import gather_place
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.till_reports import read_last_receipt, read_shift
from protocol.messages import (
    Declined,
    LastReceiptRequest,
    Outcome,
    Reason,
    ShiftReportRequest,
    kind_of,
)


def ask_at_till(
    database: Database, opened: Opened, request: LastReceiptRequest | ShiftReportRequest
) -> Outcome:
    """Answered anew each time: a question takes no key. That it was asked is recorded."""
    with database.reading() as connection:
        place = gather_place(connection, request.device, opened.thumbprint, request.session_id)
        now = opened.arrived.arrived_at
        session = judge_session(
            place.appliance,
            place.session,
            shut_out=place.shut_out,
            has_ended=lambda each: each.ended,
            at=now,
        )
        outcome: Outcome | None
        if isinstance(session, Reason):
            outcome = Declined(session)
        elif isinstance(request, LastReceiptRequest):
            outcome = read_last_receipt(connection, session) or Declined(Reason.NO_RECEIPT)
        else:
            outcome = add_up(*read_shift(connection, session, now))

    with database.transaction() as connection:
        write_audit_records(connection, [_record(opened, request, session, outcome)])
    return outcome


def _record(
    opened: Opened,
    request: LastReceiptRequest | ShiftReportRequest,
    session: StaffSession | Reason,
    outcome: Outcome,
) -> AuditRow:
    is_staff = isinstance(session, StaffSession)
    return AuditRow(
        at=opened.arrived.arrived_at,
        actor=f"staff:{session.staff_id}" if is_staff else f"device:{request.device_id}",
        action=kind_of(request),
        outcome=outcome.reason.value
        if isinstance(outcome, Declined)
        else str(outcome.__struct_config__.tag),
        device_id=request.device_id,
        event_id=session.event_id if is_staff else None,
        subject=request.key,
        request_hash=opened.request_hash,
    )
