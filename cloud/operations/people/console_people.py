"""Who may use the console, and as what: entered, granted, disabled; nobody grants themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, exists, func, insert, select, update
from uuid_utils.compat import uuid7

from cloud.access.roles import Grant, Role
from cloud.operations.people.console_links import Invitation, invite, void_links
from cloud.operations.people.console_sessions import end_sessions_of, grant_in, subject_of
from cloud.operations.people.one_time_codes import normal
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import console_grants, console_sessions, console_users, events, stalls

_Row = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class HeldGrant:
    grant_id: UUID
    grant: Grant
    granted_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    user_name: str
    email: str
    is_enrolled: bool
    """Whether they took their invitation."""
    disabled_at: datetime | None
    sessions: int
    """How many are open."""
    grants: tuple[HeldGrant, ...]


def add_person(
    database: Database,
    user_name: str,
    email: str,
    grants: Sequence[Grant],
    public_url: str,
    *,
    actor: str,
    now: datetime,
) -> Invitation | Refusal:
    """Enter somebody with what they may do, and post their invitation."""
    if _is_self(actor, user_name):
        return _NOT_ONESELF
    with database.transaction() as connection:
        for grant in grants:
            refusal = _refuse_grant(connection, grant)
            if refusal is not None:
                return refusal
        row = {"user_name": user_name, "email": normal(email), "created_at": now}
        if not insert_if_new(connection, console_users, row):
            return Refusal(
                Code.PERSON_KNOWN,
                "Somebody has this name or this address already.",
                "Choose another name, or grant the role to whom it is.",
            )
        for grant in grants:
            _insert_grant(connection, user_name, grant, actor, now)
        invitation = invite(connection, user_name, normal(email), public_url, now)
        said = [str(grant) for grant in grants]
        _record(connection, "person_added", user_name, actor, now, grants=said)
        return invitation


def list_people(database: Database, now: datetime) -> list[Person]:
    """Everybody, by name."""
    with database.reading() as connection:
        rows = connection.execute(select(console_users).order_by(console_users.c.user_name)).all()
        held: dict[str, list[HeldGrant]] = {}
        for row in connection.execute(
            select(console_grants)
            .where(console_grants.c.ended_at.is_(None))
            .order_by(console_grants.c.created_at, console_grants.c.grant_id)
        ):
            held.setdefault(row.user_name, []).append(_held(row))
        counted = connection.execute(
            select(console_sessions.c.user_name, func.count().label("sessions"))
            .where(console_sessions.c.ended_at.is_(None), console_sessions.c.expires_at > now)
            .group_by(console_sessions.c.user_name)
        )
        open_sessions = {row.user_name: row.sessions for row in counted}
    return [
        Person(
            row.user_name,
            row.email,
            row.password_hash is not None,
            row.disabled_at,
            open_sessions.get(row.user_name, 0),
            tuple(held.get(row.user_name, ())),
        )
        for row in rows
    ]


def grant_role(
    database: Database, user_name: str, grant: Grant, *, actor: str, now: datetime
) -> HeldGrant | Refusal:
    """From the next request on they may; granted twice it is one grant."""
    if _is_self(actor, user_name):
        return _NOT_ONESELF
    with database.transaction() as connection:
        person = _hold(connection, user_name)
        if isinstance(person, Refusal):
            return person
        refusal = _refuse_grant(connection, grant)
        if refusal is not None:
            return refusal
        for row in _open_grants(connection, user_name):
            if grant_in(row) == grant:
                return _held(row)
        grant_id = _insert_grant(connection, user_name, grant, actor, now)
        _record(connection, "role_granted", user_name, actor, now, grant=str(grant))
    return HeldGrant(grant_id, grant, actor, now)


def revoke_grant(
    database: Database, user_name: str, which: UUID | Grant, *, actor: str, now: datetime
) -> Refusal | None:
    """From the next request on they may not. The last admin stays one."""
    with database.transaction() as connection:
        # First of all, and in one order: admins who end each other's grants take turns.
        admins = _hold_admins(connection)
        person = _hold(connection, user_name)
        if isinstance(person, Refusal):
            return person
        found = [
            row
            for row in _open_grants(connection, user_name)
            if which in (row.grant_id, grant_in(row))
        ]
        if not found:
            return Refusal(
                Code.GRANT_UNKNOWN,
                f"{user_name} has no such grant.",
                "Look at what they have in GET /v1/console/people.",
            )
        is_admin = any(grant_in(row) == _ADMIN for row in found)
        if is_admin and admins == {user_name}:
            return _LAST_ADMIN
        connection.execute(
            update(console_grants)
            .where(console_grants.c.grant_id.in_([row.grant_id for row in found]))
            .values(ended_at=now)
        )
        said = [str(grant_in(row)) for row in found]
        _record(connection, "role_revoked", user_name, actor, now, grants=said)
    return None


def disable_person(
    database: Database, user_name: str, *, actor: str, now: datetime
) -> Refusal | None:
    """Ends everything at once: sessions, invitations, and any way to sign in."""
    with database.transaction() as connection:
        admins = _hold_admins(connection)
        person = _hold(connection, user_name)
        if isinstance(person, Refusal):
            return person
        if admins == {user_name}:
            return _LAST_ADMIN
        connection.execute(
            update(console_users)
            .where(console_users.c.user_name == user_name, console_users.c.disabled_at.is_(None))
            .values(disabled_at=now)
        )
        void_links(connection, user_name, now)
        ended = end_sessions_of(connection, user_name, now)
        _record(connection, "person_disabled", user_name, actor, now, sessions=ended)
    return None


def renew_invitation(
    database: Database, user_name: str, public_url: str, *, actor: str, now: datetime
) -> Invitation | Refusal:
    """A new link for somebody who lost the first, their password, or their second factor."""
    with database.transaction() as connection:
        person = _hold(connection, user_name)
        if isinstance(person, Refusal):
            return person
        if person.disabled_at is not None:
            return Refusal(
                Code.PERSON_DISABLED,
                f"{user_name} is disabled, and stays so.",
                "Enter them anew under another name.",
            )
        invitation = invite(connection, user_name, person.email, public_url, now)
        _record(connection, "person_invited", user_name, actor, now)
        return invitation


def end_sessions(database: Database, user_name: str, *, actor: str, now: datetime) -> int | Refusal:
    """Sign somebody out everywhere; how many sessions ended."""
    with database.transaction() as connection:
        person = _hold(connection, user_name)
        if isinstance(person, Refusal):
            return person
        ended = end_sessions_of(connection, user_name, now)
        _record(connection, "sessions_ended", user_name, actor, now, sessions=ended)
        return ended


def refuse_scope(grant: Grant) -> Refusal | None:
    """What a role may be narrowed to: a stall owner has one stall, and nobody else has any."""
    why = None
    if grant.role is Role.STALL_OWNER and (grant.event_id is None or grant.stall_id is None):
        why = "A stall owner is that of one stall at one event."
    elif grant.role is not Role.STALL_OWNER and grant.stall_id is not None:
        why = "Only a stall owner is narrowed to a stall."
    if why is None:
        return None
    return Refusal(Code.GRANT_NOT_ALLOWED, why, "Name the event, and a stall for its owner only.")


def _refuse_grant(connection: Connection, grant: Grant) -> Refusal | None:
    refusal = refuse_scope(grant)
    if refusal is not None or grant.event_id is None:
        return refusal
    event = select(exists().where(events.c.event_id == grant.event_id))
    if not connection.execute(event).scalar_one():
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {grant.event_id!r}.",
            "Apply it first, or correct the name.",
        )
    stall = select(
        exists().where(stalls.c.event_id == grant.event_id, stalls.c.stall_id == grant.stall_id)
    )
    if grant.stall_id is not None and not connection.execute(stall).scalar_one():
        return Refusal(
            Code.STALL_UNKNOWN,
            f"There is no stall {grant.stall_id!r} at event {grant.event_id!r}.",
            "Apply an event that has it, or correct the name.",
        )
    return None


def _hold(connection: Connection, user_name: str) -> _Row | Refusal:
    """Their row, held until the commit."""
    found = select(console_users).where(console_users.c.user_name == user_name).with_for_update()
    return connection.execute(found).one_or_none() or Refusal(
        Code.PERSON_UNKNOWN,
        f"There is nobody called {user_name!r}.",
        "Look at who there is in GET /v1/console/people.",
    )


def _hold_admins(connection: Connection) -> set[str]:
    """Those who can sign in and may do everything, held: there must be one left."""
    admins = (
        select(console_users.c.user_name)
        .where(
            console_users.c.disabled_at.is_(None),
            console_users.c.password_hash.is_not(None),
            exists().where(
                console_grants.c.user_name == console_users.c.user_name,
                console_grants.c.role == Role.ADMIN.value,
                console_grants.c.event_id.is_(None),
                console_grants.c.ended_at.is_(None),
            ),
        )
        .order_by(console_users.c.user_name)
    )
    connection.execute(admins.with_for_update())
    # Read again once held: a grant may have ended while this waited, and its row is another.
    return set(connection.execute(admins).scalars())


def _open_grants(connection: Connection, user_name: str) -> Sequence[_Row]:
    return connection.execute(
        select(console_grants).where(
            console_grants.c.user_name == user_name, console_grants.c.ended_at.is_(None)
        )
    ).all()


def _insert_grant(
    connection: Connection, user_name: str, grant: Grant, actor: str, now: datetime
) -> UUID:
    grant_id = uuid7()
    connection.execute(
        insert(console_grants).values(
            grant_id=grant_id,
            user_name=user_name,
            role=grant.role.value,
            event_id=grant.event_id,
            stall_id=grant.stall_id,
            granted_by=actor,
            created_at=now,
        )
    )
    return grant_id


def _held(row: _Row) -> HeldGrant:
    return HeldGrant(row.grant_id, grant_in(row), row.granted_by, row.created_at)


def _is_self(actor: str, user_name: str) -> bool:
    """By whatever means they ask: a token's holder is the person of that name too."""
    return actor.partition(":")[2] == user_name and not actor.startswith("system:")


def _record(
    connection: Connection,
    action: str,
    user_name: str,
    actor: str,
    now: datetime,
    **detail: Any,
) -> None:
    record = AuditRow(
        at=now,
        actor=actor,
        action=action,
        outcome="done",
        subject=subject_of(user_name),
        detail=detail or None,
    )
    write_audit_records(connection, [record])


_ADMIN: Final = Grant(Role.ADMIN)
_NOT_ONESELF: Final = Refusal(
    Code.NOT_ALLOWED, "Nobody grants themselves anything.", "Ask another admin."
)
_LAST_ADMIN: Final = Refusal(
    Code.LAST_ADMIN,
    "This is the last admin who can sign in.",
    "Let somebody else be admin and sign in first.",
)
