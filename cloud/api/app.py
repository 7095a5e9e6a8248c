"""The HTTP edge put together: one application, its routes, its defences, its description."""

from typing import Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cloud.api import health, ops, pages, pos, problems, topups, wallet
from cloud.api.context import Cloud
from cloud.api.defences import Defences
from cloud.pages import STATIC

_DESCRIPTION: Final = """Credits for events.

Money is integer cents with an ISO 4217 currency. Every refusal is a problem document (RFC 9457)
whose `code` never changes and whose `next_step` says what to do. Whatever moves money takes an
`Idempotency-Key`: the same key with the same content gets the same answer."""


def make_app(cloud: Cloud) -> ASGIApp:
    app = FastAPI(
        title="RailTix Credits",
        version="1",
        summary="Wallets, top-ups and the appliances at the stalls",
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from elsewhere, which our own policy forbids.
        docs_url=None,
        redoc_url=None,
    )
    app.state.cloud = cloud
    problems.install(app)
    for each in (wallet, topups, pos, ops, health, pages):
        app.include_router(each.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return Defences(app, is_https=cloud.public_url.startswith("https://"))
