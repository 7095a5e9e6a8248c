"""The attendee's own wallet: look, watch, show a QR."""

import hashlib
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.access import PresentedSession, SignedInAttendee, nobody_signed_in
from cloud.api.context import TheCloud, cloud_of
from cloud.api.floods import too_often
from cloud.api.forms import Cursor, Limit, MoneyView
from cloud.api.limits import Limited
from cloud.api.phone_route import PhoneRoute
from cloud.api.phones import phones_of
from cloud.api.problems import ProblemError, answers
from cloud.operations.issue_token import LIFETIME_S, issue_token
from cloud.operations.read_wallet import Entry, read_history
from cloud.operations.refusals import Code, Refusal
from protocol.encoding import to_base64url
from protocol.ids import EventId

router = APIRouter(prefix="/v1", tags=["wallet"], route_class=PhoneRoute)


class OpenEventView(BaseModel):
    id: str
    name: str
    currency: str
    locale: str


class EntryView(BaseModel):
    id: str
    type: Annotated[str, Field(examples=["Purchase", "Deduct", "Refund", "Adjustment"])]
    direction: Annotated[str, Field(examples=["in", "out"])]
    amount: MoneyView
    title: Annotated[str, Field(examples=["Bar North"])]
    place: str | None
    reference: str
    at_ms: int

    @classmethod
    def of(cls, entry: Entry) -> "EntryView":
        return cls(
            id=str(entry.id),
            type=entry.type,
            direction=entry.direction,
            amount=MoneyView.of(entry.amount),
            title=entry.title,
            place=entry.place,
            reference=entry.reference,
            at_ms=int(entry.at.timestamp() * 1000),
        )


class WalletAnswer(BaseModel):
    balances: list[MoneyView]
    """One a currency; negative where an offline sale took more than was there."""
    events: list[OpenEventView]
    recent: list[EntryView]
    """Newest first."""
    top_up: bool
    """Whether Credits can be bought here."""


class HistoryPage(BaseModel):
    transactions: list[EntryView]
    """Newest first."""
    next_cursor: str | None


class QrRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_id: Annotated[str, Field(max_length=40, examples=["harbour-festival"])]


class QrAnswer(BaseModel):
    event_id: str
    token: str
    """The signed token (JWS): good for one sale."""
    digits: str
    """The same as digit pairs: draw these in the QR's numeric mode, level M."""
    lifetime_s: int
    expires_at_ms: int


# First, since addresses are tried in their order: a hundred thousand phones ask for these two.


@router.post("/wallet/qr", response_model=QrAnswer, responses=answers(401, 404, 409, 422, 429))
async def wallet_qr(body: QrRequest, request: Request, session: PresentedSession) -> Response:
    """A fresh payment code for one event: 90 s, one sale. Nothing is written down."""
    cloud, event_id = cloud_of(request), EventId(body.event_id)
    payer = await phones_of(request).payers.ask((session, event_id)) if session else None
    if payer is None:
        raise await nobody_signed_in(request, session)
    wait = cloud.limits.take(Limited.WALLET_QR, payer.user_id)
    if wait is not None:
        raise ProblemError(too_often(wait))
    published = issue_token(cloud.keys, payer, event_id, cloud.clock())
    if isinstance(published, Refusal):
        raise ProblemError(published)
    answer = QrAnswer(
        event_id=published.event_id,
        token=published.jws,
        digits=published.digits,
        lifetime_s=LIFETIME_S,
        expires_at_ms=published.expires_at_s * 1000,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get(
    "/wallet",
    response_model=WalletAnswer,
    responses={304: {"description": "As it was."}, **answers(401, 429)},
)
async def wallet(request: Request, session: PresentedSession) -> Response:
    """Balances, open events and the latest transactions.

    Send the `ETag` of the last answer as `If-None-Match`: 304 where nothing changed.
    """
    view = await phones_of(request).wallets.ask(session) if session else None
    if view is None:
        raise await nobody_signed_in(request, session)
    answer = WalletAnswer(
        balances=[MoneyView.of(balance) for balance in view.balances],
        events=[
            OpenEventView(
                id=each.event_id, name=each.name, currency=each.currency, locale=each.locale
            )
            for each in view.events
        ],
        recent=[EntryView.of(entry) for entry in view.recent],
        top_up=cloud_of(request).provider is not None,
    )
    content = answer.model_dump_json().encode()
    etag = f'"{to_base64url(hashlib.sha256(content).digest()[:16])}"'
    if etag in _tags(request.headers.getlist("if-none-match")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return Response(content, media_type="application/json", headers={"ETag": etag})


def _tags(headers: list[str]) -> set[str]:
    """RFC 9110 section 13.1.2: several may be named, and weak ones compare as strong ones do."""
    return {tag.strip().removeprefix("W/") for each in headers for tag in each.split(",")}


@router.get("/wallet/transactions", responses=answers(401, 422, 429))
def history(
    attendee: SignedInAttendee, cloud: TheCloud, limit: Limit = 50, cursor: Cursor = None
) -> HistoryPage:
    """Every transaction of the attendee's own, newest first."""
    before = None if cursor is None else _before(cursor)
    found = read_history(cloud.database, attendee, before, limit + 1)
    page = found[:limit]
    return HistoryPage(
        transactions=[EntryView.of(entry) for entry in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )


def _before(cursor: str) -> UUID:
    try:
        return UUID(cursor)
    except ValueError as error:
        raise ProblemError(
            Refusal(
                Code.CURSOR_UNKNOWN, "There is no such page.", "Begin with the first: leave it out."
            )
        ) from error


@router.get(
    "/wallet/changes",
    responses={200: {"content": {"text/event-stream": {}}}, **answers(401, 429)},
    response_class=StreamingResponse,
)
def changes(attendee: SignedInAttendee, cloud: TheCloud) -> StreamingResponse:
    """Server-sent events: `changed` at once, and whenever the wallet did."""
    streams_max = cloud.limits.streams_max
    if cloud.changes.watching(attendee.row_id) >= streams_max:
        raise ProblemError(
            Refusal(
                Code.TOO_MANY_REQUESTS,
                f"{streams_max} pages of yours are watching already.",
                "Close one of them, and try again in a minute.",
                retry_after_s=60,
            )
        )
    return StreamingResponse(
        cloud.changes.stream(attendee.row_id, streams_max),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
