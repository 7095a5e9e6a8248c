"""For whoever watches the server and whoever checks its signatures: health and public keys."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cloud.api.context import TheCloud
from cloud.api.problems import answers, problem
from cloud.keys import KeyRole
from protocol.encoding import public_key_from_text, to_base64url
from protocol.ids import KeyId
from protocol.signing import PublicKey

_PUBLISHED: Final[tuple[KeyRole, ...]] = ("reply", "policy", "badge", "ticket", "checkpoint")

router = APIRouter(tags=["server"])


class Health(BaseModel):
    status: str


@router.get("/healthz")
def healthy() -> Health:
    """The process runs."""
    return Health(status="alive")


@router.get("/readyz", response_model=Health, responses=answers(503))
def ready(cloud: TheCloud) -> Response:
    """The database answers, and the worker (where this process has one) hears the appliances."""
    try:
        with cloud.database.reading() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return _not_ready("The database does not answer.", "Start it, or mend its address.")
    if not cloud.is_worker_ready():
        return _not_ready("The worker is not connected to the broker.", "Look at its log.")
    return JSONResponse({"status": "ready"})


@router.get("/.well-known/jwks.json")
def public_keys(cloud: TheCloud) -> JSONResponse:
    """The public keys (JWK set, RFC 7517) of replies, policies, badges, tickets, audit checkpoints
    and wallet QRs: those that sign and those that signed before."""
    named = {kid: key for role in _PUBLISHED for kid, key in cloud.keys.public(role).items()}
    for event_id in cloud.keys.wallet_events():
        for each in cloud.keys.known_wallets(event_id):
            key = public_key_from_text(each.spki)
            assert key is not None, "a key of our own"
            named[each.kid] = key
    return JSONResponse(
        {"keys": [_jwk(kid, key) for kid, key in named.items()]},
        headers={"Cache-Control": "public, max-age=300"},
        media_type="application/jwk-set+json",
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


def _not_ready(detail: str, next_step: str) -> JSONResponse:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", detail, next_step)
