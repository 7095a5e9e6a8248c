"""The attendee's own wallet: sign in, look, show a QR."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.access import SignedInAttendee, cookie_name, session_token, set_session_cookie
from cloud.api.context import TheCloud
from cloud.api.forms import MoneyView
from cloud.api.problems import ProblemError, answers
from cloud.operations.issue_token import LIFETIME_S, issue_token
from cloud.operations.read_wallet import Entry, read_wallet
from cloud.operations.refusals import Refusal
from cloud.operations.sign_in_attendee import exchange_link, sign_out
from protocol.ids import EventId

router = APIRouter(prefix="/v1", tags=["wallet"])


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    link: Annotated[str, Field(max_length=100, examples=["rxl_..."])]
    """What stands behind `#sign-in=` in the link."""
    bearer: bool = False
    """For programs: answer with a bearer token instead of a cookie."""


class SignedIn(BaseModel):
    expires_at_ms: int
    bearer: str | None = None
    """Shown this once, where it was asked for."""


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


@router.post("/session", responses=answers(403, 422))
def sign_in(body: SignIn, response: Response, cloud: TheCloud) -> SignedIn:
    """Exchange a sign-in link, once, for a session: an HttpOnly cookie or a bearer token."""
    session = exchange_link(cloud.database, body.link, cloud.clock())
    if isinstance(session, Refusal):
        raise ProblemError(session)
    if not body.bearer:
        set_session_cookie(response, session, cloud.public_url)
    return SignedIn(
        expires_at_ms=int(session.expires_at.timestamp() * 1000),
        bearer=session.token if body.bearer else None,
    )


@router.delete("/session", status_code=HTTPStatus.NO_CONTENT)
def end_session(request: Request, response: Response, cloud: TheCloud) -> None:
    """Sign out; doing so twice changes nothing."""
    token = session_token(request, cloud.public_url)
    if token:
        sign_out(cloud.database, token, cloud.clock())
    response.delete_cookie(cookie_name(cloud.public_url), path="/")


@router.get("/wallet", responses=answers(401))
def wallet(attendee: SignedInAttendee, cloud: TheCloud) -> WalletAnswer:
    """Balances, open events and the latest transactions."""
    view = read_wallet(cloud.database, attendee, cloud.clock())
    return WalletAnswer(
        balances=[MoneyView.of(balance) for balance in view.balances],
        events=[
            OpenEventView(
                id=each.event_id, name=each.name, currency=each.currency, locale=each.locale
            )
            for each in view.events
        ],
        recent=[EntryView.of(entry) for entry in view.recent],
        top_up=cloud.provider is not None,
    )


@router.get("/wallet/changes", responses=answers(401), response_class=StreamingResponse)
def changes(attendee: SignedInAttendee, cloud: TheCloud) -> StreamingResponse:
    """Server-sent events: `changed` at once, and whenever the wallet did."""
    return StreamingResponse(
        cloud.changes.stream(attendee.row_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/wallet/qr", responses=answers(401, 404, 409, 422))
def wallet_qr(body: QrRequest, attendee: SignedInAttendee, cloud: TheCloud) -> QrAnswer:
    """A fresh payment code for one event: 90 s, one sale. Nothing is written down."""
    published = issue_token(
        cloud.database, cloud.keys, attendee, EventId(body.event_id), cloud.clock()
    )
    if isinstance(published, Refusal):
        raise ProblemError(published)
    return QrAnswer(
        event_id=published.event_id,
        token=published.jws,
        digits=published.digits,
        lifetime_s=LIFETIME_S,
        expires_at_ms=published.expires_at_s * 1000,
    )
