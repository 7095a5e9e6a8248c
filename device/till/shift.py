"""A shift in the till's own figures: for when the cloud's cannot be had."""

from dataclasses import dataclass, replace
from enum import StrEnum

from device.till.entries import SaleOpened
from protocol.messages import Approved


class OwnWord(StrEnum):
    """What an appliance can say of itself without the cloud."""

    LAST_RECEIPT = "last_receipt"
    SHIFT = "shift"


@dataclass(frozen=True)
class Sold:
    """So many of one product in this shift, as its price list named it."""

    product: int
    name: str
    quantity: int
    total_in_cents: int


@dataclass(frozen=True)
class Shift:
    """What this appliance sold and gave back since somebody signed in."""

    sales: int = 0
    sales_in_cents: int = 0
    offline: int = 0
    """How many of the sales were taken offline."""
    offline_in_cents: int = 0
    refunds: int = 0
    refunds_in_cents: int = 0
    products: tuple[Sold, ...] = ()

    @property
    def net_in_cents(self) -> int:
        return self.sales_in_cents - self.refunds_in_cents

    def sold(self, sale: SaleOpened, *, offline: bool = False) -> "Shift":
        return self._counting(sale, 1, offline=offline)

    def unsold(self, sale: SaleOpened, *, offline: bool = False) -> "Shift":
        """It was paid, and then staff said that nothing was handed over."""
        return self._counting(sale, -1, offline=offline)

    def gave_back(self, cents: int) -> "Shift":
        return replace(
            self, refunds=self.refunds + 1, refunds_in_cents=self.refunds_in_cents + cents
        )

    def _counting(self, sale: SaleOpened, sign: int, *, offline: bool) -> "Shift":
        cents = sign * sale.amount.amount_in_cents
        products = {each.product: each for each in self.products}
        for line in sale.lines:
            before = products.get(line.product, Sold(line.product, line.name, 0, 0))
            products[line.product] = replace(
                before,
                quantity=before.quantity + sign * line.quantity,
                total_in_cents=before.total_in_cents
                + sign * line.quantity * line.unit_price_in_cents,
            )
        return replace(
            self,
            sales=self.sales + sign,
            sales_in_cents=self.sales_in_cents + cents,
            offline=self.offline + sign * offline,
            offline_in_cents=self.offline_in_cents + cents * offline,
            products=tuple(
                products[number] for number in sorted(products) if products[number].quantity
            ),
        )


@dataclass(frozen=True)
class LastSale:
    """The newest sale of this appliance, for its receipt's copy; `approval` is None where it was
    taken offline."""

    sale: SaleOpened
    approval: Approved | None
    at_ms: int
    left_in_cents: int
    """What of it was not given back, as far as this appliance knows."""

    def after_refund(self, cents: int) -> "LastSale":
        return replace(self, left_in_cents=max(0, self.left_in_cents - cents))


def last_sale_of(sale: SaleOpened, approval: Approved | None, at_ms: int) -> LastSale:
    return LastSale(sale, approval, at_ms, sale.amount.amount_in_cents)
