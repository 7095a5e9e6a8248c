"""The first tables."""

from alembic import op

from cloud.store.append_only import triggers
from cloud.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection)
    for statement in triggers(connection.dialect.name):
        op.execute(statement)
