"""Around everything: every request has an id, is counted, and leaves one line without a secret."""

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from cloud.api.context import Clock
from cloud.api.methods import template_of
from cloud.api.problems import internal_error
from cloud.logs import write_lines
from cloud.metrics import HTTP_DURATION, HTTP_IN_PROGRESS, HTTP_REQUESTS

HEADER: Final = b"x-request-id"

_SANE: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES: Final = frozenset({"/healthz", "/readyz"})
_CANCELLED: Final = 499
"""Whoever asked left before they were answered; nginx calls it so."""

_log = structlog.stdlib.get_logger("cloud.http")


class Requests:
    """Pure ASGI, outermost.

    `writes_lines`: no where something in front writes them already. Probes leave none: they come
    every few seconds, and what they find is in the metrics.
    """

    def __init__(self, app: ASGIApp, clock: Clock, *, writes_lines: bool = True) -> None:
        self._app = app
        self._clock = clock
        self._writes_lines = writes_lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _accepted(scope) or str(uuid7())
        began_at = time.perf_counter()
        status: int | None = None
        taken_s = 0.0
        is_noted = False

        def note() -> None:
            nonlocal is_noted
            if not is_noted:
                is_noted = True
                self._note(scope, request_id, status or _CANCELLED, taken_s)

        async def noting_send(message: Message) -> None:
            nonlocal status, taken_s
            if message["type"] == "http.response.start":
                status = int(message["status"])
                taken_s = time.perf_counter() - began_at
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            elif not message.get("more_body", False):
                # Whoever has read an answer to its end finds its line.
                note()
            await send(message)

        def is_told() -> bool:
            """The app's own answer to its failure is logged with it."""
            return status == HTTPStatus.INTERNAL_SERVER_ERROR

        HTTP_IN_PROGRESS.inc()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, noting_send)
            except Exception:  # noqa: BLE001  # logged; the answer is a problem like any other
                if not is_told():
                    # It failed in the middle of an answer, or around the app.
                    _log.exception("request_failed", route=template_of(scope))
                if status is None:
                    await internal_error()(scope, receive, noting_send)
            finally:
                HTTP_IN_PROGRESS.dec()
                note()

    def _note(self, scope: Scope, request_id: str, status: int, taken_s: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = template_of(scope)
        HTTP_REQUESTS.labels(method, route, str(status)).inc()
        HTTP_DURATION.labels(method, route).observe(taken_s)
        if self._writes_lines and route not in _PROBES:
            line: Mapping[str, Any] = {
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "ms": round(taken_s * 1000, 1),
            }
            write_lines("cloud.http", "request", self._clock(), (line,))


def _accepted(scope: Scope) -> str | None:
    """The id that the request brings, where it is one: it goes into logs and an answer's header."""
    brought = [value for name, value in scope["headers"] if name == HEADER]
    if len(brought) == 1 and _SANE.fullmatch(brought[0]):
        return str(brought[0].decode("ascii"))
    return None
