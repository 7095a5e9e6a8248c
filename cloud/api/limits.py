"""How often each thing may be asked, and by whom: counted in this process, by client or person."""

import time
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from fastapi import Request

from cloud.access.pace import Meter, Wait
from cloud.settings import LimitSettings

_IPV6_PREFIX: Final = 64
"""A household's or a phone's own network: its addresses are all one client's."""


class Limited(StrEnum):
    """The settings of these names say how often."""

    CODES = "codes"
    SIGN_IN_FAILURES = "sign_in_failures"
    TOKEN_FAILURES = "token_failures"  # noqa: S105  # a limit's name
    POS_FAILURES = "pos_failures"
    ENROLMENT_FAILURES = "enrolment_failures"
    WEBHOOK_FAILURES = "webhook_failures"
    WALLET_QR = "wallet_qr"


class Limits:
    def __init__(
        self,
        settings: LimitSettings,
        now: Callable[[], float] = time.monotonic,  # noqa: TID251  # an edge
    ) -> None:
        self.streams_max: Final = settings.streams_max
        self._proxies: Final = settings.trusted_proxies
        self._meters: Final = {each: Meter(getattr(settings, each), now) for each in Limited}

    def take(self, limited: Limited, subject: str) -> Wait | None:
        """Count one; None where it was due."""
        return self._meters[limited].take(subject)

    def is_spent(self, limited: Limited, subject: str) -> bool:
        return self._meters[limited].is_spent(subject)

    def client_of(self, request: Request) -> str:
        """Who asks: the address that reached us, or the one that our own proxies say they serve.

        X-Forwarded-For is read from its end, and no further than a proxy of ours wrote it: what
        stands before that anybody may have made up.
        """
        address = _address(request.client.host if request.client else "")
        said = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        while address is not None and said and self._is_proxy(address):
            before = _address(said.pop().strip())
            if before is None:
                break
            address = before
        return _name(address)

    def _is_proxy(self, address: IPv4Address | IPv6Address) -> bool:
        return any(_is_in(address, network) for network in self._proxies)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def _name(address: IPv4Address | IPv6Address | None) -> str:
    match address:
        case None:
            return "unknown"
        case IPv4Address():
            return str(address)
        case IPv6Address():
            return str(ip_network((int(address), _IPV6_PREFIX), strict=False))
