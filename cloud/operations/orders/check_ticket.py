"""Whether a ticket lets somebody in, for the door; a check is recorded and consumes nothing."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection, select

from cloud.keys import KeyRing
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import order_lines, tickets
from cloud.tickets.codes import TicketClaims, open_ticket
from protocol.encoding import from_base64url
from protocol.ids import EventId


class Verdict(StrEnum):
    VALID = "valid"
    VOID = "void"
    """Ours, for this event, and not good for entry: given back, or never paid."""
    UNKNOWN = "unknown"
    """No ticket of this event's."""


@dataclass(frozen=True, slots=True)
class TicketCheck:
    verdict: Verdict
    ticket_id: UUID | None = None
    order_id: UUID | None = None
    ticket_type_id: str | None = None
    ticket_type_name: str | None = None
    """As it was when it was ordered."""


def check_ticket(
    database: Database, keys: KeyRing, event_id: EventId, code: str, *, actor: str, now: datetime
) -> TicketCheck:
    claims = open_ticket(code.strip().encode(), lambda kid: keys.find("ticket", kid))
    with database.transaction() as connection:
        checked = TicketCheck(Verdict.UNKNOWN)
        if isinstance(claims, TicketClaims) and claims.event_id == event_id:
            checked = _look_up(connection, claims)
        record = AuditRow(
            at=now,
            actor=actor,
            action="ticket_checked",
            outcome=checked.verdict.value,
            event_id=event_id,
            subject=None if checked.ticket_id is None else str(checked.ticket_id),
        )
        write_audit_records(connection, [record])
    return checked


def _look_up(connection: Connection, claims: TicketClaims) -> TicketCheck:
    """By what was signed: the stored row alone decides whether it still counts."""
    raw = from_base64url(claims.ticket_id.encode())
    if raw is None:
        return TicketCheck(Verdict.UNKNOWN)
    row = connection.execute(
        select(tickets, order_lines.c.name)
        .join(
            order_lines,
            (order_lines.c.order_id == tickets.c.order_id)
            & (order_lines.c.ticket_type_id == tickets.c.ticket_type_id),
        )
        .where(tickets.c.ticket_id == UUID(bytes=raw), tickets.c.event_id == claims.event_id)
    ).one_or_none()
    if row is None:
        return TicketCheck(Verdict.UNKNOWN)
    verdict = Verdict.VALID if row.state == "valid" else Verdict.VOID
    return TicketCheck(verdict, row.ticket_id, row.order_id, row.ticket_type_id, row.name)
