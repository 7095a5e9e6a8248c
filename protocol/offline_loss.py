"""What offline sales may cost at worst, from an event's settings: docs/offline.md explains it."""

from typing import Final

import msgspec

from protocol.policy import OfflineRules

ALLOWANCE_MAX_IN_CENTS: Final = 2000
"""No wallet QR allows more without the cloud (`oal`)."""
ALLOWANCE_SHARE: Final = 4
"""And none more than this part of its wallet's balance: a quarter."""


class OfflineLoss(msgspec.Struct, frozen=True):
    """The most that may be handed over and not paid while the appliances are cut off.

    Each time: an appliance begins anew only once the cloud has answered all it took.
    """

    appliances: int
    sale_in_cents: int
    """The largest single sale."""
    wallet_at_one_in_cents: int
    """What one wallet may take at one appliance."""
    wallet_in_cents: int
    """What one wallet may take, its QR copied to every appliance at once."""
    appliance_in_cents: int
    """What one appliance may sell; also what is lost with one that is stolen or burns."""
    event_in_cents: int
    """What all of them may sell: if nobody's wallet could pay anything, this is the loss."""


def worst_loss(rules: OfflineRules, sale_max_in_cents: int, appliances: int) -> OfflineLoss:
    """`sale_max_in_cents`: the event's limit for any sale, online too."""
    if not rules.allowed:
        return OfflineLoss(appliances, 0, 0, 0, 0, 0)
    # A sale is one wallet's, so what a wallet may take at an appliance bounds it too.
    sale_in_cents = min(
        ALLOWANCE_MAX_IN_CENTS,
        rules.wallet_max_in_cents,
        rules.sale_max_in_cents,
        sale_max_in_cents,
    )
    appliance_in_cents = min(rules.spell_max_in_cents, rules.spell_sales_max * sale_in_cents)
    wallet_at_one_in_cents = min(
        ALLOWANCE_MAX_IN_CENTS,
        rules.wallet_max_in_cents,
        rules.wallet_sales_max * sale_in_cents,
        appliance_in_cents,
    )
    if wallet_at_one_in_cents == 0:
        # No wallet may take anything, or no appliance sell anything.
        return OfflineLoss(appliances, 0, 0, 0, 0, 0)
    sale_in_cents = min(sale_in_cents, appliance_in_cents)
    return OfflineLoss(
        appliances=appliances,
        sale_in_cents=sale_in_cents,
        wallet_at_one_in_cents=wallet_at_one_in_cents,
        wallet_in_cents=appliances * wallet_at_one_in_cents,
        appliance_in_cents=appliance_in_cents,
        event_in_cents=appliances * appliance_in_cents,
    )
