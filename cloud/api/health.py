"""For whoever watches the server and whoever checks its signatures: health and public keys."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cloud.api.context import TheCloud
from cloud.api.problems import answers, problem
from cloud.keys import SigningKey
from protocol.encoding import to_base64url

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
    """The public keys (JWK set, RFC 7517) of replies, policies, badges and every wallet QR."""
    keys = [cloud.keys.reply, cloud.keys.policy, cloud.keys.badge, *cloud.keys.wallets()]
    return JSONResponse(
        {"keys": [_jwk(key) for key in keys]},
        headers={"Cache-Control": "public, max-age=300"},
        media_type="application/jwk-set+json",
    )


def _jwk(key: SigningKey) -> dict[str, Any]:
    """RFC 7518 section 6.2."""
    point = key.private.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
        "kid": key.kid,
        "x": to_base64url(point.x.to_bytes(32, "big")),
        "y": to_base64url(point.y.to_bytes(32, "big")),
    }


def _not_ready(detail: str, next_step: str) -> JSONResponse:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", detail, next_step)
