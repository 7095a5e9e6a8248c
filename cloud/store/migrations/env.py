"""Alembic's entry: runs the migrations on the connection that `database.migrate` opened."""

from alembic import context
from sqlalchemy import Connection

from cloud.store.tables import metadata

connection = context.config.attributes["connection"]
assert isinstance(connection, Connection), "migrations run through `database.migrate` alone"
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
