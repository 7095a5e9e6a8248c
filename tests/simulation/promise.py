"""The promise, checked exactly: the light's word on each sale against the ledger's rows."""

from collections import Counter, defaultdict

from cloud.ledger.postings import Posting, TransactionType
from device.till.entries import (
    MessageClosed,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
)
from protocol import receipt_qr
from protocol.messages import Approved, SaleName
from tests.simulation.appliance import Appliance
from tests.simulation.identities import CURRENCY
from tests.simulation.witness import SaleKey, Seen, Word
from tests.simulation.world import World


def check_promise(world: World) -> None:
    """Raises PromiseBrokenError."""
    postings: dict[SaleKey, list[Posting]] = defaultdict(list)
    for each in world.cloud.store.ledger:
        posting = each.posting
        if posting.device_id is not None:
            postings[posting.device_id, posting.idempotency_key].append(posting)
    journaled = _paid_by_journals(world)
    listed = _left_to_people(world)
    for sale_key, seen in world.witness.sales.items():
        is_deducted = _check_sale(world, sale_key, seen, postings.pop(sale_key, []))
        if is_deducted is None and sale_key not in listed:
            raise world.history.broken("green, and not deducted", *sale_key)
        if is_deducted is not None and is_deducted != (sale_key in journaled):
            raise world.history.broken("the journal disagrees with the ledger", *sale_key)
    for sale_key in postings:
        raise world.history.broken("a posting for a sale nobody began", *sale_key)
    _check_postings(world)
    _check_wallets(world)
    _check_settled(world)
    for appliance in world.appliances:
        check_spells(world, appliance)


def was_paid(seen: Seen) -> bool:
    """What the people believe: staff's answer to the slip, else the light; dark is not paid."""
    if seen.kept is not None:
        return seen.kept
    return bool(seen.words) and seen.words[-1] is Word.PAID


def _check_settled(world: World) -> None:
    for each in world.appliances:
        if not each.is_settled:
            till = each.till
            state = "no power" if till is None else f"{till.phase} {till.outbox}"
            raise world.history.broken(f"never settled: {state}", each.device_id)


def _check_sale(
    world: World, sale_key: SaleKey, seen: Seen, postings: list[Posting]
) -> bool | None:
    """Whether, in the end, it is deducted; None: paid, but not deducted so far."""
    broken = world.history.broken
    deducts = [each for each in postings if each.type is TransactionType.DEDUCT]
    refunds = [each for each in postings if each.type is TransactionType.REFUND]
    if len(deducts) > 1:
        raise broken("one key, posted twice", *sale_key)
    if len(refunds) > len(deducts):
        raise broken("paid back more often than deducted", *sale_key)
    if deducts and deducts[0].amount != seen.amount:
        raise broken("another amount than keyed", *sale_key)
    if refunds and (refunds[0].reversal_of, refunds[0].amount) != (deducts[0].id, seen.amount):
        raise broken("a reversal of something else", *sale_key)
    if deducts and not seen.was_asked:
        raise broken("deducted before any QR was seen", *sale_key)
    named = receipt_qr.write(SaleName(*sale_key))
    if any(each != named for each in seen.receipts):
        raise broken("a receipt for another sale", *sale_key)
    is_deducted = bool(deducts) and not refunds
    if is_deducted and not was_paid(seen):
        raise broken("deducted, though no light said so", *sale_key)
    return None if was_paid(seen) and not is_deducted else is_deducted


def _paid_by_journals(world: World) -> set[SaleKey]:
    """The sales that, in the end, the appliances' own journals call paid."""
    approved: set[SaleKey] = set()
    ended: set[SaleKey] = set()
    for appliance in world.appliances:
        for entry in appliance.disk.entries:
            match entry:
                case SaleAnswered(key=key, outcome=Approved()) | SaleAcceptedOffline(key=key):
                    approved.add((appliance.device_id, key))
                case SaleCancelled(key=key) | SaleAbandoned(key=key):
                    ended.add((appliance.device_id, key))
                case _:
                    pass
    return approved - ended


def _left_to_people(world: World) -> set[SaleKey]:
    """Offline sales on the review list: posted or written off, one day, by a person."""
    return {
        (appliance.device_id, entry.key)
        for appliance in world.appliances
        for entry in appliance.disk.entries
        if isinstance(entry, SaleAcceptedOffline)
        and (appliance.device_id, entry.key) in world.cloud.store.reviews
    }


def check_spells(world: World, appliance: Appliance) -> None:
    """What one appliance could lose at most, by its own journal and nothing of the till's."""
    limits = world.offline
    waiting: set[str] = set()
    spent: list[SaleAcceptedOffline] = []
    tokens: set[str] = set()
    for entry in appliance.disk.entries:
        match entry:
            case MessageClosed(key=key) if key in waiting:
                waiting.remove(key)
                spent = spent if waiting else []
            case SaleAnswered(outcome=Approved(token_id=token_id)):
                tokens.add(token_id)
            case SaleAcceptedOffline(key=key, token_id=token_id, payer_id=payer_id):
                waiting.add(key)
                spent.append(entry)
                of_payer = [each for each in spent if each.payer_id == payer_id]
                if token_id in tokens:
                    raise world.history.broken("one code, twice", appliance.device_id, key)
                is_within = (
                    _sum(spent) <= limits.spell_max_in_cents
                    and len(spent) <= limits.spell_sales_max
                    and _sum(of_payer) <= limits.wallet_max_in_cents
                    and len(of_payer) <= limits.wallet_sales_max
                    and entry.amount.amount_in_cents <= limits.sale_max_in_cents
                )
                if not (limits.allowed and is_within):
                    raise world.history.broken("over a limit", appliance.device_id, key)
                tokens.add(token_id)
            case _:
                pass


def _sum(sales: list[SaleAcceptedOffline]) -> int:
    return sum(each.amount.amount_in_cents for each in sales)


def _check_postings(world: World) -> None:
    approvals: Counter[tuple[str, str]] = Counter()
    for each in world.cloud.store.ledger:
        posting = each.posting
        sale_key = (posting.device_id or "", posting.idempotency_key)
        if each.by_revoked:
            raise world.history.broken("posted for a revoked appliance", *sale_key)
        if posting.type is not TransactionType.DEDUCT or posting.accepted_offline_at is not None:
            continue
        assert each.token_id is not None, "no sale without a QR"
        approvals[posting.user_id, each.token_id] += 1
        if approvals[posting.user_id, each.token_id] > 1:
            raise world.history.broken("one QR, two approvals", *sale_key)


def _check_wallets(world: World) -> None:
    """In the order of the commits."""
    sums: Counter[str] = Counter()
    for each in world.cloud.store.ledger:
        posting = each.posting
        sums[posting.user_id] += posting.signed_amount.amount_in_cents
        is_online = posting.type is TransactionType.DEDUCT and posting.accepted_offline_at is None
        if is_online and sums[posting.user_id] < 0:
            raise world.history.broken(
                "an online deduct into debt", posting.device_id or "", posting.idempotency_key
            )
    for (user_id, currency), wallet in world.cloud.store.wallets.items():
        if currency != CURRENCY or wallet.balance.amount_in_cents != sums[user_id]:
            raise world.history.broken(f"{user_id}'s balance is not the sum of the transactions")
