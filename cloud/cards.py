"""Which card provider the settings name, and the secrets it is given."""

import os
import secrets
from pathlib import Path

from cloud.payments.built_in import BOOKS, BuiltInProvider
from cloud.payments.provider import CardProvider
from cloud.settings import Settings


def choose_provider(settings: Settings, public_url: str) -> CardProvider | None:
    """None: no card payments here. `public_url`: where attendees reach the test provider's page."""
    payments = settings.payments
    match payments.provider:
        case None:
            return None
        case "test":
            secret = _test_secret(settings)
            return BuiltInProvider(public_url, secret, settings.state / BOOKS)
        case "stripe":
            # Half a second of imports that nobody else needs.
            from cloud.payments.stripe_cards import StripeProvider  # noqa: PLC0415

            key, webhook_secret = payments.stripe_secret_key, payments.stripe_webhook_secret
            assert key is not None, "the settings have seen to it"
            assert webhook_secret is not None, "the settings have seen to it"
            return StripeProvider(key.get_secret_value(), webhook_secret.get_secret_value())


def _test_secret(settings: Settings) -> bytes:
    """The settings' secret, or one made once and kept beside the keys: restarts agree on it."""
    if settings.payments.webhook_secret is not None:
        return settings.payments.webhook_secret.get_secret_value().encode()
    path: Path = settings.keys_folder / "test-provider.secret"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()
