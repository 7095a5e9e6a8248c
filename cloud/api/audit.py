"""The audit log over HTTP: its newest checkpoint for anyone, records and proofs for the console."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from cloud.access.roles import Holder, Role
from cloud.api.access import Allowed
from cloud.api.context import TheCloud
from cloud.api.forms import Cursor, Limit
from cloud.api.problems import ProblemError, answers
from cloud.operations.proof.read_audit_log import (
    RecordFilter,
    prove_transaction,
    read_newest_checkpoint,
    read_records,
)
from cloud.operations.refusals import Refusal
from protocol.checkpoint import read_checkpoint

router = APIRouter(tags=["audit"])

_READERS = frozenset({Role.ADMIN})
_PROVERS = frozenset({Role.ADMIN, Role.FINANCE})
_PROOF_FORM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The proof file: keep it byte for byte.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class CheckpointAnswer(BaseModel):
    """The tree as it was signed. Keep `jws`: it shows a later roll-back."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "epoch": 1,
                    "size": 10452,
                    "root": "XdnaeacGWammrVWctwHe2aKauCOq0vSWDP43Dv9gQyg",
                    "origin": "0197a3c2-5f00-7c3a-9d51-2f6b8e0c4a17",
                    "at": "2026-06-20T18:00:05Z",
                    "jws": "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
                }
            ]
        }
    )

    epoch: int
    size: int
    root: str
    """RFC 6962 section 2.1, base64url."""
    origin: str
    """The id of the epoch's first record."""
    at: datetime
    jws: str


class LeafView(BaseModel):
    epoch: int
    position: int


class RecordView(BaseModel):
    """Who, what, when, from which device."""

    id: UUID
    at: datetime
    actor: str
    action: str
    outcome: str
    device_id: str | None
    event_id: str | None
    user_id: UUID | None
    subject: str | None
    request_hash: str | None
    detail: dict[str, Any] | None
    leaf: LeafView | None
    """Where it is in the tree; none: not yet."""


class RecordsAnswer(BaseModel):
    records: list[RecordView]
    next_cursor: str | None = Field(description="None: this is the last page.")


# PostgreSQL refuses NUL.
Named = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _of_our_time(at: datetime) -> datetime:
    """Near the ends of the calendar a zone's offset leads out of it."""
    if not 2000 <= at.year < 2200:
        raise ValueError("not a time at which anything was recorded")
    return at


Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)] | None


@router.get("/v1/audit/checkpoint", responses=answers(404))
def checkpoint(cloud: TheCloud) -> CheckpointAnswer:
    """The newest signed checkpoint of the audit log, for whoever wants to keep it."""
    token = read_newest_checkpoint(cloud.database)
    if isinstance(token, Refusal):
        raise ProblemError(token)
    said = read_checkpoint(token)
    assert said is not None, "our own checkpoint"
    return CheckpointAnswer(
        epoch=said.epoch,
        size=said.size,
        root=said.root,
        origin=said.origin,
        at=datetime.fromtimestamp(said.at_ms / 1000, tz=UTC),
        jws=token,
    )


@router.get("/v1/console/audit/records", responses=answers(401, 403, 422))
def records(
    *,
    holder: Annotated[Holder, Depends(Allowed(*_READERS))],
    cloud: TheCloud,
    actor: Named = None,
    action: Named = None,
    outcome: Named = None,
    device_id: Named = None,
    event_id: Named = None,
    user_id: UUID | None = None,
    subject: Named = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> RecordsAnswer:
    """Audit records, the newest first."""
    wanted = RecordFilter(
        actor=actor,
        action=action,
        outcome=outcome,
        device_id=device_id,
        event_id=event_id,
        user_id=user_id,
        subject=subject,
        since=since,
        until=until,
    )
    page = read_records(cloud.database, wanted, holder.events(_READERS), limit, cursor)
    if isinstance(page, Refusal):
        raise ProblemError(page)
    return RecordsAnswer(
        records=[
            RecordView(
                leaf=None
                if row.position is None
                else LeafView(epoch=row.epoch, position=row.position),
                **{name: getattr(row, name) for name in RecordView.model_fields if name != "leaf"},
            )
            for row in page.rows
        ],
        next_cursor=page.next_cursor,
    )


@router.get(
    "/v1/console/audit/proofs/{transaction_id}",
    responses=answers(401, 403, 404, 409, 422) | _PROOF_FORM,
    response_class=Response,
)
def proof(
    transaction_id: UUID,
    holder: Annotated[Holder, Depends(Allowed(*_PROVERS))],
    cloud: TheCloud,
) -> Response:
    """The proof that the tree has this transaction; `railtix-cloud audit check` takes the file."""
    written = prove_transaction(cloud.database, cloud.keys, transaction_id, holder.events(_PROVERS))
    if isinstance(written, Refusal):
        raise ProblemError(written)
    return Response(
        written,
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{transaction_id}.proof.json"'},
    )
