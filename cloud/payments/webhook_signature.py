"""A webhook's signature: `t=SECONDS,v1=HMAC`, over the time and the body, as Stripe's is."""

import hashlib
import hmac
import re
from datetime import datetime
from typing import Final

from cloud.payments.provider import WebhookRefusal

TOLERANCE_S: Final = 300
"""How old a webhook may be, either way: what a recorded one is worth afterwards is nothing."""
_HEADER: Final = re.compile(r"t=(?P<at>[0-9]{1,12}),v1=(?P<mac>[0-9a-f]{64})")


def sign_webhook(body: bytes, secret: bytes, at: datetime) -> str:
    at_s = int(at.timestamp())
    return f"t={at_s},v1={_mac(body, secret, at_s)}"


def refuse_webhook(
    body: bytes, signature: str, secret: bytes, now: datetime
) -> WebhookRefusal | None:
    """None where the sender knows the secret and sent this body just now."""
    if not signature:
        return WebhookRefusal.SIGNATURE_MISSING
    header = _HEADER.fullmatch(signature)
    if header is None:
        return WebhookRefusal.SIGNATURE_WRONG
    at_s = int(header["at"])
    if not hmac.compare_digest(_mac(body, secret, at_s), header["mac"]):
        return WebhookRefusal.SIGNATURE_WRONG
    if abs(now.timestamp() - at_s) > TOLERANCE_S:
        return WebhookRefusal.STALE
    return None


def _mac(body: bytes, secret: bytes, at_s: int) -> str:
    return hmac.new(secret, b"%d.%b" % (at_s, body), hashlib.sha256).hexdigest()
