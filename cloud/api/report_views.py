"""Reports as JSON: settlements and single transactions."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from cloud.reports.settlement import EventSettlement, StallSettlement


class _View(BaseModel):
    """Read from the report's own object; a name that differs is a mistake of ours."""

    model_config = ConfigDict(from_attributes=True)


class LineView(_View):
    product: int
    quantity: int
    unit_price_in_cents: int


class TransactionView(_View):
    """One row of the ledger."""

    id: UUID
    created_at: datetime
    type: Annotated[str, Field(examples=["Purchase", "Deduct", "Refund", "Adjustment"])]
    direction: Annotated[str, Field(examples=["in", "out"])]
    amount_in_cents: int
    signed_amount_in_cents: int
    """What it added to the wallet."""
    currency: str
    event_id: str | None
    event_name: str | None
    stall_id: str | None
    stall_name: str | None
    reference: str
    correlation_id: str
    """One for a customer's purchase, from the keypad to receipts and exports."""
    idempotency_key: str
    reversal_of_transaction_id: UUID | None
    order_id: UUID | None
    device_id: str | None
    staff_id: str | None
    created_by: str
    accepted_offline_at: datetime | None
    lines: list[LineView]
    user_id: UUID | None


class TransactionsPage(BaseModel):
    transactions: list[TransactionView]
    """Newest first."""
    next_cursor: str | None


class FiguresView(_View):
    """`net_in_cents` = sales - refunds + adjustments. Cancels are refunds; offline is a part of
    the sales."""

    sales: int
    sales_in_cents: int
    offline_sales: int
    offline_in_cents: int
    refunds: int
    refunds_in_cents: int
    adjustments: int
    adjustments_in_cents: int
    net_in_cents: int


class ProductView(_View):
    number: int | None
    """None: amounts that staff keyed in."""
    name: str | None
    unit_price_in_cents: int | None
    quantity: int
    sales_in_cents: int
    quantity_given_back: int
    given_back_in_cents: int
    """Of sales given back in whole."""


class HourView(_View):
    begins_at: Annotated[datetime, Field(examples=["2026-06-20T18:00:00+02:00"])]
    """By the clocks at the event."""
    figures: FiguresView


class StallView(_View):
    stall_id: str
    name: str
    figures: FiguresView
    products: list[ProductView]
    partial_refunds_in_cents: int
    """The part of the refunds that stands with no product."""
    hours: list[HourView]


class TicketsView(_View):
    credits: FiguresView
    """Held for open orders too."""
    paid_orders: int
    tickets: int
    card_in_cents: int
    """Paid by card; never in the ledger."""


class OtherView(_View):
    type: str
    rows: int
    in_cents: int
    """Out of wallets; negative for what went in."""


class OtherCurrency(_View):
    currency: str
    in_cents: int


class EventSettlementView(_View):
    event_id: str
    name: str
    currency: str
    timezone: str
    at: datetime
    stalls: list[StallView]
    all_stalls: FiguresView
    tickets: TicketsView
    others: list[OtherView]
    ledger_in_cents: int
    """The sum of all of the above, and of the event's transactions."""
    other_currencies: list[OtherCurrency]
    """In no figure above."""


class StallSettlementView(StallView):
    event_id: str
    event_name: str
    currency: str
    timezone: str
    at: datetime

    @classmethod
    def of(cls, settled: EventSettlement, stall: StallSettlement) -> "StallSettlementView":
        return cls(
            **StallView.model_validate(stall).model_dump(),
            event_id=settled.event_id,
            event_name=settled.name,
            currency=settled.currency,
            timezone=settled.timezone,
            at=settled.at,
        )
