"""Each event that is there already gets version 1: what its tables say as the fleet comes."""

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

_EVENT: Final = (
    "name",
    "currency",
    "locale",
    "timezone",
    "sale_max_in_cents",
    "reply_timeout_ms",
    "staff_session_s",
    "cash_out",
    "adjustment_limit_in_cents",
)


def first_documents(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """Every event as the document that would make it so, by revision 0004's tables."""
    return {
        row["event_id"]: _document(connection, row) for row in _rows(connection, "events", None)
    }


def _document(connection: sa.Connection, event: dict[str, Any]) -> dict[str, Any]:
    event_id = event["event_id"]
    products = _rows(connection, "products", event_id)
    return {name: event[name] for name in _EVENT} | {
        "starts_at": _text(event["starts_at"]),
        "ends_at": _text(event["ends_at"]),
        "offline": event["offline_rules"] or {},
        "top_up": {
            "min_in_cents": event["top_up_min_in_cents"],
            "max_in_cents": event["top_up_max_in_cents"],
        },
        "refunds": {
            "window_s": event["refund_window_s"],
            "staff_limit_in_cents": event["refund_staff_limit_in_cents"],
            "deadline": _text(event["refund_deadline"]),
        },
        "ticket_types": [
            {
                "id": row["ticket_type_id"],
                "on_sale_from": _text(row["on_sale_from"]),
                "on_sale_until": _text(row["on_sale_until"]),
                **_picked(row, "name", "price_in_cents", "stock", "per_order_max"),
            }
            for row in _rows(connection, "ticket_types", event_id)
        ],
        "stalls": [
            {
                "id": stall["stall_id"],
                "name": stall["name"],
                "products": [
                    _picked(row, "number", "name", "price_in_cents")
                    for row in products
                    if row["stall_id"] == stall["stall_id"]
                ],
            }
            for stall in _rows(connection, "stalls", event_id)
        ],
        "staff": _staff(connection, event_id),
    }


def _staff(connection: sa.Connection, event_id: str) -> list[dict[str, Any]]:
    named = {row["staff_id"]: row for row in _rows(connection, "staff", None)}
    members: dict[str, dict[str, Any]] = {}
    for row in _rows(connection, "staff_assignments", event_id):
        member = members.setdefault(
            row["staff_id"],
            {
                "id": row["staff_id"],
                **_picked(named[row["staff_id"]], "name", "initials"),
                "stalls": [],
                "is_supervisor": bool(row["is_supervisor"]),
            },
        )
        member["stalls"].append(row["stall_id"])
    for member in members.values():
        if None in member["stalls"]:
            member["stalls"] = None
    return [members[staff_id] for staff_id in sorted(members)]


def _rows(connection: sa.Connection, name: str, event_id: str | None) -> list[dict[str, Any]]:
    """As the database has them now, and not as some later code describes them; in key order."""
    table = sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
    wanted = sa.select(table).order_by(*table.primary_key.columns)
    if event_id is not None:
        wanted = wanted.where(table.c.event_id == event_id)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def _picked(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _text(at: datetime | None) -> str | None:
    """SQLite keeps no zone: what stands there is UTC."""
    if at is None:
        return None
    utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return utc.isoformat().replace("+00:00", "Z")
