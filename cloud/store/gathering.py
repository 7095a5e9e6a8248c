"""Reads a batch's facts, under its locks, in a number of statements that does not grow with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, Executable, String, Uuid, exists, func, select
from sqlalchemy.sql.selectable import FromClause

from cloud.ledger.facts import (
    Appliance,
    CheckedQr,
    DeviceKey,
    EventTerms,
    Facts,
    JournalEntry,
    KeyState,
    KnownKey,
    PostedSale,
    Presented,
    RefundFacts,
    Resending,
    StaffSession,
)
from cloud.ledger.journals import Placed
from cloud.store.approvals import (
    lock_approvals,
    read_refund_terms,
    read_under_review,
    read_waiting,
)
from cloud.store.in_passing import FindWalletKeys, tell_in_passing
from cloud.store.locks import ask_wallets, lock_devices
from cloud.store.remembered import Remembered
from cloud.store.rows import Answer, BatchStatement, as_uuid_text, in_one_go, uuid_text
from cloud.store.tables import (
    credit_transactions,
    device_certificates,
    devices,
    events,
    outcomes,
    review_entries,
    spent_tokens,
    staff_assignments,
    staff_sessions,
)
from protocol.ids import (
    DeviceId,
    EventId,
    IdempotencyKey,
    PayerId,
    SessionId,
    StaffId,
    StallId,
    TokenId,
    TransactionId,
    UserId,
)
from protocol.messages import (
    Cancel,
    Deduct,
    JournalPosition,
    OfflineAcceptance,
    Reason,
    Refund,
    decode_outcome,
)
from protocol.money import Money


def gather_facts(
    connection: Connection,
    remembered: Remembered,
    batch: Sequence[Presented],
    find_wallet_keys: FindWalletKeys = lambda _: (),
) -> Facts:
    """Lock the batch's appliances and wallets, then read what its decisions are made from.

    `find_wallet_keys`: the keys that may sign an event's wallet QRs, now or soon.
    """
    with in_one_go(connection):
        lock_devices(connection, (each.request.device for each in batch))
        asked_places = _ask_places(connection, batch)
        asked_keys = _ask_keys(connection, batch)
        asked_reviews = _ask_reviews(connection, batch)
        asked_entries = _ask_entries(connection, batch)
    places = _take_places(asked_places())
    keys, sales = _take_keys(connection, batch, asked_keys())
    reviews = _take_reviews(asked_reviews())
    policies = remembered.find_policies(
        connection,
        (
            (each.request.device, each.request.policy_version)
            for each in batch
            if isinstance(each.request, Deduct | OfflineAcceptance | Refund)
        ),
    )
    payers = remembered.find_payers(
        connection, (each.qr.token.payer_id for each in batch if isinstance(each.qr, CheckedQr))
    )

    paying = _find_paying(payers, batch, places.events)
    refunds = _gather_refunds(connection, batch)
    reversing = {(sale.user_id, sale.amount.currency) for sale in sales.values()}
    with in_one_go(connection):
        asked_wallets = ask_wallets(
            connection, {(user, currency) for user, currency, _ in paying} | reversing
        )
        # Only now: another door may have spent a QR, or reversed part of a sale, until just before.
        asked_spent = _SPENT.ask(connection, list({(user, jti) for user, _, jti in paying}))
        asked_reversed = _ask_reversed(connection, sales)
    wallets = asked_wallets()
    spent = frozenset((UserId(uuid_text(row.user_id)), TokenId(row.jti)) for row in asked_spent())
    keys.update(_take_what_is_left(keys, sales, asked_reversed()))
    if refunds.terms:
        refunds = replace(refunds, waiting=read_waiting(connection, sales.values()))
    return Facts(
        appliances=places.appliances,
        revoked_certificates=frozenset(places.revoked_certificates),
        keys=keys,
        reviews=reviews,
        sessions=places.sessions,
        events=places.events,
        policies=policies,
        payers=payers,
        wallets=wallets,
        spent=spent,
        refunds=refunds,
        entries=_take_entries(asked_entries()),
        told=tell_in_passing(connection, remembered, find_wallet_keys, batch, places.appliances),
        unused_certificates=frozenset(places.unused_certificates),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one request comes from."""

    appliance: Appliance
    shut_out: Reason | None
    session: StaffSession | None


def gather_place(
    connection: Connection, device_id: DeviceId, thumbprint: str, session_id: str
) -> Place:
    """For a request that runs alone, from an appliance and a certificate that are known."""
    rows = _PLACES.run(connection, [(device_id, thumbprint, as_uuid_text(session_id))])
    places = _take_places(rows)
    appliance = places.appliances[device_id]
    return Place(
        appliance,
        shut_out=appliance.why_shut_out(certificate_revoked=bool(places.revoked_certificates)),
        session=next(iter(places.sessions.values()), None),
    )


def _gather_refunds(connection: Connection, batch: Sequence[Presented]) -> RefundFacts:
    """Before the wallets are locked: an approval's row comes first, wherever both are held."""
    refunds = [each.request for each in batch if isinstance(each.request, Refund)]
    if not refunds:
        return RefundFacts()
    asked = {each.approval_id for each in refunds if each.approval_id is not None}
    return RefundFacts(
        terms=read_refund_terms(connection, {EventId(each.event_id) for each in refunds}),
        approvals=lock_approvals(connection, asked),
        under_review=read_under_review(
            connection, {(each.sale.device, each.sale.idempotency_key) for each in refunds}
        ),
    )


@dataclass(slots=True)
class _Places:
    """The appliances of a batch, their sessions, and the events these belong to."""

    appliances: dict[DeviceId, Appliance] = field(default_factory=dict[DeviceId, Appliance])
    revoked_certificates: set[str] = field(default_factory=set[str])
    unused_certificates: set[str] = field(default_factory=set[str])
    sessions: dict[SessionId, StaffSession] = field(default_factory=dict[SessionId, StaffSession])
    events: dict[EventId, EventTerms] = field(default_factory=dict[EventId, EventTerms])


def _ask_places(connection: Connection, batch: Sequence[Presented]) -> Answer:
    wanted = {
        (
            each.request.device_id,
            each.thumbprint,
            None
            if isinstance(each.request, Cancel) or each.request.session_id is None
            else as_uuid_text(each.request.session_id),
        )
        for each in batch
    }
    return _PLACES.ask(connection, list(wanted))


def _take_places(rows: Sequence[Any]) -> _Places:
    places = _Places()
    for row in rows:
        device_id = DeviceId(row.device_id)
        places.appliances[device_id] = _appliance(row)
        if row.certificate_revoked_at is not None:
            places.revoked_certificates.add(row.thumbprint)
        elif row.certificate_first_used_at is None:
            places.unused_certificates.add(row.thumbprint)
        if row.session_id is not None:
            session = _session(row)
            places.sessions[session.session_id] = session
            places.events[session.event_id] = EventTerms(
                session.event_id, row.currency, row.sale_max_in_cents
            )
    return places


def _appliance(row: Any) -> Appliance:
    journal = None
    if row.journal_epoch is not None:
        journal = JournalPosition(
            row.journal_epoch, row.journal_last, row.journal_settled_below, row.journal_head
        )
    return Appliance(
        device_id=DeviceId(row.device_id),
        revoked=row.status != "active",
        event_id=None if row.event_id is None else EventId(row.event_id),
        stall_id=None if row.stall_id is None else StallId(row.stall_id),
        policy_version=row.policy_version,
        journal=journal,
        resend=None
        if row.resend_for is None
        else Resending(uuid_text(row.resend_for), row.resend_epoch, row.resend_from),
        quarantined=row.quarantined_at is not None,
        releases=row.releases,
        journal_anew=bool(row.journal_anew),
        journal_left=tuple(row.journal_left or ()),
        settled_by=row.journal_settled_by,
    )


def _session(row: Any) -> StaffSession:
    return StaffSession(
        session_id=SessionId(uuid_text(row.session_id)),
        device_id=DeviceId(row.session_device_id),
        staff_id=StaffId(row.staff_id),
        event_id=EventId(row.session_event_id),
        stall_id=StallId(row.session_stall_id),
        expires_at=row.expires_at,
        ended=row.ended_at is not None,
        staff_assigned=bool(row.staff_assigned),
    )


def _ask_keys(connection: Connection, batch: Sequence[Presented]) -> Answer:
    wanted = {
        (each.request.device, each.request.idempotency_key)
        for each in batch
        if isinstance(each.request, Deduct | OfflineAcceptance | Cancel | Refund)
    }
    return _KEYS.ask(connection, list(wanted | _refunded(batch)))


def _refunded(batch: Sequence[Presented]) -> set[DeviceKey]:
    """The sales that the batch's refunds name, which may be another appliance's."""
    return {
        (each.request.sale.device, each.request.sale.idempotency_key)
        for each in batch
        if isinstance(each.request, Refund)
    }


def _take_keys(
    connection: Connection, batch: Sequence[Presented], rows: Sequence[Any]
) -> tuple[dict[DeviceKey, KnownKey], dict[DeviceKey, PostedSale]]:
    """What is known of the batch's keys, and the sales that it may have to reverse."""
    keys: dict[DeviceKey, KnownKey] = {}
    posted: dict[tuple[str, str], DeviceKey] = {}
    for row in rows:
        device_key = (DeviceId(row.device_id), IdempotencyKey(row.key))
        keys[device_key] = KnownKey(
            KeyState(row.state), row.digest, decode_outcome(bytes(row.answer))
        )
        # What a key that sold nothing posted is a refund: that is not given back again.
        if row.transaction_id is not None and row.state != KeyState.ANSWERED:
            posted[uuid_text(row.user_id), uuid_text(row.transaction_id)] = device_key
    reversing = _refunded(batch) | {
        (each.request.device, each.request.idempotency_key)
        for each in batch
        if isinstance(each.request, Cancel)
    }
    wanted = [ids for ids, device_key in posted.items() if device_key in reversing]
    sales: dict[DeviceKey, PostedSale] = {}
    for row in _SALES.run(connection, wanted):
        ids = (uuid_text(row.user_id), uuid_text(row.id))
        sales[posted[ids]] = posted_sale(row)
    return keys, sales


def posted_sale(row: Any) -> PostedSale:
    """A sale's row, with nothing given back of it yet."""
    return PostedSale(
        transaction_id=TransactionId(uuid_text(row.id)),
        user_id=UserId(uuid_text(row.user_id)),
        amount=Money(row.amount_in_cents, row.currency),
        left_in_cents=row.amount_in_cents,
        event_id=None if row.event_id is None else EventId(row.event_id),
        stall_id=None if row.stall_id is None else StallId(row.stall_id),
        staff_id=None if row.staff_id is None else StaffId(row.staff_id),
        sold_at=row.accepted_offline_at or row.created_at,
    )


def _ask_reversed(connection: Connection, sales: dict[DeviceKey, PostedSale]) -> Answer:
    wanted = [(sale.user_id, sale.transaction_id) for sale in sales.values()]
    return _REVERSED.ask(connection, wanted)


def _take_what_is_left(
    keys: dict[DeviceKey, KnownKey], sales: dict[DeviceKey, PostedSale], rows: Sequence[Any]
) -> dict[DeviceKey, KnownKey]:
    """The keys of these sales, with what of each is not reversed yet."""
    reversed_in_cents = {
        uuid_text(row.reversal_of_transaction_id): int(row.reversed_in_cents) for row in rows
    }
    return {
        device_key: replace(
            keys[device_key],
            sale=replace(
                sale,
                left_in_cents=sale.left_in_cents - reversed_in_cents.get(sale.transaction_id, 0),
            ),
        )
        for device_key, sale in sales.items()
    }


def _ask_reviews(connection: Connection, batch: Sequence[Presented]) -> Answer:
    """Only a cancel or an offline acceptance asks whether a person has its key already."""
    wanted = {
        (each.request.device_id, each.request.key)
        for each in batch
        if isinstance(each.request, OfflineAcceptance | Cancel)
    }
    return _REVIEWS.ask(connection, list(wanted))


def _ask_entries(connection: Connection, batch: Sequence[Presented]) -> Answer:
    wanted = {
        (each.request.device_id, each.request.journal.epoch, each.request.entry)
        for each in batch
        if isinstance(each.request, Placed) and each.request.entry > 0
    }
    return _ENTRIES.ask(connection, list(wanted))


def _take_entries(rows: Sequence[Any]) -> dict[JournalEntry, frozenset[IdempotencyKey]]:
    entries: dict[JournalEntry, frozenset[IdempotencyKey]] = {}
    for row in rows:
        # What was noticed before a release has been looked into.
        if row.released_at is None or row.created_at > row.released_at:
            entry = (DeviceId(row.device_id), row.epoch, row.entry)
            keys = entries.get(entry, frozenset())
            entries[entry] = keys | {IdempotencyKey(row.key)}
    return entries


def _take_reviews(rows: Sequence[Any]) -> dict[DeviceKey, str]:
    return {
        (DeviceId(row.device_id), IdempotencyKey(row.key)): uuid_text(row.review_id) for row in rows
    }


def _find_paying(
    payers: Mapping[PayerId, UserId], batch: Sequence[Presented], known: dict[EventId, EventTerms]
) -> set[tuple[UserId, str, TokenId]]:
    """Whose wallets the batch may touch, in which currency, and by which QR."""
    paying: set[tuple[UserId, str, TokenId]] = set()
    for each in batch:
        if not isinstance(each.qr, CheckedQr):
            continue
        event = known.get(each.qr.event_id)
        user_id = payers.get(each.qr.token.payer_id)
        # Without the event there is no session of it either, so nothing will be decided by money.
        if event is not None and user_id is not None:
            paying.add((user_id, event.currency, each.qr.token.token_id))
    return paying


def _select_places(wanted: FromClause) -> Executable:
    assigned = exists().where(
        staff_assignments.c.staff_id == staff_sessions.c.staff_id,
        staff_assignments.c.event_id == staff_sessions.c.event_id,
        func.coalesce(staff_assignments.c.stall_id, staff_sessions.c.stall_id)
        == staff_sessions.c.stall_id,
    )
    return (
        select(
            devices.c.device_id,
            devices.c.status,
            devices.c.event_id,
            devices.c.stall_id,
            devices.c.policy_version,
            devices.c.journal_epoch,
            devices.c.journal_last,
            devices.c.journal_settled_below,
            devices.c.journal_head,
            devices.c.journal_left,
            devices.c.journal_anew,
            devices.c.quarantined_at,
            devices.c.released_at,
            devices.c.releases,
            devices.c.journal_settled_by,
            devices.c.resend_for,
            devices.c.resend_epoch,
            devices.c.resend_from,
            device_certificates.c.thumbprint,
            device_certificates.c.revoked_at.label("certificate_revoked_at"),
            device_certificates.c.first_used_at.label("certificate_first_used_at"),
            staff_sessions.c.session_id,
            staff_sessions.c.device_id.label("session_device_id"),
            staff_sessions.c.staff_id,
            staff_sessions.c.event_id.label("session_event_id"),
            staff_sessions.c.stall_id.label("session_stall_id"),
            staff_sessions.c.expires_at,
            staff_sessions.c.ended_at,
            assigned.label("staff_assigned"),
            events.c.currency,
            events.c.sale_max_in_cents,
        )
        .select_from(wanted)
        .join(devices, devices.c.device_id == wanted.c.device_id)
        .join(device_certificates, device_certificates.c.thumbprint == wanted.c.thumbprint)
        .outerjoin(staff_sessions, staff_sessions.c.session_id == wanted.c.session_id)
        .outerjoin(events, events.c.event_id == staff_sessions.c.event_id)
    )


def _select_keys(wanted: FromClause) -> Executable:
    return select(
        outcomes.c.device_id,
        outcomes.c.key,
        outcomes.c.state,
        outcomes.c.digest,
        outcomes.c.answer,
        outcomes.c.user_id,
        outcomes.c.transaction_id,
    ).join(
        wanted,
        (outcomes.c.device_id == wanted.c.device_id) & (outcomes.c.key == wanted.c.key),
    )


def _select_sales(wanted: FromClause) -> Executable:
    return select(
        credit_transactions.c.user_id,
        credit_transactions.c.id,
        credit_transactions.c.amount_in_cents,
        credit_transactions.c.currency,
        credit_transactions.c.event_id,
        credit_transactions.c.stall_id,
        credit_transactions.c.staff_id,
        credit_transactions.c.created_at,
        credit_transactions.c.accepted_offline_at,
    ).join(
        wanted,
        (credit_transactions.c.user_id == wanted.c.user_id)
        & (credit_transactions.c.id == wanted.c.id),
    )


def _select_reversed(wanted: FromClause) -> Executable:
    return (
        select(
            credit_transactions.c.reversal_of_transaction_id,
            func.sum(credit_transactions.c.amount_in_cents).label("reversed_in_cents"),
        )
        .join(
            wanted,
            (credit_transactions.c.user_id == wanted.c.user_id)
            & (credit_transactions.c.reversal_of_transaction_id == wanted.c.id),
        )
        .group_by(credit_transactions.c.reversal_of_transaction_id)
    )


def _select_reviews(wanted: FromClause) -> Executable:
    return select(
        review_entries.c.device_id, review_entries.c.key, review_entries.c.review_id
    ).join(
        wanted,
        (review_entries.c.device_id == wanted.c.device_id) & (review_entries.c.key == wanted.c.key),
    )


def _select_entries(wanted: FromClause) -> Executable:
    return (
        select(
            outcomes.c.device_id,
            outcomes.c.epoch,
            outcomes.c.entry,
            outcomes.c.key,
            outcomes.c.created_at,
            devices.c.released_at,
        )
        .join(
            wanted,
            (outcomes.c.device_id == wanted.c.device_id)
            & (outcomes.c.epoch == wanted.c.epoch)
            & (outcomes.c.entry == wanted.c.entry),
        )
        .join(devices, devices.c.device_id == outcomes.c.device_id)
    )


def _select_spent(wanted: FromClause) -> Executable:
    return select(spent_tokens.c.user_id, spent_tokens.c.jti).join(
        wanted,
        (spent_tokens.c.user_id == wanted.c.user_id) & (spent_tokens.c.jti == wanted.c.jti),
    )


_DEVICE_KEY: Final = {"device_id": String(), "key": String()}
_TRANSACTION: Final = {"user_id": Uuid(), "id": Uuid()}
_PLACES: Final = BatchStatement(
    {"device_id": String(), "thumbprint": String(), "session_id": Uuid()}, _select_places
)
_KEYS: Final = BatchStatement(_DEVICE_KEY, _select_keys)
_REVIEWS: Final = BatchStatement(_DEVICE_KEY, _select_reviews)
_ENTRIES: Final = BatchStatement(
    {"device_id": String(), "epoch": String(), "entry": BigInteger()}, _select_entries
)
_SALES: Final = BatchStatement(_TRANSACTION, _select_sales)
_REVERSED: Final = BatchStatement(_TRANSACTION, _select_reversed)
_SPENT: Final = BatchStatement({"user_id": Uuid(), "jti": String()}, _select_spent)
