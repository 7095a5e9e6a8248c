"""What every answer carries and no request may exceed: headers and sizes, for all routes alike."""

import asyncio
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.api.problems import problem

BODY_BYTES_MAX: Final = 32 * 1024
OPS_BODY_BYTES_MAX: Final = 1024 * 1024
BODY_WITHIN_S: Final = 20
HEAD_BYTES_MAX: Final = 16 * 1024
"""The address and all headers together."""
_OPS: Final = "/v1/ops/"
_STATIC: Final = "/static/"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=()"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


class Defences:
    """Pure ASGI, around everything else."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._headers = (*HEADERS, _HSTS) if is_https else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"])
        limit = OPS_BODY_BYTES_MAX if path.startswith(_OPS) else BODY_BYTES_MAX

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = [header for header in self._headers if header[0] not in present]
                if b"content-security-policy" not in present:
                    extra.append((b"content-security-policy", CONTENT_SECURITY_POLICY.encode()))
                if b"cache-control" not in present:
                    # Pages' parts are asked for again and mostly answered with 304; all else is
                    # about somebody.
                    caching = b"no-cache" if path.startswith(_STATIC) else b"no-store"
                    extra.append((b"cache-control", caching))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        if _head_bytes(scope) > HEAD_BYTES_MAX:
            too_large = problem(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head_too_large",
                f"The address and the headers are longer than {HEAD_BYTES_MAX} bytes together.",
                "Send less: fewer cookies, a shorter address.",
            )
            await too_large(scope, receive, guarded_send)
            return
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await _read_within(limit, scope, receive)
        except TimeoutError:
            late = problem(
                HTTPStatus.REQUEST_TIMEOUT,
                "body_too_slow",
                f"The body did not arrive within {BODY_WITHIN_S} s.",
                "Send the same request again.",
                headers={"Connection": "close"},
            )
            await late(scope, receive, guarded_send)
            return
        if body is None:
            refusal = problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body_too_large",
                f"The body is longer than {limit} bytes.",
                "Send less.",
            )
            await refusal(scope, receive, guarded_send)
            return
        await self._app(scope, _replayed(body, receive), guarded_send)


def _head_bytes(scope: Scope) -> int:
    fields = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return fields + len(scope["raw_path"]) + len(scope["query_string"])


async def _read_within(limit: int, scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, or None as soon as it is known to be longer."""
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            return None
    chunks: list[bytes] = []
    size, is_more = 0, True
    while is_more:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        is_more = bool(message.get("more_body", False))
    return b"".join(chunks)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever the connection says (that it was closed)."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
