"""Who is connected, as the broker says: written by workers, apart from what sales lock."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from cloud.store.tables import broker_watch, device_presence, devices
from protocol.ids import DeviceId

WATCH_COUNTS_FOR: Final = timedelta(seconds=45)
"""No worker has listened to the broker for longer: nobody knows who is connected."""
_THE_WATCH: Final = 1


def keep_presence(connection: Connection, said: Mapping[DeviceId, bool], now: datetime) -> int:
    """Note whether each appliance is connected; how many that changed.

    Unknown ones are passed over. Saying the same again changes nothing, `since` included.
    """
    before = read_presence(connection)
    changed = {each: said[each] for each in said if before.get(each) is not said[each]}
    if not changed:
        return 0
    known = set(connection.execute(select(devices.c.device_id)).scalars())
    # By name: two workers that write the same never wait for each other in a circle.
    rows = [
        {"device_id": each, "is_online": changed[each], "since": now}
        for each in sorted(known & set(changed))
    ]
    if rows:
        connection.execute(_KEEP[connection.dialect.name], rows)
    return len(rows)


def read_presence(connection: Connection) -> dict[DeviceId, bool]:
    found = connection.execute(select(device_presence.c.device_id, device_presence.c.is_online))
    return {DeviceId(row.device_id): row.is_online for row in found}


def note_watch(connection: Connection, now: datetime) -> None:
    """A worker listens to the broker at this moment."""
    connection.execute(_NOTE[connection.dialect.name], {"watch_id": _THE_WATCH, "heard_at": now})


def read_watch(connection: Connection) -> datetime | None:
    """When a worker last listened to the broker; None: never."""
    return connection.execute(select(broker_watch.c.heard_at)).scalar_one_or_none()


def _keep(insert: type[postgresql.Insert | sqlite.Insert]) -> postgresql.Insert | sqlite.Insert:
    statement = insert(device_presence)
    return statement.on_conflict_do_update(
        index_elements=["device_id"],
        set_={"is_online": statement.excluded.is_online, "since": statement.excluded.since},
        # Another worker may have been told the same.
        where=device_presence.c.is_online.is_distinct_from(statement.excluded.is_online),
    )


def _note(insert: type[postgresql.Insert | sqlite.Insert]) -> postgresql.Insert | sqlite.Insert:
    statement = insert(broker_watch)
    return statement.on_conflict_do_update(
        index_elements=["watch_id"],
        set_={"heard_at": statement.excluded.heard_at},
        # Workers' clocks differ: the newest word stands.
        where=broker_watch.c.heard_at < statement.excluded.heard_at,
    )


_DIALECTS: Final = {"postgresql": postgresql.Insert, "sqlite": sqlite.Insert}
_KEEP: Final = {name: _keep(insert) for name, insert in _DIALECTS.items()}
_NOTE: Final = {name: _note(insert) for name, insert in _DIALECTS.items()}
