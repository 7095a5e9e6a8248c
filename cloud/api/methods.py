"""Which methods an address takes: answers OPTIONS, lets HEAD be a GET without its body, and fills
in `Allow`."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOWHERE: Final = "none"
"""The template of an address that nothing answers at; the address itself may hold a secret."""


@dataclass(frozen=True, slots=True)
class _Address:
    pattern: re.Pattern[str]
    methods: frozenset[str]


class Addresses:
    """What each address takes, read from the routes once."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._addresses: Final = [
            _Address(pattern, frozenset(methods))
            for route in routes
            if (pattern := getattr(route, "path_regex", None)) is not None
            # Without methods of its own it is the folder of the pages' parts.
            and (methods := getattr(route, "methods", {"GET"}))
        ]

    def at(self, path: str) -> list[str]:
        """In a fixed order; empty where nothing is."""
        found: set[str] = set()
        for each in self._addresses:
            if each.pattern.match(path):
                found |= each.methods
        if not found:
            return []
        if "GET" in found:
            found.add("HEAD")
        return sorted(found | {"OPTIONS"})


class Methods:
    """Pure ASGI. Other sites' pages get no leave by OPTIONS: CORS is closed."""

    def __init__(self, app: ASGIApp, known: Addresses) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in {"OPTIONS", "HEAD"}:
            allowed = self._known.at(scope["path"])
            if allowed and scope["method"] == "OPTIONS":
                said = Response(
                    status_code=HTTPStatus.NO_CONTENT, headers={"Allow": _text(allowed)}
                )
                await said(scope, receive, send)
                return
            if "HEAD" in allowed:
                await self._head(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_over = False

        async def without_body(message: Message) -> None:
            nonlocal is_over
            if is_over:
                # Ends a stream that nobody reads.
                raise _OverError
            if message["type"] == "http.response.body":
                is_over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body", False):
                    raise _OverError
            else:
                await send(message)

        asked: Scope = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_body)
        except (_OverError, ClientDisconnect):
            # All that was wanted has been sent.
            is_over = True
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]


class _OverError(OSError):
    """As if the connection had been closed."""


def _text(methods: Iterable[str]) -> str:
    return ", ".join(methods)


def template_of(scope: Scope) -> str:
    """`/v1/topups/{payment_id}`: never the address itself, nor its query."""
    return str(getattr(scope.get("route"), "path", NOWHERE) or NOWHERE)
