"""For whoever watches the server and whoever checks its signatures: health and public keys."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from cloud.api.context import TheCloud
from cloud.api.problems import Problem, problem
from cloud.keys import KeyRole
from cloud.readiness import WELL, Readiness, is_well
from protocol.encoding import public_key_from_text, to_base64url
from protocol.ids import KeyId
from protocol.signing import PublicKey

_PUBLISHED: Final[tuple[KeyRole, ...]] = ("reply", "policy", "badge", "ticket", "checkpoint")

router = APIRouter(tags=["server"])
probes = APIRouter(tags=["server"])
"""What every listener answers to."""


class Health(BaseModel):
    status: Annotated[str, Field(examples=["alive"])]


class Ready(BaseModel):
    status: Annotated[str, Field(examples=["ready"])]
    parts: Annotated[dict[str, str], Field(examples=[{"database": "ok", "worker": "ok"}])]
    """Each part of this process: `ok`, or what is wrong with it."""


class NotReady(Problem):
    parts: Annotated[
        dict[str, str],
        Field(examples=[{"database": "ok", "worker": "it is not connected to the broker"}]),
    ]


@probes.get("/healthz")
def healthy() -> Health:
    """The process runs."""
    return Health(status="alive")


@probes.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"description": "Not ready", "model": NotReady}},
)
def ready(cloud: TheCloud) -> Response:
    """Whether every part of this process does its work: the database answers and has the right
    tables, the worker hears the appliances, the threads run, and nobody told it to stop."""
    found = (cloud.readiness or Readiness(cloud.database)).look()
    if is_well(found):
        return JSONResponse({"status": "ready", "parts": found})
    wrong = [f"{name}: {state}" for name, state in found.items() if state != WELL]
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_ready",
        "A part of this server does not do its work: " + "; ".join(wrong) + ".",
        "Mend what is named, or ask another server.",
        extra={"parts": dict(found)},
    )


class Jwk(BaseModel):
    kty: Annotated[str, Field(examples=["EC"])]
    crv: Annotated[str, Field(examples=["P-256"])]
    use: Annotated[str, Field(examples=["sig"])]
    alg: Annotated[str, Field(examples=["ES256"])]
    kid: str
    x: Annotated[str, Field(examples=["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"])]
    y: Annotated[str, Field(examples=["x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"])]


class JwkSet(BaseModel):
    keys: list[Jwk]


class _JwkSetResponse(JSONResponse):
    media_type = "application/jwk-set+json"


@router.get("/.well-known/jwks.json", response_model=JwkSet, response_class=_JwkSetResponse)
def public_keys(cloud: TheCloud) -> Response:
    """The public keys (JWK set, RFC 7517) of replies, policies, badges, tickets, audit checkpoints
    and wallet QRs: those that sign and those that signed before."""
    named = {kid: key for role in _PUBLISHED for kid, key in cloud.keys.public(role).items()}
    for event_id in cloud.keys.wallet_events():
        for each in cloud.keys.known_wallets(event_id):
            key = public_key_from_text(each.spki)
            assert key is not None, "a key of our own"
            named[KeyId(each.kid)] = key
    return _JwkSetResponse(
        {"keys": [_jwk(kid, key) for kid, key in named.items()]},
        headers={"Cache-Control": "public, max-age=300"},
    )


def _jwk(kid: KeyId, key: PublicKey) -> dict[str, Any]:
    """RFC 7518 section 6.2."""
    point = key.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": kid,
        "x": to_base64url(point.x.to_bytes(32, "big")),
        "y": to_base64url(point.y.to_bytes(32, "big")),
    }
