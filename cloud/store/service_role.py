"""What the service's own PostgreSQL role may do: nothing that it does not need.

The tables belong to whoever migrates. The service inserts into the append-only ones and reads them;
it can neither change, delete nor truncate there, nor drop a trigger, nor become the owner.
"""

import re
from typing import Final

from sqlalchemy import Connection, text

from cloud.store.append_only import APPEND_ONLY
from cloud.store.tables import metadata

ALL_APPEND_ONLY: Final = (*APPEND_ONLY, "audit_leaves", "audit_checkpoints", "audit_epochs")
_ROLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class RoleRefusedError(ValueError):
    """A role that would make the rights pointless, or that cannot be granted anything."""


def grant_service_role(connection: Connection, role: str) -> None:
    """Give `role` what it needs and take everything else away; harmless when repeated.

    Raises RoleRefusedError for a role that does not exist, is a superuser, or owns the tables.
    """
    if connection.dialect.name != "postgresql":
        raise RoleRefusedError("only PostgreSQL has roles")
    if _ROLE.fullmatch(role) is None:
        raise RoleRefusedError("a role's name has lower-case letters, digits and _")
    found = connection.execute(
        text("SELECT rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = :role"),
        {"role": role},
    ).one_or_none()
    if found is None:
        raise RoleRefusedError(f"there is no role {role}: CREATE ROLE {role} LOGIN ...")
    if found.rolsuper or found.rolcreaterole:
        raise RoleRefusedError(f"{role} is a superuser or makes roles: no right binds it")
    owner = connection.execute(text("SELECT current_user")).scalar_one()
    if connection.execute(
        text("SELECT pg_has_role(:role, :owner, 'MEMBER')"), {"role": role, "owner": owner}
    ).scalar_one():
        raise RoleRefusedError(f"{role} owns the tables, or is a member of {owner} who does")
    for statement in _statements(role):
        connection.execute(text(statement))


def _statements(role: str) -> list[str]:
    # Every name is our own or matched `_ROLE`.
    tables = sorted(metadata.tables)
    changing = [name for name in tables if name not in ALL_APPEND_ONLY]
    listed, appended = ", ".join(changing), ", ".join(ALL_APPEND_ONLY)
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"REVOKE ALL ON SCHEMA public FROM {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {listed} TO {role}",
        f"GRANT SELECT, INSERT ON {appended} TO {role}",
        f"GRANT SELECT ON alembic_version TO {role}",
    ]
