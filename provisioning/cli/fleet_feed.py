"""The fleet as the cloud tells it now, again and again: an answer, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx

from provisioning.cli.cloud import Access, explain, line
from provisioning.cli.fleet_table import Device
from provisioning.cli.speaking import refuse, the_time

DEVICES: Final = "/v1/ops/devices"
_FOR_GOOD: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Asking again gets the same."""

Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Told:
    devices: Sequence[Device]
    at: datetime
    """By the cloud's clock: this machine's may be wrong."""


@dataclass(frozen=True, slots=True)
class Away:
    """No answer, this time."""

    why: str


class Feed:
    """What it refuses for good ends the command; that it is away does not."""

    def __init__(self, access: Access, query: Query) -> None:
        self._query = httpx.QueryParams(tuple(query))
        self._http = line(access.url, access.ca)
        self._http.headers["Authorization"] = f"Bearer {access.secret}"

    def ask(self) -> Told | Away:
        try:
            answer = self._http.get(DEVICES, params=self._query)
        except httpx.HTTPError as fault:
            return Away(f"{type(fault).__name__}: {fault}".rstrip(": "))
        if answer.status_code in _FOR_GOOD:
            refuse(explain(answer))
        if not answer.is_success:
            return Away(f"it answered {answer.status_code}")
        try:
            devices: Any = answer.json()
        except ValueError:
            return Away("it answered, and not in JSON")
        return Told(devices, _date_of(answer))


def _date_of(answer: httpx.Response) -> datetime:
    try:
        return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return the_time()
