"""An attendee asks for unspent Credits back, or thinks better of it: no Credits move yet."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, select, update
from uuid_utils.compat import uuid7

from cloud.ledger.cash_out import WAIT_MAX, CashOutRule, EventRule, Objection, find_objection
from cloud.operations.cash_outs.cash_out_facts import read_holdings
from cloud.operations.cash_outs.read_cash_outs import (
    CashOut,
    CashOutState,
    cash_outs_of,
    find_cash_out,
)
from cloud.operations.once import claim, digest_of, keep
from cloud.operations.people.sign_in_attendee import Attendee
from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import cash_outs, credit_transactions, events
from protocol.ids import IdempotencyKey
from protocol.money import Money

_OPERATION: Final = "cash_out"


class _Kept(msgspec.Struct, frozen=True):
    """What a key was answered with: a cash-out as it began, or a refusal."""

    cash_out: CashOut | None = None
    refusal: Refusal | None = None


_KEPT: Final = msgspec.json.Decoder(_Kept)


def ask_cash_out(
    database: Database,
    attendee: Attendee,
    currency: str,
    asked_in_cents: int | None,
    *,
    key: IdempotencyKey,
    now: datetime,
) -> CashOut | Refusal:
    """A cash-out that waits: from now on no QR carries an offline allowance (None: of all).

    The same key again: the same answer, a refusal too. A courier posts it, when the appliances
    allow; until then the Credits can be spent, and what is left then decides.
    """
    actor = f"user:{attendee.user_id}"
    digest = digest_of(currency, asked_in_cents)
    with database.transaction() as connection:
        known = claim(connection, actor, key, operation=_OPERATION, digest=digest, now=now)
        match known:
            case Refusal():
                return known
            case bytes():
                return _read(known)
            case None:
                pass

        refusal = _refuse(connection, attendee, currency, asked_in_cents, now)
        asked = refusal or _enter(connection, attendee, currency, asked_in_cents, key=key, now=now)

        is_refused = isinstance(asked, Refusal)
        answer = _Kept(refusal=asked) if is_refused else _Kept(cash_out=asked)
        keep(connection, actor, key, msgspec.json.encode(answer), 409 if is_refused else 201)
        row = AuditRow(
            at=now,
            actor=actor,
            action="cash_out",
            outcome=asked.code.value if is_refused else "asked",
            user_id=attendee.user_id,
            subject=str(key) if is_refused else str(asked.id),
            detail={"currency": currency, "asked_in_cents": asked_in_cents},
        )
        write_audit_records(connection, [row])
    return asked


def withdraw_cash_out(
    database: Database, attendee: Attendee, cash_out_id: str, now: datetime
) -> CashOut | Refusal:
    """Nothing is paid out, and QRs carry an allowance again; once it was posted it is too late.

    Withdrawing twice changes nothing.
    """
    found = find_cash_out(database, attendee, cash_out_id)
    if isinstance(found, Refusal):
        return found
    with database.transaction() as connection:
        row = connection.execute(
            select(cash_outs).where(cash_outs.c.cash_out_id == found.id).with_for_update()
        ).one()
        match CashOutState(row.state):
            case CashOutState.WITHDRAWN:
                pass
            case CashOutState.POSTED | CashOutState.PAID | CashOutState.REVERSED:
                return Refusal(
                    Code.CASH_OUT_POSTED,
                    "It is no longer in your wallet: the card provider has been asked.",
                    "Look at GET /v1/wallet/cash-outs/{id} for how far it is.",
                )
            case CashOutState.WAITING:
                _withdraw(connection, attendee, found.id, now)
        stands = connection.execute(
            select(cash_outs).where(cash_outs.c.cash_out_id == found.id)
        ).one()
        return cash_outs_of(connection, [stands])[0]


def _refuse(
    connection: Connection,
    attendee: Attendee,
    currency: str,
    asked_in_cents: int | None,
    now: datetime,
) -> Refusal | None:
    rules = _find_rules(connection, attendee, currency)
    if not rules:
        return Refusal(
            Code.CURRENCY_NOT_SOLD,
            f"No event sells in {currency}.",
            "Use a currency of your balances in GET /v1/wallet.",
        )
    objection = find_objection(rules, now)
    if objection is not None:
        return _objected(objection)
    holdings = read_holdings(connection, attendee.row_id, currency)
    if holdings.is_barred:
        return Refusal(
            Code.WALLET_FROZEN,
            "Your wallet owes something or is frozen.",
            "Please ask the organiser; once that is settled you can ask again.",
        )
    payable = Money(holdings.payable_in_cents, currency)
    if payable.amount_in_cents == 0:
        return Refusal(
            Code.NOTHING_TO_CASH_OUT,
            "Nothing in this wallet came from a card.",
            "Credits from elsewhere can be spent, and not paid out.",
        )
    if asked_in_cents is not None and asked_in_cents > payable.amount_in_cents:
        return Refusal(
            Code.AMOUNT_OUT_OF_RANGE,
            f"{payable} can go back to your cards.",
            "Ask for that or less, or leave the amount out for all of it.",
        )
    return None


def _find_rules(connection: Connection, attendee: Attendee, currency: str) -> list[EventRule]:
    """Of the events where this wallet topped up or paid; of all in the currency where of none."""
    visited = (
        select(credit_transactions.c.event_id)
        .where(
            credit_transactions.c.user_id == attendee.row_id,
            credit_transactions.c.currency == currency,
            credit_transactions.c.event_id.is_not(None),
        )
        .distinct()
    )
    rows = connection.execute(
        select(
            events.c.name,
            events.c.cash_out,
            events.c.ends_at,
            events.c.event_id.in_(visited).label("is_visited"),
        )
        .where(events.c.currency == currency)
        .order_by(events.c.event_id)
    ).all()
    chosen = [row for row in rows if row.is_visited] or rows
    return [EventRule(row.name, CashOutRule(row.cash_out), row.ends_at) for row in chosen]


def _objected(objection: Objection) -> Refusal:
    name = objection.event_name
    if objection.is_final:
        detail, then = f"{name} does not pay Credits out.", "Please ask its organiser."
    elif objection.until is None:
        detail, then = f"{name} pays out after its end.", "Ask again once it is over."
    else:
        detail = f"{name} pays out after its end."
        then = f"Ask again after {objection.until:%Y-%m-%d %H:%M} UTC."
    return Refusal(Code.CASH_OUT_NOT_ALLOWED, detail, then)


def _enter(
    connection: Connection,
    attendee: Attendee,
    currency: str,
    asked_in_cents: int | None,
    *,
    key: IdempotencyKey,
    now: datetime,
) -> CashOut | Refusal:
    row: dict[str, Any] = {
        "cash_out_id": uuid7(),
        "user_id": attendee.row_id,
        "currency": currency,
        "asked_in_cents": asked_in_cents,
        "state": CashOutState.WAITING,
        "idempotency_key": key,
        "created_at": now,
        "waits_until": now + WAIT_MAX,
        "look_at": now,
    }
    # Waits for whoever is asking at this moment: one at a time is open.
    if not insert_if_new(connection, cash_outs, row):
        return Refusal(
            Code.CASH_OUT_OPEN,
            f"A cash-out in {currency} is under way already.",
            "Wait for it, or withdraw it while it waits: GET /v1/wallet/cash-outs.",
        )
    stands = connection.execute(
        select(cash_outs).where(cash_outs.c.cash_out_id == row["cash_out_id"])
    ).one()
    return cash_outs_of(connection, [stands])[0]


def _withdraw(connection: Connection, attendee: Attendee, cash_out_id: UUID, now: datetime) -> None:
    connection.execute(
        update(cash_outs)
        .where(cash_outs.c.cash_out_id == cash_out_id)
        .values(state=CashOutState.WITHDRAWN, ended_because="withdrawn", look_at=None, ended_at=now)
    )
    row = AuditRow(
        at=now,
        actor=f"user:{attendee.user_id}",
        action="cash_out",
        outcome="withdrawn",
        user_id=attendee.user_id,
        subject=str(cash_out_id),
    )
    write_audit_records(connection, [row])


def _read(answer: bytes) -> CashOut | Refusal:
    kept = _KEPT.decode(answer)
    answered = kept.cash_out or kept.refusal
    assert answered is not None, "one of the two was kept"
    return answered
