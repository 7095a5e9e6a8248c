import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cloud.operations.proof.sequence_records import sequence_records
from cloud.store.database import Database, migrate
from cloud.store.service_role import ALL_APPEND_ONLY, RoleRefusedError, grant_service_role
from tests.cloud.floor import Floor

pytestmark = pytest.mark.postgres


@pytest.fixture
def role(postgres_url: str) -> Iterator[str]:
    """A role of its own, as an administrator makes it."""
    name = f"service_{secrets.token_hex(4)}"
    migrate(postgres_url)
    owner = Database(postgres_url)
    with owner.transaction() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        grant_service_role(connection, name)
        grant_service_role(connection, name)
    yield name
    with owner.transaction() as connection:
        connection.execute(text(f"DROP OWNED BY {name}"))
        connection.execute(text(f"DROP ROLE {name}"))
    owner.close()


@pytest.fixture
def service_url(postgres_url: str, role: str) -> str:
    return postgres_url.replace("://railtix@", f"://{role}@")


def test_the_service_sells_and_sequences_with_its_own_role(
    postgres_url: str, service_url: str, tmp_path: Path
) -> None:
    floor = Floor(postgres_url, tmp_path / "keys")
    till, guest = floor.add_till(), floor.add_guest()
    owner = floor.database
    service = Database(service_url)
    floor.database = service
    floor.desk = type(floor.desk)(service, floor.keys, floor.now)
    sale = till.deduct(floor.qr(guest))
    floor.ask(till, sale)
    floor.ask(till, till.cancel(sale), till.heartbeat())
    for _ in range(3):
        sequence_records(service, floor.keys, floor.now(), tmp_path / "checkpoint.jws")
    assert floor.balance(guest) == 2000
    with service.reading() as connection:
        leaves = connection.execute(text("SELECT count(*) FROM audit_leaves")).scalar_one()
    assert leaves == 7
    service.close()
    owner.close()


ON_THE_BOOKS = (
    "UPDATE {table} SET {column} = {column}",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "DROP TRIGGER {table}_append_only ON {table}",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION refuse_change()",
    "DROP TABLE {table} CASCADE",
)
ROUND_THEM = (
    "SET session_replication_role = replica",
    "CREATE TABLE mine (x integer)",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS ''",
    "DROP FUNCTION refuse_change() CASCADE",
    "UPDATE alembic_version SET version_num = '0001'",
    "SET ROLE railtix",
)


def test_the_services_role_may_only_add_to_the_books(service_url: str) -> None:
    service = Database(service_url)
    for table in ALL_APPEND_ONLY:
        column = "id" if table in {"credit_transactions", "audit_records"} else "epoch"
        # PostgreSQL only warns that nothing was granted.
        with service.transaction() as connection:
            connection.execute(text(f"GRANT ALL ON {table} TO CURRENT_USER"))
        for statement in ON_THE_BOOKS:
            refuse(service, statement.format(table=table, column=column))
    service.close()


def test_the_services_role_gets_round_no_rule(service_url: str) -> None:
    service = Database(service_url)
    for statement in ROUND_THEM:
        refuse(service, statement)
    service.close()


def refuse(service: Database, statement: str) -> None:
    with (
        pytest.raises(DBAPIError, match=r"permission denied|must be owner"),
        service.transaction() as connection,
    ):
        connection.execute(text(statement))


def test_a_role_that_no_right_binds_is_refused(postgres_url: str, role: str) -> None:
    database = Database(postgres_url)
    refused = {"railtix": "superuser", "nobody_here": "no role", 'x"; DROP': "lower-case"}
    for name, reason in refused.items():
        with pytest.raises(RoleRefusedError, match=reason), database.transaction() as connection:
            grant_service_role(connection, name)
    with database.transaction() as connection:
        connection.execute(text(f"GRANT railtix TO {role}"))
    with pytest.raises(RoleRefusedError, match="member"), database.transaction() as connection:
        grant_service_role(connection, role)
    database.close()


def test_sqlite_has_no_roles(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    migrate(url)
    database = Database(url)
    with (
        pytest.raises(RoleRefusedError, match="PostgreSQL"),
        database.transaction() as connection,
    ):
        grant_service_role(connection, "service")
    database.close()
