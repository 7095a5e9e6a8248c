"""How railtix-ops says what offline sales may cost: in money, before anybody switches them on."""

from typing import Any

import msgspec
from rich.markup import escape

from protocol.offline_loss import OfflineLoss, worst_loss
from protocol.policy import OfflineRules
from provisioning.cli.cloud import Document
from provisioning.cli.speaking import out


def print_rules(rules: Document, currency: str) -> None:
    """What one till may decide alone."""
    out.print(
        f"  a sale at most {money(rules['sale_max_in_cents'], currency)}; "
        f"a wallet at one till {money(rules['wallet_max_in_cents'], currency)} "
        f"and {rules['wallet_sales_max']} sales"
    )
    out.print(
        f"  a till, until the cloud has answered it all: "
        f"{money(rules['spell_max_in_cents'], currency)} and {rules['spell_sales_max']} sales"
    )
    out.print(
        f"  within {_minutes(rules['sync_age_max_s'])} of the cloud's last word, "
        f"by a deny list of at most {_minutes(rules['deny_list_age_max_s'])}"
    )


def print_loss(loss: Any, currency: str) -> None:
    """`loss`: an `OfflineLoss`, or the cloud's answer that holds one."""
    bound = msgspec.convert(loss, OfflineLoss)
    count = "1 appliance" if bound.appliances == 1 else f"{bound.appliances} appliances"
    out.print(
        f"  [bold]At worst {money(bound.event_in_cents, currency)} is handed over unpaid[/] "
        f"while all are cut off: {count}, {money(bound.appliance_in_cents, currency)} each"
    )
    out.print(
        f"  one wallet, copied to every appliance: {money(bound.wallet_in_cents, currency)} "
        f"({money(bound.wallet_at_one_in_cents, currency)} at each)"
    )
    out.print(
        f"  one appliance stolen before it sent its sales: "
        f"{money(bound.appliance_in_cents, currency)}"
    )


def loss_of(document: Document, appliances: int) -> OfflineLoss | None:
    """What an event's file allows at worst; None where it cannot be read, which is refused when it
    is applied."""
    try:
        rules = msgspec.convert(document.get("offline", {}), OfflineRules)
        sale_max_in_cents = msgspec.convert(document.get("sale_max_in_cents", 20_000), int)
    except msgspec.ValidationError:
        return None
    return worst_loss(rules, sale_max_in_cents, appliances)


def warn(document: Document, appliances: int) -> None:
    """Before a file is applied that switches offline sales on."""
    loss = loss_of(document, appliances)
    if loss is None:
        return
    currency = str(document.get("currency", ""))
    out.print("[yellow bold]This switches offline sales on.[/] (docs/offline.md)")
    print_loss(msgspec.to_builtins(loss), escape(currency))


def money(cents: int, currency: str) -> str:
    return f"{cents // 100}.{cents % 100:02d} {currency}"


def _minutes(seconds: int) -> str:
    return f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"
