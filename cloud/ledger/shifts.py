"""A shift in figures: what one session sold and gave back, added up."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from protocol.messages import SHIFT_PRODUCTS_MAX, ProductSold, SaleLine, ShiftReport


class Sold(msgspec.Struct, frozen=True):
    """One sale of the session."""

    amount_in_cents: int
    given_back_in_cents: int
    lines: tuple[SaleLine, ...]
    was_offline: bool


def add_up(
    currency: str, since: datetime, sales: Sequence[Sold], refunds_in_cents: Sequence[int]
) -> ShiftReport:
    """`refunds_in_cents`: what was given back at this appliance meanwhile, of any of its stall's
    sales, cancelled ones included."""
    offline = [each.amount_in_cents for each in sales if each.was_offline]
    sold_in_cents = sum(each.amount_in_cents for each in sales)
    return ShiftReport(
        currency=currency,
        since_ms=round(since.timestamp() * 1000),
        sales=len(sales),
        sales_in_cents=sold_in_cents,
        offline=len(offline),
        offline_in_cents=sum(offline),
        refunds=len(refunds_in_cents),
        refunds_in_cents=sum(refunds_in_cents),
        net_in_cents=sold_in_cents - sum(refunds_in_cents),
        products=_by_product(
            line
            for each in sales
            if each.given_back_in_cents < each.amount_in_cents
            for line in each.lines
        ),
    )


def _by_product(lines: Iterable[SaleLine]) -> tuple[ProductSold, ...]:
    sold: dict[int, ProductSold] = {}
    for line in lines:
        before = sold.get(line.product, ProductSold(line.product, 0, 0))
        sold[line.product] = ProductSold(
            line.product,
            before.quantity + line.quantity,
            before.total_in_cents + line.total_in_cents,
        )
    most = sorted(sold.values(), key=lambda each: (-each.total_in_cents, each.product))
    return tuple(sorted(most[:SHIFT_PRODUCTS_MAX], key=lambda each: each.product))
