"""The second factor: time-based codes (RFC 6238), each of which counts once."""

import hmac
from datetime import datetime, timedelta
from typing import Final

from pyotp import random_base32
from pyotp.totp import TOTP

ISSUER: Final = "RailTix Credits"
STEP: Final = timedelta(seconds=30)
_STEPS_OFF: Final = 1
"""The phone's clock may be this many steps before or behind."""

NOBODYS_SECRET: Final = "A" * 32
"""Compared with where there is no such person: then it takes as long."""


def draw_secret() -> str:
    """160 random bits, base32: as long as the hash (RFC 4226 section 4, R6)."""
    return random_base32()


def provisioning_uri(secret: str, user_name: str) -> str:
    """What an authenticator reads from a QR (`otpauth://`)."""
    return TOTP(secret).provisioning_uri(name=user_name, issuer_name=ISSUER)


def find_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is; None: of no step near now.

    Every step near now is computed and compared, so that how long it takes says nothing.
    """
    totp = TOTP(secret)
    middle = int(now.timestamp()) // int(STEP.total_seconds())
    found = None
    for step in range(middle - _STEPS_OFF, middle + _STEPS_OFF + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode()):
            found = step
    return found
