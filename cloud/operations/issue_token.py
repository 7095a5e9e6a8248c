"""The attendee's QR, signed afresh each time; writes nothing, so that no crowd can wear it out."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Executable, Row, String, Uuid, exists, literal_column, select
from sqlalchemy.sql.selectable import FromClause

from cloud.keys import KeyRing
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.rows import BatchStatement, uuid_text
from cloud.store.tables import cash_outs, credit_wallets, events
from protocol.encoding import to_base64url
from protocol.ids import EventId, UserId, is_slug
from protocol.wallet_qr import WalletToken, issue, to_digits

LIFETIME_S: Final = 90
OFFLINE_ALLOWANCE_MAX_IN_CENTS: Final = 2000
_OFFLINE_SHARE: Final = 4
"""A quarter of the balance at most may be spent where nobody can look it up (docs/rules.md)."""
_ID_BYTES: Final = 9


@dataclass(frozen=True, slots=True)
class PublishedQr:
    event_id: EventId
    jws: str
    expires_at_s: int

    @property
    def digits(self) -> str:
        """What the phone draws, in the QR's numeric mode."""
        return to_digits(self.jws)


def issue_tokens(
    database: Database,
    keys: KeyRing,
    asked: Sequence[tuple[Attendee, EventId]],
    now: datetime,
) -> list[PublishedQr | Refusal]:
    """For each a QR for one event, good for 90 s and for one sale."""
    with database.reading() as connection:
        found = _find_events(connection, {event_id for _, event_id in asked})
        allowances = _offline_allowances(connection, asked, found)

    return [
        _refusal(event_id, found.get(event_id), now)
        or _publish(keys, attendee, event_id, allowances.get((attendee.user_id, event_id), 0), now)
        for attendee, event_id in asked
    ]


def _refusal(event_id: EventId, event: Row[Any] | None, now: datetime) -> Refusal | None:
    if event is None:
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {event_id!r}.",
            "Choose one of the events in GET /v1/wallet.",
        )
    if event.ends_at is not None and event.ends_at <= now:
        return Refusal(
            Code.EVENT_CLOSED, f"{event.name} is over.", "Your Credits stay in your wallet."
        )
    return None


def _publish(
    keys: KeyRing, attendee: Attendee, event_id: EventId, allowance: int, now: datetime
) -> PublishedQr:
    issued_at = int(now.timestamp())
    token = WalletToken(
        sub=attendee.payer_id,
        jti=to_base64url(secrets.token_bytes(_ID_BYTES)),
        nonce=to_base64url(secrets.token_bytes(_ID_BYTES)),
        iat=issued_at,
        exp=issued_at + LIFETIME_S,
        oal=allowance,
    )
    key = keys.wallet_for(event_id)
    return PublishedQr(event_id, issue(token, key.private, key.kid), token.exp)


def _find_events(connection: Connection, ids: set[EventId]) -> dict[EventId, Row[Any]]:
    # What is no id at all is not asked for: a database may choke on it, and others wait too.
    wanted = [each for each in ids if is_slug(each)]
    if not wanted:
        return {}
    rows = connection.execute(select(events).where(events.c.event_id.in_(wanted)))
    return {EventId(row.event_id): row for row in rows}


def _offline_allowances(
    connection: Connection,
    asked: Sequence[tuple[Attendee, EventId]],
    found: Mapping[EventId, Row[Any]],
) -> dict[tuple[UserId, EventId], int]:
    """What may be spent offline, in cents; nothing where it is not named."""
    currencies = {
        event_id: event.currency
        for event_id, event in found.items()
        if event.offline_rules and event.offline_rules.get("allowed", False)
    }
    wanted = {
        (attendee.user_id, currencies[event_id])
        for attendee, event_id in asked
        if event_id in currencies
    }
    wallets = {
        (uuid_text(row.user_id), row.currency): row
        for row in _WALLETS.run(connection, list(wanted))
        if not row.offline_frozen and row.balance_in_cents > 0
    }
    return {
        (attendee.user_id, event_id): min(
            OFFLINE_ALLOWANCE_MAX_IN_CENTS, wallet.balance_in_cents // _OFFLINE_SHARE
        )
        for attendee, event_id in asked
        if event_id in currencies
        and (wallet := wallets.get((attendee.user_id, currencies[event_id]))) is not None
    }


_UNDER_WAY: Final = [
    literal_column("'waiting'", type_=String()),
    literal_column("'posted'", type_=String()),
]
"""Of a cash-out; in the statement's text, which is compiled before anything is bound."""


def _select_wallets(wanted: FromClause) -> Executable:
    """Those from which nothing leaves: a cash-out waits until what QRs allowed is known, so from
    when it is asked for they allow nothing more."""
    leaves = exists().where(
        cash_outs.c.user_id == credit_wallets.c.user_id,
        cash_outs.c.currency == credit_wallets.c.currency,
        cash_outs.c.state.in_(_UNDER_WAY),
    )
    return (
        select(
            credit_wallets.c.user_id,
            credit_wallets.c.currency,
            credit_wallets.c.balance_in_cents,
            credit_wallets.c.offline_frozen,
        )
        .join(
            wanted,
            (credit_wallets.c.user_id == wanted.c.user_id)
            & (credit_wallets.c.currency == wanted.c.currency),
        )
        .where(~leaves)
    )


_WALLETS: Final = BatchStatement({"user_id": Uuid(), "currency": String(3)}, _select_wallets)
