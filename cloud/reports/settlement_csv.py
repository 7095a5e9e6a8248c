"""A settlement as CSV: one line a stall, product, hour or other part, each saying which it is."""

from collections.abc import Iterator
from typing import Final

from cloud.reports.comma_separated import Cell, csv_rows, defused
from cloud.reports.settlement import EventSettlement, Figures, StallSettlement

_COLUMNS: Final = (
    *("part", "event_id", "stall_id", "name", "product", "unit_price_in_cents", "hour"),
    *("quantity", "sales_in_cents", "refunds_in_cents", "adjustments_in_cents"),
    *("net_in_cents", "offline_in_cents", "currency"),
)


def settlement_csv(settlement: EventSettlement, stall: StallSettlement | None = None) -> bytes:
    """The whole event, or one stall of it.

    Only lines of the same `part` may be added up: an hour's sales are its products' sales too.
    """
    if stall is not None:
        return csv_rows([_COLUMNS, *_stall(settlement, stall)])
    rows = [row for each in settlement.stalls for row in _stall(settlement, each)]
    return csv_rows([_COLUMNS, *rows, *_event(settlement)])


def _stall(settlement: EventSettlement, stall: StallSettlement) -> Iterator[tuple[Cell, ...]]:
    at: dict[str, Cell] = {"stall_id": stall.stall_id}
    yield _line(settlement, "stall", {**at, "name": stall.name} | _cells(stall.figures))
    for each in stall.products:
        yield _line(
            settlement,
            "product",
            {
                **at,
                "name": each.name,
                "product": each.number,
                "unit_price_in_cents": each.unit_price_in_cents,
                "quantity": each.quantity - each.quantity_given_back,
                "sales_in_cents": each.sales_in_cents,
                "refunds_in_cents": each.given_back_in_cents,
                "net_in_cents": each.sales_in_cents - each.given_back_in_cents,
            },
        )
    if stall.partial_refunds_in_cents:
        cents = stall.partial_refunds_in_cents
        refunds = {"refunds_in_cents": cents, "net_in_cents": -cents}
        yield _line(settlement, "partial_refunds", {**at, **refunds})
    for hour in stall.hours:
        begins_at = hour.begins_at.isoformat()
        yield _line(settlement, "hour", {**at, "hour": begins_at} | _cells(hour.figures))


def _event(settlement: EventSettlement) -> Iterator[tuple[Cell, ...]]:
    yield _line(settlement, "all_stalls", _cells(settlement.all_stalls))
    tickets = settlement.tickets
    yield _line(settlement, "tickets_by_credits", _cells(tickets.credits))
    yield _line(
        settlement,
        "tickets_by_card",
        {"quantity": tickets.paid_orders, "net_in_cents": tickets.card_in_cents},
    )
    for other in settlement.others:
        said: dict[str, Cell] = {"quantity": other.rows, "net_in_cents": other.in_cents}
        yield _line(settlement, f"other_{other.type.value.lower()}", said)
    yield _line(settlement, "ledger", {"net_in_cents": settlement.ledger_in_cents})


def _cells(figures: Figures) -> dict[str, Cell]:
    return {
        "quantity": figures.sales,
        "sales_in_cents": figures.sales_in_cents,
        "refunds_in_cents": figures.refunds_in_cents,
        "adjustments_in_cents": figures.adjustments_in_cents,
        "net_in_cents": figures.net_in_cents,
        "offline_in_cents": figures.offline_in_cents,
    }


def _line(settlement: EventSettlement, part: str, said: dict[str, Cell]) -> tuple[Cell, ...]:
    row = {"part": part, "event_id": settlement.event_id, "currency": settlement.currency} | said
    cells = (row.get(name) for name in _COLUMNS)
    return tuple(defused(cell) if isinstance(cell, str) else cell for cell in cells)
