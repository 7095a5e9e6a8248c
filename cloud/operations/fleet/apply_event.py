"""An event as one document: applied whole, compared with what is there, in one transaction."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.operations.fleet.event_document import (
    EventDocument,
    OfflineDocument,
    ProductDocument,
    RefundDocument,
    StaffDocument,
    StallDocument,
    TicketTypeDocument,
    TopUpDocument,
)
from cloud.operations.fleet.issue_policy import assigned_devices, issue_policies
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_or_update
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices
from cloud.store.tables import (
    devices,
    events,
    order_lines,
    products,
    staff,
    staff_assignments,
    stalls,
    ticket_types,
)
from protocol.ids import DeviceId, EventId
from protocol.policy import OfflineRules


@dataclass(frozen=True, slots=True)
class Applied:
    event_id: EventId
    is_new: bool
    has_changed: bool
    policies: dict[DeviceId, int] = field(default_factory=dict[DeviceId, int])
    """The new policy version of each appliance that gets one."""


def apply_event(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    document: EventDocument,
    *,
    actor: str,
    now: datetime,
    top_up_url: str | None = None,
) -> Applied | Refusal:
    """Make the event what the document says; applying it twice changes nothing."""
    document = document.in_order()
    with database.transaction() as connection:
        lock_devices(connection, assigned_devices(connection, event_id))
        # Two people applying at once: the second waits, and then sees what the first made.
        connection.execute(select(events).where(events.c.event_id == event_id).with_for_update())
        current = read_event(connection, event_id)
        if current == document:
            return Applied(event_id, is_new=False, has_changed=False)
        refusal = _refuse(connection, event_id, current, document)
        if refusal is not None:
            return refusal

        _store_event(connection, event_id, document, now)
        _store_stalls(connection, event_id, document)
        _store_ticket_types(connection, event_id, document)
        _store_staff(connection, event_id, document, now)
        issued = issue_policies(connection, keys, event_id, now, top_up_url=top_up_url)
        deed = AuditRow(
            at=now,
            actor=actor,
            action="event_applied",
            outcome="done",
            subject=event_id,
            event_id=event_id,
            detail={"policies": dict(issued)},
        )
        write_audit_records(connection, [deed])
    keys.wallet_for(event_id)
    return Applied(event_id, is_new=current is None, has_changed=True, policies=issued)


def find_event(database: Database, event_id: EventId) -> EventDocument | Refusal:
    with database.reading() as connection:
        document = read_event(connection, event_id)
    if document is None:
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {event_id!r}.",
            "Apply one, or look at the list of events.",
        )
    return document


def list_events(database: Database) -> list[tuple[EventId, EventDocument]]:
    with database.reading() as connection:
        names = connection.execute(select(events.c.event_id).order_by(events.c.event_id)).scalars()
        found = [(EventId(name), read_event(connection, EventId(name))) for name in names.all()]
    return [(name, document) for name, document in found if document is not None]


def read_event(connection: Connection, event_id: EventId) -> EventDocument | None:
    """The event as the document (in order) that would make it so."""
    event = connection.execute(select(events).where(events.c.event_id == event_id)).one_or_none()
    if event is None:
        return None
    return EventDocument(
        name=event.name,
        currency=event.currency,
        locale=event.locale,
        timezone=event.timezone,
        sale_max_in_cents=event.sale_max_in_cents,
        reply_timeout_ms=event.reply_timeout_ms,
        staff_session_s=event.staff_session_s,
        starts_at=event.starts_at,
        ends_at=event.ends_at,
        offline=OfflineDocument.model_validate(event.offline_rules or {}),
        top_up=TopUpDocument(
            min_in_cents=event.top_up_min_in_cents, max_in_cents=event.top_up_max_in_cents
        ),
        refunds=RefundDocument(
            window_s=event.refund_window_s,
            staff_limit_in_cents=event.refund_staff_limit_in_cents,
            deadline=event.refund_deadline,
        ),
        cash_out=event.cash_out,
        adjustment_limit_in_cents=event.adjustment_limit_in_cents,
        ticket_types=_read_ticket_types(connection, event_id),
        stalls=_read_stalls(connection, event_id),
        staff=_read_staff(connection, event_id),
    ).in_order()


def _refuse(
    connection: Connection,
    event_id: EventId,
    current: EventDocument | None,
    document: EventDocument,
) -> Refusal | None:
    if current is None:
        return None
    if current.currency != document.currency:
        return Refusal(
            Code.CURRENCY_FIXED,
            f"{event_id} sells in {current.currency}; an event keeps its currency.",
            "Make another event for the other currency.",
        )
    refusal = _refuse_ticket_types(connection, event_id, document)
    if refusal is not None:
        return refusal
    gone = {stall.id for stall in current.stalls} - {stall.id for stall in document.stalls}
    in_use = connection.execute(
        select(devices.c.device_id, devices.c.stall_id)
        .where(devices.c.event_id == event_id, devices.c.stall_id.in_(gone))
        .order_by(devices.c.device_id)
    ).all()
    if in_use:
        held = ", ".join(f"{row.device_id} at {row.stall_id}" for row in in_use)
        return Refusal(
            Code.STALL_IN_USE,
            f"Appliances stand at stalls that the document leaves out: {held}.",
            "Move them to another stall first.",
        )
    return None


def _refuse_ticket_types(
    connection: Connection, event_id: EventId, document: EventDocument
) -> Refusal | None:
    """Tickets of a kind that were ordered keep their kind, and their number is not cut below."""
    stock = {kind.id: kind.stock for kind in document.ticket_types}
    # Locked: nobody orders one while it goes.
    rows = connection.execute(
        select(ticket_types)
        .where(ticket_types.c.event_id == event_id)
        .order_by(ticket_types.c.ticket_type_id)
        .with_for_update()
    ).all()
    ordered = connection.execute(
        select(order_lines.c.ticket_type_id).where(order_lines.c.event_id == event_id).distinct()
    ).scalars()
    kept = set(ordered)
    for row in rows:
        left_out = row.ticket_type_id not in stock
        if (left_out and row.ticket_type_id in kept) or (
            not left_out and stock[row.ticket_type_id] < row.taken
        ):
            return Refusal(
                Code.TICKETS_SOLD,
                f"{row.taken} of the tickets {row.ticket_type_id!r} are sold or held.",
                "Keep the kind with at least that stock; end its sale with on_sale_until.",
            )
    return None


def _store_event(
    connection: Connection, event_id: EventId, document: EventDocument, now: datetime
) -> None:
    row: dict[str, Any] = document.model_dump(
        exclude={"offline", "top_up", "refunds", "stalls", "staff", "ticket_types"}
    )
    row |= {f"top_up_{name}": value for name, value in document.top_up.model_dump().items()}
    row |= {f"refund_{name}": value for name, value in document.refunds.model_dump().items()}
    rules = msgspec.convert(document.offline.model_dump(), OfflineRules)
    row["offline_rules"] = msgspec.to_builtins(rules)
    created_at = connection.execute(
        select(events.c.created_at).where(events.c.event_id == event_id)
    ).scalar_one_or_none()
    row |= {"event_id": event_id, "created_at": created_at or now}
    insert_or_update(connection, events, row)


def _store_stalls(connection: Connection, event_id: EventId, document: EventDocument) -> None:
    connection.execute(delete(products).where(products.c.event_id == event_id))
    kept = [stall.id for stall in document.stalls]
    connection.execute(
        delete(stalls).where(stalls.c.event_id == event_id, stalls.c.stall_id.not_in(kept))
    )
    for stall in document.stalls:
        row = {"event_id": event_id, "stall_id": stall.id, "name": stall.name}
        insert_or_update(connection, stalls, row)
        if stall.products:
            rows = [
                {"event_id": event_id, "stall_id": stall.id, **product.model_dump()}
                for product in stall.products
            ]
            connection.execute(insert(products), rows)


def _store_ticket_types(connection: Connection, event_id: EventId, document: EventDocument) -> None:
    kept = [kind.id for kind in document.ticket_types]
    connection.execute(
        delete(ticket_types).where(
            ticket_types.c.event_id == event_id, ticket_types.c.ticket_type_id.not_in(kept)
        )
    )
    for kind in document.ticket_types:
        row = kind.model_dump(exclude={"id"})
        row |= {"event_id": event_id, "ticket_type_id": kind.id}
        insert_or_update(connection, ticket_types, row)


def _store_staff(
    connection: Connection, event_id: EventId, document: EventDocument, now: datetime
) -> None:
    connection.execute(delete(staff_assignments).where(staff_assignments.c.event_id == event_id))
    for member in document.staff:
        created_at = connection.execute(
            select(staff.c.created_at).where(staff.c.staff_id == member.id)
        ).scalar_one_or_none()
        row = {
            "staff_id": member.id,
            "name": member.name,
            "initials": member.initials,
            "created_at": created_at or now,
        }
        insert_or_update(connection, staff, row)
        places: list[str | None] = [None] if member.stalls is None else [*member.stalls]
        for stall_id in places:
            connection.execute(
                insert(staff_assignments).values(
                    assignment_id=uuid7(),
                    staff_id=member.id,
                    event_id=event_id,
                    stall_id=stall_id,
                    is_supervisor=member.is_supervisor,
                )
            )


def _read_ticket_types(connection: Connection, event_id: EventId) -> tuple[TicketTypeDocument, ...]:
    rows = connection.execute(
        select(ticket_types)
        .where(ticket_types.c.event_id == event_id)
        .order_by(ticket_types.c.ticket_type_id)
    )
    return tuple(
        TicketTypeDocument(
            id=row.ticket_type_id,
            name=row.name,
            price_in_cents=row.price_in_cents,
            stock=row.stock,
            per_order_max=row.per_order_max,
            on_sale_from=row.on_sale_from,
            on_sale_until=row.on_sale_until,
        )
        for row in rows
    )


def _read_stalls(connection: Connection, event_id: EventId) -> tuple[StallDocument, ...]:
    price_lists: dict[str, list[ProductDocument]] = {}
    for row in connection.execute(
        select(products).where(products.c.event_id == event_id).order_by(products.c.number)
    ):
        product = ProductDocument(
            number=row.number, name=row.name, price_in_cents=row.price_in_cents
        )
        price_lists.setdefault(row.stall_id, []).append(product)
    rows = connection.execute(
        select(stalls).where(stalls.c.event_id == event_id).order_by(stalls.c.stall_id)
    )
    return tuple(
        StallDocument(
            id=row.stall_id, name=row.name, products=tuple(price_lists.get(row.stall_id, ()))
        )
        for row in rows
    )


def _read_staff(connection: Connection, event_id: EventId) -> tuple[StaffDocument, ...]:
    places: dict[str, list[str | None]] = {}
    members: dict[str, tuple[str, str, bool]] = {}
    for row in connection.execute(
        select(staff, staff_assignments.c.stall_id, staff_assignments.c.is_supervisor)
        .join(staff_assignments, staff_assignments.c.staff_id == staff.c.staff_id)
        .where(staff_assignments.c.event_id == event_id)
        .order_by(staff.c.staff_id, staff_assignments.c.stall_id)
    ):
        members[row.staff_id] = (row.name, row.initials, row.is_supervisor)
        places.setdefault(row.staff_id, []).append(row.stall_id)
    return tuple(
        StaffDocument(
            id=staff_id,
            name=name,
            initials=initials,
            stalls=None
            if None in places[staff_id]
            else tuple(place for place in places[staff_id] if place is not None),
            is_supervisor=is_supervisor,
        )
        for staff_id, (name, initials, is_supervisor) in members.items()
    )
