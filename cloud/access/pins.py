"""PINs at rest: argon2id, so that a stolen database gives none away cheaply."""

import itertools
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cloud.access.refusals import PinNotAllowed

PIN_DIGITS_MIN: Final = 4
PIN_DIGITS_MAX: Final = 8

# RFC 9106 section 4's second choice, with less memory: a stall's shift starts on a small machine.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=19 * 1024, parallelism=1)


def hash_pin(pin: str) -> str | PinNotAllowed:
    """The PIN's hash for its row (argon2id, PHC string), or why this may be no PIN."""
    return refuse_pin(pin) or _HASHER.hash(pin)


def refuse_pin(pin: str) -> PinNotAllowed | None:
    """Why this may be no PIN; quick, unlike its hash."""
    if not (pin.isascii() and pin.isdecimal() and PIN_DIGITS_MIN <= len(pin) <= PIN_DIGITS_MAX):
        return PinNotAllowed(f"{PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits are needed")
    if len(set(pin)) == 1 or _is_a_run(pin):
        return PinNotAllowed("the same digit or a run of digits is what everybody tries first")
    return None


def is_pin(pin: str, stored_hash: str) -> bool:
    """Whether this is the PIN; takes tens of milliseconds on purpose: outside any batch."""
    try:
        return _HASHER.verify(stored_hash, pin)
    except (VerificationError, InvalidHashError):
        return False


def _is_a_run(pin: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(pin)}
    return steps in ({1}, {-1})
