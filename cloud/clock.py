"""The cloud's clock: the one place that reads it; everything else is given the time."""

from datetime import UTC, datetime


def utc_clock() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  # an edge, and the only one in the cloud
