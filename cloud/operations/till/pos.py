"""Answers appliances: gather, decide, store; and no word leaves before its commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.keys import KeyRing
from cloud.ledger.decide import decide_batch
from cloud.ledger.decisions import Decision
from cloud.ledger.facts import BatchRequest, Presented
from cloud.operations.till.approve import approve
from cloud.operations.till.ask_at_till import ask_at_till
from cloud.operations.till.choose_pin import choose_pin
from cloud.operations.till.opening import (
    Arrived,
    Opened,
    Unreadable,
    Unverified,
    open_requests,
    present,
)
from cloud.operations.till.post_again import say_again
from cloud.operations.till.sign_in import sign_in
from cloud.operations.till.telling import tell_alone, tell_batch, tell_refused
from cloud.store.database import CommitUnknownError, Database
from cloud.store.gathering import gather_facts
from cloud.store.keeping import AuditRow, keep_decided, write_audit_records
from cloud.store.remembered import Remembered
from protocol.ids import DeviceId
from protocol.messages import (
    Approve,
    ChoosePin,
    Declined,
    HeartbeatAnswered,
    LastReceiptRequest,
    Outcome,
    Reply,
    Resubmission,
    ShiftReportRequest,
    SignIn,
    encode,
    kind_of,
)
from protocol.signing import Profile, fingerprint, sign

_TRIES_ALONE: Final = 3

_log = structlog.stdlib.get_logger("cloud.pos")


class SignedReply(msgspec.Struct, frozen=True):
    """The cloud's word, safe to send: what it says has been committed."""

    device_id: DeviceId
    jws: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing is known to stand, so nothing is said; the appliance asks again or cancels."""

    arrived: Arrived


@dataclass(frozen=True, slots=True)
class Desk:
    """What answering needs; one may serve several threads."""

    database: Database
    keys: KeyRing
    now: Callable[[], datetime]
    """The cloud's clock, UTC: the only one that counts online."""
    remembered: Remembered = field(default_factory=Remembered)
    newest_checkpoint: Callable[[], str | None] = lambda: None
    """The audit log's, for heartbeat replies; asks nobody: sales are in the same batch."""

    def sign(
        self, arrived: Arrived, device_id: DeviceId, key: str, kind: str, outcome: Outcome
    ) -> SignedReply:
        """The reply, bound to its request by key, kind and hash."""
        if isinstance(outcome, HeartbeatAnswered):
            outcome = msgspec.structs.replace(outcome, checkpoint=self.newest_checkpoint())
        now = self.now()
        waited_us = (now - arrived.arrived_at).total_seconds() * 1_000_000
        reply = Reply(
            device_id=device_id,
            key=key,
            answers=kind,
            request_hash=fingerprint(arrived.token),
            answered_at_ms=round(now.timestamp() * 1000),
            cloud_us=max(0, round(waited_us)),
            outcome=outcome,
        )
        signer = self.keys.reply
        jws = sign(Profile.REPLY, encode(reply), signer.private, signer.kid)
        return SignedReply(device_id, jws, reply)


Answer = SignedReply | Unverified | Unanswered


def answer_batch(desk: Desk, arrived: Sequence[Arrived]) -> list[Answer]:
    """An answer to each, in the same order; all that is quick in one transaction."""
    opened = open_requests(desk.database, desk.remembered, arrived)
    batch = [each for each in opened if isinstance(each, Opened) and not runs_alone(each)]
    answered: dict[Arrived, Answer] = {}
    for each, reply in zip(batch, answer_opened(desk, batch), strict=True):
        answered[each.arrived] = reply
    refused = [each for each in opened if not isinstance(each, Opened)]
    for each, answer in zip(refused, refuse(desk, refused), strict=True):
        answered[each.arrived] = answer
    for each in opened:
        if isinstance(each, Opened) and runs_alone(each):
            answered[each.arrived] = answer_alone(desk, each)
    return [answered[each.arrived] for each in opened]


def runs_alone(opened: Opened) -> bool:
    """Whether it is slow (a PIN is, on purpose; a report is), or rare (a resubmission)."""
    return not isinstance(opened.request, BatchRequest)


def answer_opened(desk: Desk, batch: Sequence[Opened]) -> list[SignedReply | Unanswered]:
    """Answer what does not run alone, in one transaction where that succeeds."""
    if not batch:
        return []
    presented = list(zip(present(desk.keys, batch), batch, strict=True))
    try:
        decisions: Sequence[Decision | None] = _commit(desk, presented)
    except Exception as error:  # noqa: BLE001  # one stall's fault must not silence the others
        _log.warning("batch_failed", requests=len(batch), error=type(error).__name__)
        decisions = _commit_each(desk, presented)
    tell_batch(batch, decisions, desk.now())
    return [
        Unanswered(each.arrived)
        if decision is None
        else desk.sign(
            each.arrived,
            each.request.device,
            each.request.key,
            kind_of(each.request),
            decision.answer,
        )
        for each, decision in zip(batch, decisions, strict=True)
    ]


def answer_alone(desk: Desk, opened: Opened) -> SignedReply | Unanswered:
    """What `runs_alone`: never on the thread that answers sales."""
    request = opened.request
    try:
        outcome = _decide_alone(desk, opened)
    except (SQLAlchemyError, CommitUnknownError) as error:
        _log.warning(
            f"{kind_of(request)}_failed", device_id=request.device_id, error=type(error).__name__
        )
        tell_alone(opened, None, desk.now())
        return Unanswered(opened.arrived)
    tell_alone(opened, outcome, desk.now())
    return desk.sign(opened.arrived, request.device, request.key, kind_of(request), outcome)


def _decide_alone(desk: Desk, opened: Opened) -> Outcome:
    match opened.request:
        case SignIn() as request:
            return sign_in(desk.database, desk.keys, opened, request)
        case ChoosePin() as request:
            return choose_pin(desk.database, desk.keys, opened, request)
        case Approve() as request:
            return approve(desk.database, desk.keys, opened, request)
        case LastReceiptRequest() | ShiftReportRequest() as request:
            return ask_at_till(desk.database, opened, request)
        case Resubmission() as request:
            return say_again(desk.database, desk.keys, opened, request)
        case request:
            raise AssertionError(f"a {kind_of(request)} is answered in a batch")


def refuse(desk: Desk, refused: Sequence[Unreadable | Unverified]) -> list[Answer]:
    """Record each; whoever signed what cannot be read is told so, nobody else gets a word."""
    if not refused:
        return []
    tell_refused(refused)
    try:
        with desk.database.transaction() as connection:
            write_audit_records(connection, [_refusal_record(each) for each in refused])
    except (SQLAlchemyError, CommitUnknownError) as error:
        _log.warning("refusals_not_recorded", error=type(error).__name__)
        return [Unanswered(each.arrived) for each in refused]
    return [
        each
        if isinstance(each, Unverified)
        else desk.sign(each.arrived, each.device_id, each.key, each.kind, Declined(each.reason))
        for each in refused
    ]


_Case = tuple[Presented, Opened]


def _commit(desk: Desk, batch: Sequence[_Case]) -> list[Decision]:
    presented = [each for each, _ in batch]
    tokens = [opened.arrived.token for _, opened in batch]
    with desk.database.transaction() as connection:
        facts = gather_facts(connection, desk.remembered, presented, desk.keys.known_wallets)

        decided = decide_batch(facts, presented)

        keep_decided(connection, facts, list(zip(presented, tokens, strict=True)), decided)
    return decided.decisions


def _commit_each(desk: Desk, batch: Sequence[_Case]) -> list[Decision | None]:
    """Each alone, so that one which fails again harms no other; none while the database is away."""
    decisions: list[Decision | None] = []
    for case in batch:
        decision = _commit_alone(desk, case)
        decisions.append(decision)
        if decision is None and not desk.database.is_reachable():
            break
    return decisions + [None] * (len(batch) - len(decisions))


def _commit_alone(desk: Desk, case: _Case) -> Decision | None:
    """One request by itself. If an earlier commit of it stands after all (its COMMIT was not
    acknowledged, or the batch's was not), the key look-up finds what it decided."""
    for _ in range(_TRIES_ALONE):
        try:
            return _commit(desk, [case])[0]
        except (SQLAlchemyError, CommitUnknownError) as error:
            _log.warning("request_failed", request=case[1].request_hash, error=type(error).__name__)
        except Exception:  # noqa: BLE001  # logged with its traceback; the appliance asks again
            _log.exception("request_met_a_bug", request=case[1].request_hash)
            return None
    return None


def _refusal_record(refused: Unreadable | Unverified) -> AuditRow:
    """What came, from whose topic, and whose certificate it named."""
    arrived = refused.arrived
    wire = "https" if arrived.device_id is None else f"topic of {arrived.device_id}"
    signed_by = refused.signed_by if isinstance(refused, Unverified) else refused.device_id
    return AuditRow(
        at=arrived.arrived_at,
        actor="unknown:request" if signed_by is None else f"device:{signed_by}",
        action="request_refused",
        outcome=refused.reason.value,
        device_id=arrived.device_id or signed_by,
        subject=refused.key if isinstance(refused, Unreadable) else None,
        request_hash=fingerprint(arrived.token),
        detail={"came_by": wire},
    )
