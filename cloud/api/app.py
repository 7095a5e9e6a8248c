"""The HTTP edge put together: one application, its routes, its defences, its description."""

from typing import Final

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cloud.api import (
    adjustments,
    approvals,
    audit,
    cash_outs,
    claims,
    console_session,
    fleet,
    health,
    leaving,
    me,
    ops,
    ops_events,
    ops_staff,
    ops_updates,
    orders,
    pages,
    people,
    pos,
    problems,
    refunds,
    reports,
    reviews,
    sign_in,
    tickets,
    topups,
    wallet,
    webhooks,
)
from cloud.api.access_document import describe_access
from cloud.api.context import Cloud
from cloud.api.defences import Defences
from cloud.api.description import describe_whole
from cloud.api.methods import Addresses, Methods
from cloud.api.phones import Phones
from cloud.api.requests import Requests
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
        # An address is one address: another slash is not found.
        redirect_slashes=False,
    )
    app.state.cloud = cloud
    app.state.phones = Phones.of(cloud)
    rooms = (
        # First: a hundred thousand phones ask here.
        wallet,
        sign_in,
        me,
        cash_outs,
        topups,
        webhooks,
        tickets,
        orders,
        pos,
        refunds,
        approvals,
        adjustments,
        reviews,
        audit,
        reports,
        ops,
        fleet,
        ops_events,
        ops_staff,
        ops_updates,
        claims,
        leaving,
        console_session,
        people,
        health,
        pages,
    )
    for each in rooms:
        app.include_router(each.router)
    app.include_router(health.probes)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    describe_access(app, cloud.public_url)
    describe_whole(app)
    routers = (*(each.router for each in rooms), health.probes)
    addresses = Addresses([*app.routes, *(route for each in routers for route in each.routes)])
    problems.install(app, addresses)
    defended = Defences(Methods(app, addresses), is_https=cloud.public_url.startswith("https://"))
    return Requests(defended, cloud.clock, writes_lines=cloud.writes_access_log)
