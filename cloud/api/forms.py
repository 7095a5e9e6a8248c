"""Parts that requests and answers share: money, keys, names, pages of a list."""

from typing import Annotated, Final

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from protocol.money import Money, is_currency

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
SlugInPath = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
# The addresses that browsers take (WHATWG HTML, "valid e-mail address").
_ADDRESS: Final = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"
Email = Annotated[
    str, Field(min_length=3, max_length=254, pattern=_ADDRESS, examples=["ana@example.org"])
]
Totp = Annotated[str, Field(pattern=r"^[0-9]{6}$", examples=["271828"])]
"""Six digits: of an authenticator, or of a letter."""
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9_-]{16,64}$",
        description="16 to 64 of A-Z a-z 0-9 _ -. The same again gets the same answer.",
    ),
]

Reason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="For the audit log: why.",
    ),
]

PAGE_MAX: Final = 200
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=200,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before; left out: the first page.",
    ),
]


def _counted_in_cents(code: str) -> str:
    if not is_currency(code):
        raise ValueError("not a currency that is counted in hundredths")
    return code


Currency = Annotated[
    str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"]), AfterValidator(_counted_in_cents)
]


class Body(BaseModel):
    """What a request says; a member that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class MoneyView(BaseModel):
    """Integer cents and an ISO 4217 currency."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"amount_in_cents": 1250, "currency": "EUR"}]}
    )

    amount_in_cents: int
    currency: str

    @classmethod
    def of(cls, money: Money) -> "MoneyView":
        return cls(amount_in_cents=money.amount_in_cents, currency=money.currency)
