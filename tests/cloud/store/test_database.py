from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from uuid_utils.compat import uuid7

from cloud.ledger.postings import post, purchase
from cloud.store.database import Database, NotMigratedError, migrate
from cloud.store.locks import lock_wallets
from cloud.store.postings import write_postings
from cloud.store.tables import metadata
from protocol.ids import CorrelationId, IdempotencyKey, TransactionId, UserId
from tests.cloud.floor import Floor, Guest, eur


def test_the_migrations_make_the_tables_that_the_code_describes(database_url: str) -> None:
    migrate(database_url)
    migrate(database_url)
    database = Database(database_url)
    database.check_migrated()
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_a_database_without_tables_says_what_to_do(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(NotMigratedError, match="Run `railtix-cloud migrate` once"):
        database.check_migrated()
    database.close()


def test_a_password_in_the_address_is_not_shown() -> None:
    database = Database("postgresql://ana:s3cret@localhost/cloud")
    assert "s3cret" not in repr(database)
    assert "postgresql+psycopg://ana:***@localhost/cloud" in repr(database)


@pytest.mark.parametrize("table", ["credit_transactions", "audit_records"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {table}",
        "UPDATE {table} SET {column} = {column}",
        "TRUNCATE {table}",
        "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    ],
)
def test_what_was_booked_and_what_was_recorded_cannot_be_changed(
    floor: Floor, table: str, statement: str
) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    floor.ask(till, till.deduct(floor.qr(guest)))
    column = "reference" if table == "credit_transactions" else "outcome"
    asked = text(statement.format(table=table, column=column))
    with pytest.raises(DBAPIError), floor.database.transaction() as connection:
        connection.execute(asked)
    assert floor.balance(guest) == 1650
    assert len(floor.audit()) == 1


def test_the_refusal_to_change_says_why(floor: Floor) -> None:
    floor.add_guest()
    with (
        pytest.raises(DBAPIError, match="credit_transactions is append-only"),
        floor.database.transaction() as connection,
    ):
        connection.execute(text("DELETE FROM credit_transactions"))


def test_a_card_payment_is_credited_once_by_the_tables_own_rule(floor: Floor) -> None:
    guest = floor.add_guest(1000)
    credit(floor, guest, "ch_42")
    with pytest.raises(IntegrityError):
        credit(floor, guest, "ch_42")
    assert floor.balance(guest) == 1500


def credit(floor: Floor, guest: Guest, reference: str) -> None:
    posting = purchase(
        transaction_id=TransactionId(str(uuid7())),
        user_id=UserId(guest.user_id),
        amount=eur(500),
        provider_reference=reference,
        idempotency_key=IdempotencyKey("k" * 16),
        correlation_id=CorrelationId("c" * 16),
        at=floor.now(),
        created_by="system:test",
    )
    key = (posting.user_id, "EUR")
    with floor.database.transaction() as connection:
        before = lock_wallets(connection, [key])
        write_postings(
            connection, [posting], before, {key: post(before[key], posting)}, floor.now()
        )


def test_nobody_else_on_the_machine_reads_an_sqlite_database(tmp_path: Path) -> None:
    path = tmp_path / "state" / "cloud.sqlite"
    migrate(f"sqlite:///{path}")
    database = Database(f"sqlite:///{path}")
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    database.close()
    assert modes == dict.fromkeys(("cloud.sqlite", "cloud.sqlite-shm", "cloud.sqlite-wal"), 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_sqlite_keeps_every_commit_through_a_power_cut(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'cloud.sqlite'}"
    migrate(url)
    database = Database(url)
    with database.transaction() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
    }
    database.close()
