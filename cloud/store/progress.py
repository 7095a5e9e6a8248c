"""How far each appliance came with each version: what its heartbeats say, the newest word of each.

Only of versions that are known here: what an appliance makes up fills no table.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    case,
    exists,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from cloud.store.rows import printable
from cloud.store.tables import UtcTime, bundles, device_updates
from protocol.updates import Progress, UpdateState

_COLUMNS: Final = ("device_id", "version", "state", "percent", "why", "since")
_OUTCOMES: Final = (UpdateState.CONFIRMED, UpdateState.ROLLED_BACK)


def keep_progress(connection: Connection, said: Sequence[tuple[str, Progress, datetime]]) -> None:
    """By appliance, whose lock is held; saying the same again changes nothing.

    Refusing a version that it has tried takes nothing back of what came of it: older firmware
    refuses whatever is older than what it runs.
    """
    rows = [
        {
            "device_id": device_id,
            "version": progress.version,
            "state": progress.state.value,
            "percent": progress.percent,
            "why": printable(progress.why),
            "since": at,
        }
        for device_id, progress, at in said
    ]
    if rows:
        connection.execute(_KEEP[connection.dialect.name], rows)


def _keep(insert: type[postgresql.Insert | sqlite.Insert]) -> postgresql.Insert | sqlite.Insert:
    kinds: dict[str, Any] = dict.fromkeys(_COLUMNS, String())
    kinds |= {"percent": Integer(), "since": UtcTime()}
    said = select(*(bindparam(name, type_=kinds[name]) for name in _COLUMNS)).where(
        exists().where(bundles.c.version == bindparam("version", type_=String()))
    )
    statement = insert(device_updates).from_select(list(_COLUMNS), said)
    new = statement.excluded
    has_state_changed = device_updates.c.state != new.state
    # No `IN`: SQLAlchemy expands none for many rows at once.
    was_tried = or_(*(device_updates.c.state == each.value for each in _OUTCOMES))
    is_late_refusal = and_(new.state == UpdateState.REFUSED.value, was_tried)
    return statement.on_conflict_do_update(
        index_elements=["device_id", "version"],
        set_={
            "state": new.state,
            "percent": new.percent,
            "why": new.why,
            "since": case((has_state_changed, new.since), else_=device_updates.c.since),
        },
        where=and_(
            not_(is_late_refusal),
            or_(
                has_state_changed,
                device_updates.c.percent != new.percent,
                device_updates.c.why != new.why,
            ),
        ),
    )


_KEEP: Final = {
    "postgresql": _keep(postgresql.Insert),
    "sqlite": _keep(sqlite.Insert),
}
