"""An event as it stands: the document that would make it so."""

from sqlalchemy import Connection, select

from cloud.operations.event.event_document import (
    EventDocument,
    OfflineDocument,
    ProductDocument,
    RefundDocument,
    StaffDocument,
    StallDocument,
    TicketTypeDocument,
    TopUpDocument,
)
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import events, products, staff, staff_assignments, stalls, ticket_types
from protocol.ids import EventId


def find_event(database: Database, event_id: EventId) -> EventDocument | Refusal:
    with database.reading() as connection:
        document = read_event(connection, event_id)
    return no_event(event_id) if document is None else document


def no_event(event_id: EventId) -> Refusal:
    return Refusal(
        Code.EVENT_UNKNOWN,
        f"There is no event {event_id!r}.",
        "Apply one, or look at the list of events.",
    )


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
