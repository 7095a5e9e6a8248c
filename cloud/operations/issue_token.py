"""The attendee's QR, signed afresh each time; writes nothing, so that no crowd can wear it out."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Executable, Integer, String, exists, literal_column, select
from sqlalchemy.sql.selectable import FromClause

from cloud.access.tokens import TokenKind, hash_token, is_of_kind
from cloud.keys import KeyRing
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.rows import BatchStatement, uuid_text
from cloud.store.tables import attendee_sessions, cash_outs, credit_wallets, events, users
from protocol.encoding import to_base64url
from protocol.ids import EventId, PayerId, UserId, is_slug
from protocol.offline_loss import ALLOWANCE_MAX_IN_CENTS, ALLOWANCE_SHARE
from protocol.wallet_qr import WalletToken, issue, to_digits

LIFETIME_S: Final = 90
OFFLINE_ALLOWANCE_MAX_IN_CENTS: Final = ALLOWANCE_MAX_IN_CENTS
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


@dataclass(frozen=True, slots=True)
class Payer:
    """Whoever asks for a QR, and what stands of the event and of their wallet there."""

    user_id: UserId
    payer_id: PayerId
    event_name: str | None
    """None: there is no such event."""
    event_ends_at: datetime | None
    offline_allowance_in_cents: int


def find_payers(
    database: Database, asked: Sequence[tuple[str, EventId]], now: datetime
) -> list[Payer | None]:
    """By a session's token and an event's id; None where nobody is signed in."""
    wanted = [
        # What is no id at all is not asked for: a database may choke on it, and others wait too.
        (asker, hash_token(token), event_id if is_slug(event_id) else None)
        for asker, (token, event_id) in enumerate(asked)
        if is_of_kind(token, TokenKind.ATTENDEE_SESSION)
    ]
    with database.reading() as connection:
        found = {
            row.asker: _payer(row)
            for row in _FACTS.run(connection, wanted)
            if row.ended_at is None and row.expires_at > now
        }
    return [found.get(asker) for asker in range(len(asked))]


def issue_token(
    keys: KeyRing, payer: Payer, event_id: EventId, now: datetime
) -> PublishedQr | Refusal:
    """A QR for one event, good for 90 s and for one sale."""
    if payer.event_name is None:
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {event_id!r}.",
            "Choose one of the events in GET /v1/wallet.",
        )
    if payer.event_ends_at is not None and payer.event_ends_at <= now:
        return Refusal(
            Code.EVENT_CLOSED, f"{payer.event_name} is over.", "Your Credits stay in your wallet."
        )
    issued_at = int(now.timestamp())
    token = WalletToken(
        sub=payer.payer_id,
        jti=to_base64url(secrets.token_bytes(_ID_BYTES)),
        nonce=to_base64url(secrets.token_bytes(_ID_BYTES)),
        iat=issued_at,
        exp=issued_at + LIFETIME_S,
        oal=payer.offline_allowance_in_cents,
    )
    key = keys.wallet_for(event_id)
    return PublishedQr(event_id, issue(token, key.private, key.kid), token.exp)


def _payer(row: Any) -> Payer:
    return Payer(
        UserId(uuid_text(row.user_id)),
        PayerId(row.payer_id),
        row.event_name,
        row.event_ends_at,
        _allowance(row),
    )


def _allowance(row: Any) -> int:
    """What may be spent offline."""
    rules = row.offline_rules
    is_allowed = rules and rules.get("allowed", False)
    if not is_allowed or row.offline_frozen or row.leaves or (row.balance_in_cents or 0) <= 0:
        return 0
    return min(OFFLINE_ALLOWANCE_MAX_IN_CENTS, row.balance_in_cents // ALLOWANCE_SHARE)


_UNDER_WAY: Final = [
    literal_column("'waiting'", type_=String()),
    literal_column("'posted'", type_=String()),
]
"""Of a cash-out; in the statement's text, which is compiled before anything is bound."""


def _select_facts(wanted: FromClause) -> Executable:
    """The session and whose it is; the event, and the wallet in its currency, where they are.

    `leaves`: a cash-out waits until what QRs allowed is known, so from when it is asked for they
    allow nothing more.
    """
    leaves = exists().where(
        cash_outs.c.user_id == credit_wallets.c.user_id,
        cash_outs.c.currency == credit_wallets.c.currency,
        cash_outs.c.state.in_(_UNDER_WAY),
    )
    session = attendee_sessions.c
    return (
        select(
            *(wanted.c.asker, session.ended_at, session.expires_at),
            *(users.c.user_id, users.c.payer_id),
            events.c.name.label("event_name"),
            events.c.ends_at.label("event_ends_at"),
            events.c.offline_rules,
            *(credit_wallets.c.balance_in_cents, credit_wallets.c.offline_frozen),
            leaves.label("leaves"),
        )
        .join_from(wanted, attendee_sessions, session.hash == wanted.c.hash)
        .join(users, users.c.user_id == session.user_id)
        .outerjoin(events, events.c.event_id == wanted.c.event_id)
        .outerjoin(
            credit_wallets,
            (credit_wallets.c.user_id == session.user_id)
            & (credit_wallets.c.currency == events.c.currency),
        )
    )


_FACTS: Final = BatchStatement(
    {"asker": Integer(), "hash": String(), "event_id": String()}, _select_facts
)
