from pathlib import Path
from typing import Any

import pytest

from cloud.cards import choose_provider
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import CheckoutRequest
from cloud.payments.stripe_cards import StripeProvider
from cloud.settings import PaymentSettings, Settings, SettingsError, read_settings
from protocol.money import Money

URL = "https://wallet.test"
STRIPE: dict[str, Any] = {
    "provider": "stripe",
    "stripe_secret_key": "sk_test_0123456789",
    "stripe_webhook_secret": "whsec_0123456789",
}
_KEY = 'stripe_secret_key = "sk_test_hunter2"'


def _settings(state: Path, **payments: Any) -> Settings:
    return read_settings(None, state=state, payments=PaymentSettings.model_validate(payments))


def test_without_a_name_there_are_no_cards(tmp_path: Path) -> None:
    assert choose_provider(_settings(tmp_path), URL) is None


def test_the_test_providers_books_and_secret_outlive_a_restart(tmp_path: Path) -> None:
    settings = _settings(tmp_path, provider="test")
    settings.keys_folder.mkdir()
    first, second = choose_provider(settings, URL), choose_provider(settings, URL)
    assert isinstance(first, BuiltInProvider)
    assert isinstance(second, BuiltInProvider)
    opened = first.open_checkout(CheckoutRequest("payment-1", Money(500, "EUR"), f"{URL}/"))
    assert second.look_up(opened.reference).amount == Money(500, "EUR")
    assert [each.name for each in tmp_path.glob("*.sqlite")] == ["test-provider.sqlite"]


def test_stripe_is_given_its_keys_and_nobody_else_sees_them(tmp_path: Path) -> None:
    settings = _settings(tmp_path, **STRIPE)
    provider = choose_provider(settings, URL)
    assert isinstance(provider, StripeProvider)
    for key in (STRIPE["stripe_secret_key"], STRIPE["stripe_webhook_secret"]):
        assert key not in repr(settings) + repr(provider)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('provider = "paypal"', "payments.provider"),
        ('provider = "stripe"', "stripe_secret_key is set with provider"),
        (
            f'provider = "stripe"\n{_KEY}',
            "stripe_webhook_secret is set with provider",
        ),
        ('stripe_secret_key = "sk_test_hunter2"', "stripe_secret_key is set with provider"),
        (
            'provider = "test"\nstripe_webhook_secret = "whsec_hunter2"',
            "stripe_webhook_secret is set with provider",
        ),
        (
            'provider = "stripe"\nstripe_secret_key = "pk_test_hunter2"',
            "stripe_secret_key begins with sk_ or rk_",
        ),
        (
            f'provider = "stripe"\n{_KEY}\nstripe_webhook_secret = "hunter2"',
            "stripe_webhook_secret begins with whsec_",
        ),
        ("test_provider = true", "payments.test_provider: there is no such setting"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_is_not(
    tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(f"[payments]\n{text}\n")
    with pytest.raises(SettingsError, match=said) as raised:
        read_settings(config)
    assert "hunter2" not in str(raised.value)
