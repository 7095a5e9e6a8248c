"""An event as one document: applied whole, compared with what is there, in one transaction."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from uuid_utils.compat import uuid7

from cloud.keys import KeyRing
from cloud.operations.event.event_document import EventDocument
from cloud.operations.event.issue_policy import assigned_devices, issue_policies
from cloud.operations.event.keep_version import Edit, keep_version, keep_what_stands, newest_version
from cloud.operations.event.read_event import read_event
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_or_update
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_devices, lock_event
from cloud.store.tables import (
    claims,
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

Expected = Callable[[EventDocument | None], bool]
"""Whether the event still is what an edit was made from; None: it is not there."""


@dataclass(frozen=True, slots=True)
class Applied:
    event_id: EventId
    version: int
    """The newest: the one that was made, or, where nothing changed, the one that stands."""
    is_new: bool
    has_changed: bool
    policies: dict[DeviceId, int] = field(default_factory=dict[DeviceId, int])
    """The new policy version of each appliance that gets one."""


def apply_event(
    database: Database,
    keys: KeyRing,
    event_id: EventId,
    document: EventDocument,
    edit: Edit,
    *,
    top_up_url: str | None = None,
    is_expected: Expected | None = None,
) -> Applied | Refusal:
    """Make the event what the document says; applying it twice changes nothing."""
    with database.transaction() as connection:
        current = lock_and_read(connection, event_id)
        refusal = refuse_changed(connection, event_id, current, is_expected)
        if refusal is not None:
            return refusal
        applied = make_so(
            connection,
            keys,
            event_id,
            current=current,
            document=document,
            edit=edit,
            top_up_url=top_up_url,
        )
    if isinstance(applied, Applied):
        keys.wallet_for(event_id)
    return applied


def lock_and_read(connection: Connection, event_id: EventId) -> EventDocument | None:
    """Two people who apply at once: the second waits, and then sees what the first made."""
    lock_event(connection, event_id)
    lock_devices(connection, assigned_devices(connection, event_id))
    # Not so strong a lock that whoever names the event waits for it (key_share): a new badge does,
    # and holds its staff, whom an edit stores.
    connection.execute(
        select(events).where(events.c.event_id == event_id).with_for_update(key_share=True)
    )
    return read_event(connection, event_id)


def refuse_changed(
    connection: Connection,
    event_id: EventId,
    current: EventDocument | None,
    is_expected: Expected | None,
) -> Refusal | None:
    """Whoever edits what somebody else has changed meanwhile would undo that unseen."""
    if is_expected is None or is_expected(current):
        return None
    if current is None:
        return Refusal(
            Code.EVENT_CHANGED, f"There is no event {event_id!r} any more.", "Read it again."
        )
    newest = newest_version(connection, event_id)
    if newest is None:
        told = f"{event_id} is another than the one that was read."
    else:
        told = (
            f"{event_id} is at version {newest.version} by now, applied by "
            f"{newest.applied_by or 'nobody known'} at {newest.applied_at:%Y-%m-%d %H:%M:%S} UTC."
        )
    return Refusal(Code.EVENT_CHANGED, told, "Read it again, and make the change anew.")


def make_so(
    connection: Connection,
    keys: KeyRing,
    event_id: EventId,
    *,
    current: EventDocument | None,
    document: EventDocument,
    edit: Edit,
    top_up_url: str | None,
) -> Applied | Refusal:
    """Within a transaction that holds the event (`lock_and_read`): store it, keep it as the next
    version, and give each appliance there a policy made from it."""
    document = document.in_order()
    if current == document:
        newest = newest_version(connection, event_id)
        version = 0 if newest is None else newest.version
        return Applied(event_id, version, is_new=False, has_changed=False)
    refusal = None if current is None else _refuse(connection, event_id, current, document, edit)
    refusal = refusal or _refuse_others_names(connection, document, edit)
    if refusal is not None:
        return refusal

    if current is not None:
        keep_what_stands(connection, event_id, current, edit.now)
    _store_event(connection, event_id, document, edit.now)
    _store_stalls(connection, event_id, document)
    _store_ticket_types(connection, event_id, document)
    _store_staff(connection, event_id, document, edit.now)
    version = keep_version(connection, event_id, document, edit)
    issued = issue_policies(connection, keys, event_id, edit.now, top_up_url=top_up_url)
    _record(connection, event_id, version, issued, edit)
    return Applied(event_id, version, is_new=current is None, has_changed=True, policies=issued)


def _record(
    connection: Connection,
    event_id: EventId,
    version: int,
    issued: dict[DeviceId, int],
    edit: Edit,
) -> None:
    detail: dict[str, Any] = {"version": version, "policies": dict(issued)}
    if edit.rolled_back_to is not None:
        detail |= {"to": edit.rolled_back_to, "reason": edit.reason}
    deed = AuditRow(
        at=edit.now,
        actor=edit.actor,
        action="event_applied" if edit.rolled_back_to is None else "event_rolled_back",
        outcome="done",
        subject=event_id,
        event_id=event_id,
        detail=detail,
    )
    write_audit_records(connection, [deed])


def _refuse(
    connection: Connection,
    event_id: EventId,
    current: EventDocument,
    document: EventDocument,
    edit: Edit,
) -> Refusal | None:
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
    return _refuse_stalls(connection, event_id, gone, edit.now) if gone else None


def _refuse_others_names(
    connection: Connection, document: EventDocument, edit: Edit
) -> Refusal | None:
    """A name is on the badges and receipts of every event where somebody works."""
    if edit.within is None:
        return None
    said = {member.id: (member.name, member.initials) for member in document.staff}
    elsewhere = select(staff_assignments.c.staff_id).where(
        staff_assignments.c.event_id.not_in(edit.within)
    )
    known = select(staff).where(staff.c.staff_id.in_(elsewhere)).order_by(staff.c.staff_id)
    for row in connection.execute(known):
        if said.get(row.staff_id, (row.name, row.initials)) != (row.name, row.initials):
            return Refusal(
                Code.NOT_ALLOWED,
                f"The staff id {row.staff_id!r} is somebody's at an event that is not yours, "
                "under another name.",
                "Give yours another id; or ask somebody with the role ops for every event.",
            )
    return None


def _refuse_stalls(
    connection: Connection, event_id: EventId, gone: set[str], now: datetime
) -> Refusal | None:
    """A stall stays while an appliance stands there, or one is about to be enrolled for it."""
    # Locked: no appliance is moved there while it goes.
    connection.execute(
        select(stalls.c.stall_id)
        .where(stalls.c.event_id == event_id, stalls.c.stall_id.in_(gone))
        .order_by(stalls.c.stall_id)
        .with_for_update()
    )
    standing = connection.execute(
        select(devices.c.device_id, devices.c.stall_id)
        .where(
            devices.c.event_id == event_id,
            devices.c.stall_id.in_(gone),
            devices.c.status == "active",
        )
        .order_by(devices.c.device_id)
    ).all()
    if standing:
        held = ", ".join(f"{row.device_id} at {row.stall_id}" for row in standing)
        return Refusal(
            Code.STALL_IN_USE,
            f"Appliances stand at stalls that the document leaves out: {held}.",
            "Move them to another stall first.",
        )
    claimed = connection.execute(
        select(claims.c.device_id, claims.c.stall_id)
        .where(
            claims.c.event_id == event_id,
            claims.c.stall_id.in_(gone),
            claims.c.withdrawn_at.is_(None),
            claims.c.used_at.is_(None),
            claims.c.expires_at > now,
        )
        .order_by(claims.c.device_id)
    ).all()
    if claimed:
        held = ", ".join(f"{row.device_id} at {row.stall_id}" for row in claimed)
        return Refusal(
            Code.STALL_IN_USE,
            f"Claims wait for appliances at stalls that the document leaves out: {held}.",
            "Withdraw the claims first, or wait until they have expired.",
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
    # Those that are no longer in use stood there last; the audit log says so.
    connection.execute(
        update(devices)
        .where(devices.c.event_id == event_id, devices.c.stall_id.not_in(kept))
        .values(stall_id=None)
    )
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
