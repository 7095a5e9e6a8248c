"""An event as one document: what a person writes in a file, checked as a whole."""

from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from protocol.money import is_currency
from protocol.policy import PRODUCTS_MAX

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
_LABEL: Final = r"^[^\x00-\x1f\x7f]+$"
"""No control characters: names are printed, and a printer obeys them."""
Cents = Annotated[int, Field(ge=1, le=100_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OfflineDocument(_Part):
    """What tills may decide alone; off unless `allowed` is set."""

    allowed: bool = False
    sale_max_in_cents: Cents = 1000
    wallet_max_in_cents: Cents = 2000
    wallet_sales_max: Annotated[int, Field(ge=0, le=1000)] = 3
    spell_max_in_cents: Cents = 20_000
    spell_sales_max: Annotated[int, Field(ge=0, le=10_000)] = 50
    sync_age_max_s: Annotated[int, Field(ge=1, le=86_400)] = 120 * 60
    deny_list_age_max_s: Annotated[int, Field(ge=1, le=86_400)] = 60 * 60


class TopUpDocument(_Part):
    """How much may be bought at once."""

    min_in_cents: Cents = 100
    max_in_cents: Cents = 50_000

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.min_in_cents > self.max_in_cents:
            raise ValueError("min_in_cents is above max_in_cents")
        return self


class RefundDocument(_Part):
    """Until when and how much staff give back by themselves; beyond that a supervisor approves."""

    window_s: Annotated[int, Field(ge=0, le=30 * 86_400)] = 30 * 60
    staff_limit_in_cents: Annotated[int, Field(ge=0, le=100_000_000)] = 2000
    deadline: AwareDatetime | None = None
    """Nothing is given back afterwards; left out: two weeks after the event's end."""


class TicketTypeDocument(_Part):
    id: Slug
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_LABEL)]
    price_in_cents: Annotated[int, Field(ge=0, le=100_000_000)]
    stock: Annotated[int, Field(ge=0, le=1_000_000)]
    per_order_max: Annotated[int, Field(ge=1, le=100)] = 10
    on_sale_from: AwareDatetime | None = None
    on_sale_until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _window_is_open_once(self) -> Self:
        opens, closes = self.on_sale_from, self.on_sale_until
        if opens and closes and opens >= closes:
            raise ValueError("on_sale_until is not after on_sale_from")
        return self


class ProductDocument(_Part):
    number: Annotated[int, Field(ge=1, le=9999)]
    """What staff key after A."""
    name: Annotated[str, Field(min_length=1, max_length=40, pattern=_LABEL)]
    price_in_cents: Annotated[int, Field(ge=0, le=100_000_000)]


class StallDocument(_Part):
    id: Slug
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_LABEL)]
    products: Annotated[tuple[ProductDocument, ...], Field(max_length=PRODUCTS_MAX)] = ()

    @model_validator(mode="after")
    def _numbers_differ(self) -> Self:
        _refuse_twins("product number", [product.number for product in self.products])
        return self


class StaffDocument(_Part):
    id: Slug
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_LABEL)]
    initials: Annotated[str, Field(min_length=1, max_length=8, pattern=_LABEL)]
    stalls: Annotated[tuple[Slug, ...], Field(min_length=1)] | None = None
    """Where they may sign in; left out: at every stall of the event."""
    is_supervisor: bool = False
    """Whether they approve refunds that others may not make alone; never their own."""


class EventDocument(_Part):
    """Everything about one event that appliances and staff need."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "Harbour Festival",
                    "currency": "EUR",
                    "locale": "en_IE",
                    "timezone": "Europe/Dublin",
                    "stalls": [
                        {
                            "id": "bar-north",
                            "name": "Bar North",
                            "products": [{"number": 1, "name": "Lager", "price_in_cents": 550}],
                        }
                    ],
                    "staff": [{"id": "mia", "name": "Mia Byrne", "initials": "MB"}],
                }
            ]
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_LABEL)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    locale: Annotated[str, Field(pattern=r"^[a-z]{2,3}(_[A-Z]{2})?$")] = "en_GB"
    timezone: str = "UTC"
    sale_max_in_cents: Cents = 20_000
    reply_timeout_ms: Annotated[int, Field(ge=500, le=30_000)] = 4000
    staff_session_s: Annotated[int, Field(ge=60, le=86_400)] = 43_200
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    offline: OfflineDocument = OfflineDocument()
    top_up: TopUpDocument = TopUpDocument()
    refunds: RefundDocument = RefundDocument()
    cash_out: Literal["never", "after_event", "always"] = "after_event"
    """When attendees may have unspent Credits back on their card."""
    adjustment_limit_in_cents: Annotated[int, Field(ge=0, le=100_000_000)] = 5000
    """Above it an adjustment needs a second person."""
    ticket_types: Annotated[tuple[TicketTypeDocument, ...], Field(max_length=200)] = ()
    stalls: Annotated[tuple[StallDocument, ...], Field(min_length=1, max_length=500)]
    staff: Annotated[tuple[StaffDocument, ...], Field(max_length=5000)] = ()

    @field_validator("currency")
    @classmethod
    def _counted_in_cents(cls, code: str) -> str:
        if not is_currency(code):
            raise ValueError("not a currency that is counted in hundredths")
        return code

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            if name != "UTC":  # which needs no database of zones
                ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {name!r}") from error
        return name

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        _refuse_twins("ticket type", [kind.id for kind in self.ticket_types])
        _refuse_twins("stall", [stall.id for stall in self.stalls])
        _refuse_twins("member of staff", [member.id for member in self.staff])
        known = {stall.id for stall in self.stalls}
        for member in self.staff:
            strange = set(member.stalls or ()) - known
            if strange:
                raise ValueError(f"staff {member.id}: no stall {', '.join(sorted(strange))}")
        if self.starts_at and self.ends_at and self.starts_at >= self.ends_at:
            raise ValueError("ends_at is not after starts_at")
        return self

    def in_order(self) -> "EventDocument":
        """The same document with its lists sorted: two that say the same are then equal."""
        stalls = [
            stall.model_copy(
                update={"products": tuple(sorted(stall.products, key=lambda each: each.number))}
            )
            for stall in self.stalls
        ]
        members = [
            member
            if member.stalls is None
            else member.model_copy(update={"stalls": tuple(sorted(set(member.stalls)))})
            for member in self.staff
        ]
        return self.model_copy(
            update={
                "stalls": tuple(sorted(stalls, key=lambda each: each.id)),
                "staff": tuple(sorted(members, key=lambda each: each.id)),
                "ticket_types": tuple(sorted(self.ticket_types, key=lambda each: each.id)),
            }
        )


def _refuse_twins(what: str, names: list[Any]) -> None:
    twins = sorted({str(name) for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"{what} {', '.join(twins)} is there twice")
