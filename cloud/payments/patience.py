"""How long to wait before a provider is asked again; no clock here."""

from datetime import timedelta
from typing import Final

_POLL_AFTER_S: Final = (20, 40, 60, 120, 300, 600, 900)
"""Most payments are told of at once: looking is for webhooks that were lost."""
_TRY_AFTER_S: Final = (30, 60, 300, 900, 3600)


def poll_again_after(polls: int) -> timedelta:
    """After this many looks at a payment: 20 s at first, growing to a quarter of an hour."""
    return _at(_POLL_AFTER_S, polls)


def try_again_after(tries: int) -> timedelta:
    """After this many tries at a refund, the one under way included: 30 s, growing to an hour.

    So long a provider has time to answer before another courier takes the refund up; two at once
    do no harm, as both name the same refund.
    """
    return _at(_TRY_AFTER_S, tries - 1)


def _at(steps_s: tuple[int, ...], index: int) -> timedelta:
    return timedelta(seconds=steps_s[min(max(index, 0), len(steps_s) - 1)])
