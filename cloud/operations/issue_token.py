"""The attendee's QR, signed afresh each time; writes nothing, so that no crowd can wear it out."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from cloud.keys import KeyRing
from cloud.operations.refusals import Code, Refusal
from cloud.operations.sign_in_attendee import Attendee
from cloud.store.database import Database
from cloud.store.tables import cash_outs, credit_wallets, events
from protocol.encoding import to_base64url
from protocol.ids import EventId
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


def issue_token(
    database: Database, keys: KeyRing, attendee: Attendee, event_id: EventId, now: datetime
) -> PublishedQr | Refusal:
    """A QR for one event, good for 90 s and for one sale."""
    with database.reading() as connection:
        event = connection.execute(
            select(events).where(events.c.event_id == event_id)
        ).one_or_none()
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
        allowance = _offline_allowance(connection, attendee, event)
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


def _offline_allowance(connection: Connection, attendee: Attendee, event: Row[Any]) -> int:
    rules = event.offline_rules
    if not (rules and rules.get("allowed", False)):
        return 0
    # A cash-out waits until what QRs allowed is known: from then on they allow nothing more.
    leaves = (
        select(cash_outs.c.cash_out_id)
        .where(
            cash_outs.c.user_id == attendee.row_id,
            cash_outs.c.currency == event.currency,
            cash_outs.c.state.in_(("waiting", "posted")),
        )
        .exists()
    )
    wallet = connection.execute(
        select(
            credit_wallets.c.balance_in_cents,
            credit_wallets.c.offline_frozen,
            leaves.label("leaves"),
        ).where(
            credit_wallets.c.user_id == attendee.row_id,
            credit_wallets.c.currency == event.currency,
        )
    ).one_or_none()
    if wallet is None or wallet.offline_frozen or wallet.leaves or wallet.balance_in_cents <= 0:
        return 0
    return min(OFFLINE_ALLOWANCE_MAX_IN_CENTS, wallet.balance_in_cents // _OFFLINE_SHARE)
