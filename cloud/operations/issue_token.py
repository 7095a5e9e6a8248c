"""The attendee's QR, signed afresh each time; writes nothing, so that no crowd can wear it out."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Executable, Integer, String, Uuid, exists, literal_column, select
from sqlalchemy.sql.selectable import FromClause

from cloud.keys import KeyRing
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.rows import BatchStatement
from cloud.store.tables import cash_outs, credit_wallets, events
from protocol.encoding import to_base64url
from protocol.ids import EventId, is_slug
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
    # What is no id at all is not asked for: a database may choke on it, and others wait too.
    wanted = [
        (asker, attendee.user_id, event_id)
        for asker, (attendee, event_id) in enumerate(asked)
        if is_slug(event_id)
    ]
    with database.reading() as connection:
        found = {row.asker: row for row in _FACTS.run(connection, wanted)}

    return [
        _refusal(event_id, row, now) or _publish(keys, attendee, event_id, _allowance(row), now)
        for asker, (attendee, event_id) in enumerate(asked)
        for row in [found.get(asker)]
    ]


def _refusal(event_id: EventId, row: Any | None, now: datetime) -> Refusal | None:
    if row is None:
        return Refusal(
            Code.EVENT_UNKNOWN,
            f"There is no event {event_id!r}.",
            "Choose one of the events in GET /v1/wallet.",
        )
    if row.ends_at is not None and row.ends_at <= now:
        return Refusal(
            Code.EVENT_CLOSED, f"{row.name} is over.", "Your Credits stay in your wallet."
        )
    return None


def _allowance(row: Any) -> int:
    """What may be spent offline, in cents."""
    rules = row.offline_rules
    is_allowed = rules and rules.get("allowed", False)
    if not is_allowed or row.offline_frozen or row.leaves or (row.balance_in_cents or 0) <= 0:
        return 0
    return min(OFFLINE_ALLOWANCE_MAX_IN_CENTS, row.balance_in_cents // _OFFLINE_SHARE)


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


_UNDER_WAY: Final = [
    literal_column("'waiting'", type_=String()),
    literal_column("'posted'", type_=String()),
]
"""Of a cash-out; in the statement's text, which is compiled before anything is bound."""


def _select_facts(wanted: FromClause) -> Executable:
    """The event, and the wallet in its currency where there is one.

    `leaves`: a cash-out waits until what QRs allowed is known, so from when it is asked for they
    allow nothing more.
    """
    leaves = exists().where(
        cash_outs.c.user_id == credit_wallets.c.user_id,
        cash_outs.c.currency == credit_wallets.c.currency,
        cash_outs.c.state.in_(_UNDER_WAY),
    )
    return (
        select(
            *(wanted.c.asker, events.c.name, events.c.ends_at, events.c.offline_rules),
            *(credit_wallets.c.balance_in_cents, credit_wallets.c.offline_frozen),
            leaves.label("leaves"),
        )
        .join_from(wanted, events, events.c.event_id == wanted.c.event_id)
        .outerjoin(
            credit_wallets,
            (credit_wallets.c.user_id == wanted.c.user_id)
            & (credit_wallets.c.currency == events.c.currency),
        )
    )


_FACTS: Final = BatchStatement(
    {"asker": Integer(), "user_id": Uuid(), "event_id": String(40)}, _select_facts
)
