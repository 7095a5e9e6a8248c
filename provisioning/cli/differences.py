"""What differs between two documents of an event, in the words of who runs a bar."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.markup import escape

from provisioning.cli.amounts import show_cents, show_span
from provisioning.cli.cloud import Document
from provisioning.cli.speaking import out

RULES: Final[Mapping[str, str]] = {
    "name": "name",
    "currency": "currency",
    "locale": "locale",
    "timezone": "time zone",
    "starts_at": "starts",
    "ends_at": "ends",
    "sale_max_in_cents": "a sale at most",
    "reply_timeout_ms": "wait for the cloud",
    "staff_session_s": "a shift at most",
    "top_up.min_in_cents": "top-up at least",
    "top_up.max_in_cents": "top-up at most",
    "refunds.window_s": "staff refund within",
    "refunds.staff_limit_in_cents": "staff refund up to",
    "refunds.deadline": "refunds until",
    "cash_out": "cash-out",
    "adjustment_limit_in_cents": "second person above",
    "offline.allowed": "offline sales",
    "offline.sale_max_in_cents": "offline: a sale",
    "offline.wallet_max_in_cents": "offline: a wallet at a till",
    "offline.wallet_sales_max": "offline: sales of a wallet",
    "offline.spell_max_in_cents": "offline: a till",
    "offline.spell_sales_max": "offline: sales of a till",
    "offline.sync_age_max_s": "offline: since the cloud's word",
    "offline.deny_list_age_max_s": "offline: age of the deny list",
}
"""Each rule of an event by its place in the document, as it is shown."""


@dataclass(frozen=True, slots=True)
class Difference:
    where: str
    before: str | None
    """None: it is new."""
    after: str | None
    """None: it is gone."""


def differences(before: Document, after: Document) -> list[Difference]:
    found = [*_rules(before, after)]
    found += _named("stall", before["stalls"], after["stalls"], _stall_name)
    products = {stall["id"]: stall.get("products", []) for stall in before["stalls"]}
    for stall in after["stalls"]:
        found += product_differences(
            stall["id"], products.get(stall["id"], []), stall.get("products", [])
        )
    found += _named("staff", before.get("staff", []), after.get("staff", []), _member)
    found += _named(
        "tickets", before.get("ticket_types", []), after.get("ticket_types", []), _ticket_type
    )
    return found


def product_differences(
    stall_id: str, before: Sequence[Document], after: Sequence[Document]
) -> list[Difference]:
    was = {each["number"]: each for each in before}
    now = {each["number"]: each for each in after}
    found: list[Difference] = []
    for number in sorted(was | now):
        old, new = was.get(number), now.get(number)
        if old == new:
            continue
        same_name = old is not None and new is not None and old["name"] == new["name"]
        named = f" {(new or {})['name']}" if same_name else ""
        show = _price if same_name else _product
        found.append(
            Difference(
                f"{stall_id} {number}{named}",
                None if old is None else show(old),
                None if new is None else show(new),
            )
        )
    return found


def print_differences(found: Sequence[Difference], *, at_most: int = 60) -> None:
    for each in found[:at_most]:
        where = escape(each.where)
        match each.before, each.after:
            case None, after:
                out.print(f"  [green]+[/] {where}: {escape(str(after))}")
            case before, None:
                out.print(f"  [red]-[/] {where}: {escape(before)}")
            case before, after:
                out.print(f"  [yellow]~[/] {where}: {escape(before)} -> {escape(after)}")
    if len(found) > at_most:
        out.print(f"  ... and {len(found) - at_most} more")


def counted(found: Sequence[Difference]) -> str:
    """`3 new, 2 changed, 1 removed`."""
    new = sum(each.before is None for each in found)
    gone = sum(each.after is None for each in found)
    counts = ((new, "new"), (len(found) - new - gone, "changed"), (gone, "removed"))
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def rule_in(document: Document, place: str) -> Any:
    """None where the document does not say it."""
    *rooms, last = place.split(".")
    room: Document = document.get(rooms[0], {}) if rooms else document
    return room.get(last)


def show_rule(place: str, value: Any) -> str:
    """A rule's value as it would be typed."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "allowed" if value else "not allowed"
    if place.endswith("_in_cents"):
        return show_cents(value)
    if place.endswith("_ms"):
        return show_span(value)
    if place.endswith("_s"):
        return show_span(value * 1000)
    if place.endswith("_at") or place == "refunds.deadline":
        return str(value).replace("T", " ").replace("Z", " UTC")
    return str(value).replace("_", " ") if place == "cash_out" else str(value)


def _rules(before: Document, after: Document) -> Iterator[Difference]:
    for place, words in RULES.items():
        old, new = rule_in(before, place), rule_in(after, place)
        if old != new:
            yield Difference(words, show_rule(place, old), show_rule(place, new))


def _named(
    what: str,
    before: Sequence[Document],
    after: Sequence[Document],
    show: Callable[[Document], str],
) -> Iterator[Difference]:
    was = {each["id"]: each for each in before}
    now = {each["id"]: each for each in after}
    for name in sorted(was | now):
        old = show(was[name]) if name in was else None
        new = show(now[name]) if name in now else None
        if old != new:
            yield Difference(f"{what} {name}", old, new)


def _stall_name(stall: Document) -> str:
    return str(stall["name"])


def _price(product: Document) -> str:
    return show_cents(product["price_in_cents"])


def _product(product: Document) -> str:
    return f"{product['name']} {_price(product)}"


def _member(member: Document) -> str:
    places = ", ".join(member.get("stalls") or ["every stall"])
    supervises = ", supervisor" if member.get("is_supervisor") else ""
    return f"{member['name']} ({member['initials']}) at {places}{supervises}"


def _ticket_type(kind: Document) -> str:
    sold = " to ".join(
        show_rule("on_sale_at", kind.get(name)) for name in ("on_sale_from", "on_sale_until")
    )
    window = "" if sold == "not set to not set" else f", on sale {sold}"
    return (
        f"{kind['name']} {_price(kind)}, {kind['stock']} in all, "
        f"{kind.get('per_order_max', 10)} an order{window}"
    )
