"""What a person types: money as 12.50, spans as 30m, moments with their zone; exact, or refused."""

import re
from datetime import datetime, timedelta
from typing import Final

import typer

CENTS_MAX: Final = 100_000_000
_MONEY: Final = re.compile(r"([0-9]{1,7})(?:[.,]([0-9]{1,2}))?")
_SPAN: Final = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_cents(text: str) -> int | None:
    """`12.50`, `12,5` or `12` in integer cents; None for anything else, as `1e5` or `4.505`."""
    found = _MONEY.fullmatch(text.strip())
    if found is None:
        return None
    cents = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))
    return cents if cents <= CENTS_MAX else None


def money_option(text: str) -> int:
    """Raises typer.BadParameter."""
    cents = read_cents(text)
    if cents is None:
        raise typer.BadParameter(
            f"{text!r} is no amount: write it as 12.50, up to {show_cents(CENTS_MAX)}"
        )
    return cents


def span_option(text: str) -> timedelta:
    """Raises typer.BadParameter."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no span of time: write 45s, 30m, 12h or 2d")
    return timedelta(milliseconds=int(found[1]) * _UNIT_MS[found[2]])


def moment_option(text: str) -> str:
    """Raises typer.BadParameter."""
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is no moment with its zone: write 2026-06-20T18:00Z or "
            "2026-06-20T20:00+02:00"
        )
    return at.isoformat()


def show_cents(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def show_span(milliseconds: int) -> str:
    """`30m`, as it would be typed: the largest unit that says it whole."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _UNIT_MS[unit] == 0:
            return f"{milliseconds // _UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"
