"""Events that were there before versions were kept get their first one from the tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, Table, select
from uuid_utils.compat import uuid7

import cloud.store
from cloud.operations.event.event_document import EventDocument
from cloud.operations.event.read_event import read_event
from cloud.store.database import Database, migrate
from cloud.store.tables import event_versions
from protocol.ids import EventId

AT = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)
FAIR = {"event_id": "fair"}


@pytest.fixture
def earlier(database_url: str) -> Iterator[Database]:
    """Laid out by the release before, with an event."""
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(cloud.store.__file__).parent / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    yield database
    database.close()


def test_an_event_of_before_has_a_first_version_that_says_what_its_tables_say(
    earlier: Database,
) -> None:
    _insert(
        earlier,
        "events",
        FAIR
        | {
            "name": "Fair",
            "currency": "EUR",
            "offline_rules": {"allowed": True, "sale_max_in_cents": 700},
            "starts_at": AT,
            "created_at": AT,
        },
    )
    for stall in ("bar", "grill"):
        _insert(earlier, "stalls", FAIR | {"stall_id": stall, "name": stall.title()})
    product = FAIR | {"stall_id": "bar", "number": 1, "name": "Lager", "price_in_cents": 450}
    _insert(earlier, "products", product)
    kind = {"ticket_type_id": "day", "name": "Day", "price_in_cents": 900, "stock": 5}
    _insert(earlier, "ticket_types", FAIR | kind | {"per_order_max": 4, "on_sale_until": AT})
    for name, places in (("ada", (None,)), ("bo", ("bar", "grill"))):
        _insert(
            earlier,
            "staff",
            {"staff_id": name, "name": name, "initials": name[0], "created_at": AT},
        )
        for place in places:
            where = FAIR | {"staff_id": name, "stall_id": place, "assignment_id": uuid7()}
            _insert(earlier, "staff_assignments", where)
    migrate(str(earlier.url.render_as_string(hide_password=False)))
    with earlier.reading() as connection:
        [row] = connection.execute(select(event_versions))
        current = read_event(connection, EventId("fair"))
    assert (row.event_id, row.version, row.applied_by) == ("fair", 1, None)
    assert EventDocument.model_validate(row.document).in_order() == current
    assert current is not None
    assert (current.ticket_types[0].stock, current.staff[1].stalls) == (5, ("bar", "grill"))


def _insert(database: Database, name: str, row: dict[str, Any]) -> None:
    with database.transaction() as connection:
        table = Table(name, MetaData(), autoload_with=connection)
        columns = {column.name: column for column in table.columns}
        if database.dialect == "sqlite":
            # As the programs write it there: an id without hyphens, a moment without its zone.
            row = {
                key: value.hex
                if key == "assignment_id"
                else value.replace(tzinfo=None)
                if isinstance(value, datetime)
                else value
                for key, value in row.items()
            }
        assert set(row) <= set(columns)
        connection.execute(table.insert().values(**row))
