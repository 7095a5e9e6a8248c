"""Reports for the console: the ledger as files and pages, and what each stall is owed."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, NotRequired, TypedDict, Unpack
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, AwareDatetime

from cloud.access.roles import Grant, Holder, Role
from cloud.api.access import Allowed
from cloud.api.context import Cloud, TheCloud
from cloud.api.forms import Cursor, Limit, Slug, SlugInPath
from cloud.api.problems import ProblemError, answers
from cloud.api.report_views import (
    EventSettlementView,
    StallSettlementView,
    TransactionsPage,
    TransactionView,
)
from cloud.api.streams import BlocksResponse
from cloud.ledger.postings import TransactionType
from cloud.operations.refusals import Code, Refusal
from cloud.reports.export import Format, export
from cloud.reports.note import note_export
from cloud.reports.settlement import EventSettlement, settle_event, stall_of
from cloud.reports.settlement_csv import settlement_csv
from cloud.reports.snapshot import snapshot
from cloud.reports.transactions import (
    Place,
    Position,
    Selection,
    Tally,
    knows_event,
    newest_transactions,
)
from protocol.encoding import from_base64url, to_base64url
from protocol.ids import EventId, StallId

router = APIRouter(prefix="/v1/console", tags=["reports"])

_EXPORTERS: Final = (Role.FINANCE, Role.STALL_OWNER)
_SETTLERS: Final = (Role.FINANCE, Role.SUPERVISOR)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


_TIME_BYTES: Final = 8
_MICROSECONDS_MAX: Final = (_LATEST - _EPOCH) // timedelta(microseconds=1)


class _Asked(TypedDict):
    """What a request names of a `Selection`."""

    since: datetime | None
    until: datetime | None
    type: TransactionType | None
    event_id: EventId | None
    stall_id: StallId | None
    transaction_id: NotRequired[UUID | None]
    reference: NotRequired[str | None]
    correlation_id: NotRequired[str | None]


class SettlementFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


def _within_reason(moment: datetime) -> datetime:
    """No ledger of ours is older or lives longer, and databases know fewer years than clients."""
    if moment.year < _EARLIEST.year:
        return _EARLIEST
    return moment if moment.year < _LATEST.year else _LATEST


_Moment = Annotated[AwareDatetime, AfterValidator(_within_reason)]
_From = Annotated[
    _Moment | None,
    Query(alias="from", description="With its offset, as 2026-06-20T00:00:00Z."),
]
_Until = Annotated[_Moment | None, Query(description="Not itself.")]
_Type = Annotated[TransactionType | None, Query()]
_Text = Annotated[str | None, Query(pattern=r"^[ -~]{1,200}$")]
_SlugAsked = Annotated[Slug | None, Query()]


@router.get(
    "/exports/transactions",
    # FastAPI reads it from the class otherwise, which has none.
    status_code=200,
    response_class=BlocksResponse,
    responses={
        200: {
            "description": "The file.",
            "content": {each.media_type.partition(";")[0]: {} for each in Format},
        },
        **answers(401, 403, 404, 422),
    },
)
def export_transactions(
    holder: Annotated[Holder, Depends(Allowed(*_EXPORTERS))],
    cloud: TheCloud,
    *,
    form: Annotated[Format, Query(alias="format")] = Format.CSV,
    since: _From = None,
    until: _Until = None,
    type: _Type = None,  # noqa: A002  # its name in the address
    event_id: _SlugAsked = None,
    stall_id: _SlugAsked = None,
) -> Response:
    """Transactions as a file, by time and then id: where the asker has the role, nowhere else.

    A stall's owner gets their stall's, without whose wallets they were. In CSV an apostrophe
    stands before text that a spreadsheet would take for a formula. A file that breaks off is not
    complete: the connection ends with an error then.
    """
    selection = _selection(
        cloud,
        holder,
        _EXPORTERS,
        since=since,
        until=until,
        type=type,
        event_id=None if event_id is None else EventId(event_id),
        stall_id=None if stall_id is None else StallId(stall_id),
    )
    now = cloud.clock()
    note_export(cloud.database, holder.subject, selection, form, now)
    name = f"transactions-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.{form.value}"
    return BlocksResponse(
        export(cloud.database, selection, form, Tally()),
        form.media_type,
        {"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/transactions", responses=answers(401, 403, 404, 422))
def transactions(
    holder: Annotated[Holder, Depends(Allowed(Role.FINANCE))],
    cloud: TheCloud,
    *,
    since: _From = None,
    until: _Until = None,
    type: _Type = None,  # noqa: A002  # its name in the address
    event_id: _SlugAsked = None,
    stall_id: _SlugAsked = None,
    transaction_id: Annotated[UUID | None, Query()] = None,
    reference: _Text = None,
    correlation_id: _Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> TransactionsPage:
    """To look one up: by its id, what a receipt says, or where and when it was. Newest first."""
    selection = _selection(
        cloud,
        holder,
        (Role.FINANCE,),
        since=since,
        until=until,
        type=type,
        event_id=None if event_id is None else EventId(event_id),
        stall_id=None if stall_id is None else StallId(stall_id),
        transaction_id=transaction_id,
        reference=reference,
        correlation_id=correlation_id,
    )
    before = None if cursor is None else _position(cursor)
    with snapshot(cloud.database) as connection:
        found = newest_transactions(connection, selection, before, limit + 1)
    page = found[:limit]
    return TransactionsPage(
        transactions=[TransactionView.model_validate(each) for each in page],
        next_cursor=_cursor(page[-1].created_at, page[-1].id) if len(found) > limit else None,
    )


_SETTLEMENT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "As JSON, or as CSV where asked for.", "content": {"text/csv": {}}},
    **answers(401, 403, 404, 422),
}


@router.get(
    "/events/{event_id}/settlement",
    response_model=EventSettlementView,
    responses=_SETTLEMENT_ANSWERS,
)
def event_settlement(
    event_id: SlugInPath,
    holder: Annotated[Holder, Depends(Allowed(*_SETTLERS))],
    cloud: TheCloud,
    form: Annotated[SettlementFormat, Query(alias="format")] = SettlementFormat.JSON,
) -> EventSettlementView | Response:
    """What the event took, stall by stall, and its tickets: adds up to the ledger to the cent."""
    if not _holds_whole_event(holder, EventId(event_id)):
        raise ProblemError(_not_there(holder))
    settled = _settled(cloud, EventId(event_id))
    if form is SettlementFormat.CSV:
        return _csv(settlement_csv(settled), f"settlement-{event_id}.csv")
    return EventSettlementView.model_validate(settled)


@router.get(
    "/events/{event_id}/stalls/{stall_id}/settlement",
    response_model=StallSettlementView,
    responses=_SETTLEMENT_ANSWERS,
)
def stall_settlement(
    event_id: SlugInPath,
    stall_id: SlugInPath,
    _holder: Annotated[Holder, Depends(Allowed(*_SETTLERS, Role.STALL_OWNER))],
    cloud: TheCloud,
    form: Annotated[SettlementFormat, Query(alias="format")] = SettlementFormat.JSON,
) -> StallSettlementView | Response:
    """What one stall took, by product and by hour; its owner may see this and no other."""
    settled = _settled(cloud, EventId(event_id))
    stall = stall_of(settled, StallId(stall_id))
    if stall is None:
        raise ProblemError(
            Refusal(
                Code.STALL_UNKNOWN,
                f"There is no stall {stall_id!r} at {event_id!r}.",
                "Compare it with the event's list of stalls.",
            )
        )
    if form is SettlementFormat.CSV:
        return _csv(settlement_csv(settled, stall), f"settlement-{event_id}-{stall_id}.csv")
    return StallSettlementView.of(settled, stall)


def _selection(
    cloud: Cloud, holder: Holder, roles: Collection[Role], **asked: Unpack[_Asked]
) -> Selection:
    """What is asked for, and no more of it than the roles' own events and stalls."""
    event_id, stall_id = asked["event_id"], asked["stall_id"]
    if event_id is not None:
        if not holder.may(roles, event_id, stall_id):
            raise ProblemError(_not_there(holder))
        with cloud.database.reading() as connection:
            if not knows_event(connection, event_id):
                raise ProblemError(_unknown_event(event_id))
    granted = [grant for grant in holder.grants if grant.role in roles and _is_whole(grant)]
    everywhere = any(grant.event_id is None for grant in granted)
    places = tuple(
        Place(grant.event_id, grant.stall_id) for grant in granted if grant.event_id is not None
    )
    return Selection(
        **asked,
        within=None if everywhere else places,
        shows_users=everywhere or all(grant.role is not Role.STALL_OWNER for grant in granted),
    )


def _is_whole(grant: Grant) -> bool:
    """Whether it says where: a stall has its event, and a stall's owner has a stall."""
    if grant.stall_id is None:
        return grant.role is not Role.STALL_OWNER
    return grant.event_id is not None


def _holds_whole_event(holder: Holder, event_id: EventId) -> bool:
    """A role at one stall says nothing of the others."""
    return any(
        grant.role in _SETTLERS and grant.event_id in {None, event_id} and grant.stall_id is None
        for grant in holder.grants
    )


def _not_there(holder: Holder) -> Refusal:
    return Refusal(
        Code.NOT_ALLOWED,
        f"{holder.subject} does not have the role for this there.",
        "Ask an admin for the role.",
    )


def _unknown_event(event_id: EventId) -> Refusal:
    return Refusal(
        Code.EVENT_UNKNOWN, f"There is no event {event_id!r}.", "Look its id up; it never changes."
    )


def _settled(cloud: Cloud, event_id: EventId) -> EventSettlement:
    settled = settle_event(cloud.database, event_id, cloud.clock())
    if settled is None:
        raise ProblemError(_unknown_event(event_id))
    return settled


def _csv(content: bytes, name: str) -> Response:
    return Response(
        content,
        media_type=Format.CSV.media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _cursor(created_at: datetime, transaction_id: UUID) -> str:
    microseconds = (created_at - _EPOCH) // timedelta(microseconds=1)
    return to_base64url(microseconds.to_bytes(_TIME_BYTES, "big") + transaction_id.bytes)


def _position(cursor: str) -> Position:
    raw = from_base64url(cursor.encode())
    microseconds = 0 if raw is None else int.from_bytes(raw[:_TIME_BYTES], "big")
    if raw is None or len(raw) != _TIME_BYTES + 16 or microseconds > _MICROSECONDS_MAX:
        raise ProblemError(
            Refusal(
                Code.CURSOR_UNKNOWN, "There is no such page.", "Begin with the first: leave it out."
            )
        )
    return Position(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=raw[_TIME_BYTES:]))
