"""A database of an earlier release, with something in it, is brought to this one's tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text
from uuid_utils.compat import uuid7

import cloud.store
from cloud.ledger.deny_list import NEVER_BEGUN, page, serial_held
from cloud.store.database import Database, migrate
from cloud.store.deny_list import keep_denied, read_denied_changes, read_list_states
from cloud.store.tables import denied_wallets, deny_lists, devices
from protocol.ids import UserId

AT = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)


@pytest.fixture
def earlier(database_url: str) -> Iterator[Database]:
    """Laid out by the release before deny lists."""
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(cloud.store.__file__).parent / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    yield database
    database.close()


def test_wallets_that_were_frozen_before_deny_lists_are_the_first_on_them(
    earlier: Database,
) -> None:
    guests = {
        name: (uuid7(), f"payer-of-{name}{'0' * (13 - len(name))}")
        for name in ("ana", "ben", "cem")
    }
    with earlier.engine.begin() as connection:
        for user_id, payer_id in guests.values():
            connection.execute(
                text("INSERT INTO users (user_id, payer_id, created_at) VALUES (:u, :p, :at)"),
                {"u": _stored(earlier, user_id), "p": payer_id, "at": AT},
            )
        for name, currency, is_frozen in (
            ("ana", "EUR", True),
            ("ben", "EUR", False),
            ("cem", "EUR", True),
            ("ana", "JPY", True),
            ("ben", "USD", False),
        ):
            connection.execute(
                text(
                    "INSERT INTO credit_wallets"
                    " (user_id, currency, balance_in_cents, offline_frozen, updated_at)"
                    " VALUES (:u, :c, -100, :f, :at)"
                ),
                {
                    "u": _stored(earlier, guests[name][0]),
                    "c": currency,
                    "f": is_frozen,
                    "at": AT,
                },
            )
        connection.execute(
            text(
                "INSERT INTO devices (device_id, journal_epoch, journal_last,"
                " journal_settled_below, journal_head, created_at)"
                " VALUES ('till-1', 'epoch-0000000000', 9, 9, :head, :at)"
            ),
            {"head": "A" * 43, "at": AT},
        )

    migrate(str(earlier.url.render_as_string(hide_password=False)))

    earlier.check_migrated()
    with earlier.transaction() as connection:
        states = read_list_states(connection)
        assert {currency: state.serial for currency, state in states.items()} == {
            "EUR": 2,
            "JPY": 1,
        }
        assert all(state.version != NEVER_BEGUN for state in states.values())
        told = {
            currency: page(state, 0, read_denied_changes(connection, currency, state, 0))
            for currency, state in states.items()
        }
        assert set(told["EUR"].added) == {guests["ana"][1], guests["cem"][1]}
        assert told["JPY"].added == (guests["ana"][1],)
        assert all(each.is_whole and not each.more for each in told.values())
        device = connection.execute(select(devices)).one()
        assert (device.quarantined_at, device.releases, device.journal_anew) == (None, 0, False)
        # The list goes on from there: who is told the next change misses none.
        keep_denied(connection, {(UserId(str(guests["ana"][0])), "EUR"): False})
        state = read_list_states(connection)["EUR"]
        held = serial_held(state, told["EUR"].version)
        after = page(state, held, read_denied_changes(connection, "EUR", state, held))
        assert (after.added, after.removed) == ((), (guests["ana"][1],))


def test_a_database_without_a_frozen_wallet_begins_no_list(earlier: Database) -> None:
    migrate(str(earlier.url.render_as_string(hide_password=False)))
    with earlier.reading() as connection:
        assert connection.execute(select(deny_lists)).all() == []
        assert connection.execute(select(denied_wallets)).all() == []


def _stored(database: Database, user_id: UUID) -> UUID | str:
    """As each kind of database keeps it."""
    return user_id if database.dialect == "postgresql" else user_id.hex
