"""Invitations to the console: a link, a password, an authenticator, and then its first code."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from cloud.access.passwords import hash_password
from cloud.access.refusals import PasswordNotAllowed
from cloud.access.sealing import seal, unseal
from cloud.access.second_factor import draw_secret, find_step, provisioning_uri
from cloud.access.tokens import TokenKind, draw_token, hash_token, is_of_kind
from cloud.keys import KeyRing
from cloud.operations.people.console_sessions import ConsoleSession, begin_session, end_sessions_of
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.letters import ConsoleInvitation, post_letter
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import console_links, console_users

LINK_VALID: Final = timedelta(days=3)
_Row = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Invitation:
    """A secret to hand over once: whoever has it becomes this person."""

    user_name: str
    link: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Enrolment:
    user_name: str
    provisioning_uri: str = field(repr=False)
    """What an authenticator reads; it holds the secret and is shown this once."""


def invite(
    connection: Connection, user_name: str, email: str, public_url: str, now: datetime
) -> Invitation:
    """A new link, by letter; links from before are void. What they signed in with until now
    stands until the new one is confirmed.
    """
    token = draw_token(TokenKind.CONSOLE_LINK)
    _void(connection, user_name, now)
    connection.execute(
        insert(console_links).values(
            hash=hash_token(token),
            user_name=user_name,
            created_at=now,
            expires_at=now + LINK_VALID,
        )
    )
    invitation = Invitation(user_name, f"{public_url}/console#enrol={token}", now + LINK_VALID)
    letter = ConsoleInvitation(
        at_ms=int(now.timestamp() * 1000), user_name=user_name, link=invitation.link
    )
    post_letter(connection, email, letter, now)
    return invitation


def enrol(
    database: Database, keys: KeyRing, link_token: str, password: str, now: datetime
) -> Enrolment | Refusal:
    """Choose a password and get an authenticator's secret; nothing counts before `confirm`.

    Asked again with the same link it begins anew, as when the page was closed too early.
    """
    with database.reading() as connection:
        found = _find(connection, link_token, now)
    if isinstance(found, Refusal):
        return found
    hashed = hash_password(password, found.user_name, found.email)
    if isinstance(hashed, PasswordNotAllowed):
        return Refusal(Code.PASSWORD_NOT_ALLOWED, str(hashed), "Choose another one.")

    secret = draw_secret()
    sealed = seal(keys.console, secret, found.user_name)

    with database.transaction() as connection:
        again = _find(connection, link_token, now, holds=True)
        if isinstance(again, Refusal):
            return again
        connection.execute(
            update(console_links)
            .where(console_links.c.hash == hash_token(link_token))
            .values(password_hash=hashed, totp_secret=sealed)
        )
    return Enrolment(found.user_name, provisioning_uri(secret, found.user_name))


def confirm(
    database: Database, keys: KeyRing, link_token: str, totp: str, now: datetime
) -> ConsoleSession | Refusal:
    """The authenticator's first code: from here on both factors count, and whoever was signed in
    by earlier ones is signed out."""
    with database.transaction() as connection:
        found = _find(connection, link_token, now, holds=True)
        if isinstance(found, Refusal):
            return found
        sealed = found.totp_secret
        secret = None if sealed is None else unseal(keys.console, bytes(sealed), found.user_name)
        step = None if secret is None else find_step(secret, totp, now)
        if step is None:
            return _CODE_WRONG
        connection.execute(
            update(console_users)
            .where(console_users.c.user_name == found.user_name)
            .values(password_hash=found.password_hash, totp_secret=sealed, totp_step=step)
        )
        _void(connection, found.user_name, now)
        end_sessions_of(connection, found.user_name, now)
        record = AuditRow(
            at=now,
            actor=f"console:{found.user_name}",
            action="console_enrolled",
            outcome="done",
            subject=f"console:{found.user_name}",
        )
        write_audit_records(connection, [record])
        return begin_session(connection, found.user_name, now)


def void_links(connection: Connection, user_name: str, now: datetime) -> None:
    """No invitation of theirs opens anything any more."""
    _void(connection, user_name, now)


def _void(connection: Connection, user_name: str, now: datetime) -> None:
    connection.execute(
        update(console_links)
        .where(console_links.c.user_name == user_name, console_links.c.used_at.is_(None))
        .values(used_at=now, password_hash=None, totp_secret=None)
    )


def _find(
    connection: Connection, link_token: str, now: datetime, *, holds: bool = False
) -> _Row | Refusal:
    """The link that still opens, and whom it invites; `holds` it until the commit."""
    if not is_of_kind(link_token, TokenKind.CONSOLE_LINK):
        return _LINK_NOT_USABLE
    wanted = (
        select(
            console_links.c.user_name,
            console_links.c.password_hash,
            console_links.c.totp_secret,
            console_users.c.email,
        )
        .join(console_users, console_users.c.user_name == console_links.c.user_name)
        .where(
            console_links.c.hash == hash_token(link_token),
            console_links.c.used_at.is_(None),
            console_links.c.expires_at > now,
            console_users.c.disabled_at.is_(None),
        )
    )
    if holds:
        wanted = wanted.with_for_update()
    return connection.execute(wanted).one_or_none() or _LINK_NOT_USABLE


_LINK_NOT_USABLE: Final = Refusal(
    Code.LINK_NOT_USABLE,
    "This invitation was used already, has expired, or is incomplete.",
    "Ask an admin for a new one.",
)
_CODE_WRONG: Final = Refusal(
    Code.SIGN_IN_REFUSED,
    "This is not the authenticator's code for now.",
    "Enter the next one; check the phone's clock.",
)
