import pytest

from protocol.offline_loss import OfflineLoss, worst_loss
from protocol.policy import OfflineRules

ON = OfflineRules(allowed=True)


@pytest.mark.parametrize(
    ("rules", "sale_max", "appliances", "loss"),
    [
        # The defaults: 10.00 a sale, 20.00 a wallet, 200.00 an appliance.
        (ON, 20_000, 12, OfflineLoss(12, 1000, 2000, 24_000, 20_000, 240_000)),
        (ON, 20_000, 0, OfflineLoss(0, 1000, 2000, 0, 20_000, 0)),
        (OfflineRules(), 20_000, 12, OfflineLoss(12, 0, 0, 0, 0, 0)),
        # The event's own limit for a sale is the smaller one.
        (ON, 300, 2, OfflineLoss(2, 300, 900, 1800, 15_000, 30_000)),
        # So many sales of the largest kind are less than the sum that is allowed.
        (
            OfflineRules(allowed=True, spell_sales_max=4),
            20_000,
            3,
            OfflineLoss(3, 1000, 2000, 6000, 4000, 12_000),
        ),
        (
            OfflineRules(allowed=True, wallet_sales_max=1),
            20_000,
            3,
            OfflineLoss(3, 1000, 1000, 3000, 20_000, 60_000),
        ),
        # No QR allows more than 20.00, whatever the rules say.
        (
            OfflineRules(allowed=True, sale_max_in_cents=5000, wallet_max_in_cents=9000),
            20_000,
            2,
            OfflineLoss(2, 2000, 2000, 4000, 20_000, 40_000),
        ),
        # A whole spell is smaller than a sale.
        (
            OfflineRules(allowed=True, spell_max_in_cents=700),
            20_000,
            5,
            OfflineLoss(5, 700, 700, 3500, 700, 3500),
        ),
        (OfflineRules(allowed=True, spell_sales_max=0), 20_000, 5, OfflineLoss(5, 0, 0, 0, 0, 0)),
        (OfflineRules(allowed=True, wallet_sales_max=0), 20_000, 5, OfflineLoss(5, 0, 0, 0, 0, 0)),
    ],
)
def test_the_worst_loss_follows_from_the_settings(
    rules: OfflineRules, sale_max: int, appliances: int, loss: OfflineLoss
) -> None:
    assert worst_loss(rules, sale_max, appliances) == loss
