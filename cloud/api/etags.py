"""An answer with its ETag: whoever has it already is told so alone (RFC 9110 section 13.1.2)."""

import hashlib
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Header
from fastapi.responses import Response
from pydantic import BaseModel

from protocol.encoding import to_base64url

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=200,
        description="The `ETag` of the answer that is there already.",
    ),
]

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=200,
        description="The `ETag` of what was read and changed: 412 where it is another by now.",
    ),
]

ETAGGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "ETag": {
                "description": "Changes with what is said: send it as `If-None-Match`.",
                "schema": {"type": "string"},
            }
        }
    },
    304: {"description": "Not Modified"},
}
"""For OpenAPI: what such a route answers besides its problems."""


def answer_once(said: BaseModel, if_none_match: str | None, cache_control: str) -> Response:
    """The answer, or 304 where `if_none_match` names this very one."""
    body = said.model_dump_json().encode()
    etag = _etag(body)
    headers = {"ETag": etag, "Cache-Control": cache_control}
    named = _named(if_none_match or "")
    if etag in named or "*" in named:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def is_met(condition: str, current: BaseModel | None) -> bool:
    """Whether this `If-Match` names what is there; `*`: whether anything is (RFC 9110 section
    13.1.1)."""
    if current is None:
        return False
    named = _named(condition)
    return "*" in named or _etag(current.model_dump_json().encode()) in named


def _etag(body: bytes) -> str:
    return f'"{to_base64url(hashlib.sha256(body).digest())[:22]}"'


def _named(condition: str) -> set[str]:
    """A proxy that packs the body on its way makes the tag a weak one: it is the same document."""
    return {each.strip().removeprefix("W/") for each in condition.split(",")}
