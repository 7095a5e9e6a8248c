"""Forgets used wallet QRs once no upload can name them any more."""

from datetime import datetime

from sqlalchemy import Connection, delete

from cloud.store.tables import spent_tokens


def prune_spent_tokens(connection: Connection, now: datetime) -> int:
    """How many were forgotten. By then each token has been refused for its age for days.

    Reads the whole table: an index on the time would cost every sale (tables.py). Once an hour is
    often enough.
    """
    return connection.execute(delete(spent_tokens).where(spent_tokens.c.expires_at < now)).rowcount
