"""Triggers that refuse to change or delete a transaction or an audit record, in the database."""

from collections.abc import Sequence
from typing import Final

APPEND_ONLY: Final = ("credit_transactions", "audit_records")

_REFUSE: Final = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$
"""


def triggers(dialect: str) -> list[str]:
    """The statements that create them on `dialect` (`sqlite` or `postgresql`)."""
    first = [] if dialect == "sqlite" else [_REFUSE]
    return first + refuse_changes(dialect, APPEND_ONLY)


def refuse_changes(dialect: str, tables: Sequence[str]) -> list[str]:
    """For further tables, once `triggers` has run."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_refuse_{verb} BEFORE {verb.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for table in tables
            for verb in ("update", "delete")
        ]
    return [
        statement
        for table in tables
        for statement in (
            (
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
            ),
            (
                f"CREATE TRIGGER {table}_not_truncated BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            ),
        )
    ]
