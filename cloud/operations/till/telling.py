"""Tells whoever watches what became of each appliance's request: a line each, and the counts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from cloud.ledger.decisions import Decision
from cloud.logs import write_lines
from cloud.metrics import (
    OFFLINE_DOUBLE_SPENDS,
    OFFLINE_POSTINGS,
    OFFLINE_SHORTFALL,
    POS_BATCH,
    POS_DURATION,
    POS_REFUSED,
    POS_REQUESTS,
    POS_UNANSWERED,
    QUARANTINES,
)
from cloud.operations.till.opening import Opened, Unreadable, Unverified
from protocol.messages import Declined, Outcome, PostedOffline, kind_of

_Told = tuple[Opened, Outcome | None]


def tell_batch(
    batch: Sequence[Opened], decisions: Sequence[Decision | None], now: datetime
) -> None:
    """What was decided of each, or None where nothing can be said."""
    POS_BATCH.observe(len(batch))
    for decision in decisions:
        if decision is not None:
            _count_what_matters(decision)
    answers = [None if each is None else each.answer for each in decisions]
    _tell(list(zip(batch, answers, strict=True)), now)


def _count_what_matters(decision: Decision) -> None:
    if decision.quarantine is not None:
        QUARANTINES.labels(decision.quarantine.value).inc()
    # The same answer a second time posts nothing.
    if decision.posting is not None and isinstance(decision.answer, PostedOffline):
        OFFLINE_POSTINGS.inc()
        short_in_cents = decision.answer.short_in_cents
        OFFLINE_SHORTFALL.labels(decision.answer.amount.currency).inc(short_in_cents)
        if decision.answer.token_seen_before:
            OFFLINE_DOUBLE_SPENDS.inc()


def tell_alone(opened: Opened, outcome: Outcome | None, now: datetime) -> None:
    _tell([(opened, outcome)], now)


def tell_refused(refused: Iterable[Unreadable | Unverified]) -> None:
    """What nobody's appliance signed, or signed and meant nothing that we know."""
    for each in refused:
        POS_REFUSED.labels(each.reason.value).inc()


def _tell(told: Sequence[_Told], now: datetime) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for opened, outcome in told:
        if outcome is None:
            POS_UNANSWERED.inc()
        else:
            counts[kind_of(opened.request), _name(outcome)] += 1
            POS_DURATION.observe(_waited_s(opened, now))
    for (kind, name), count in counts.items():
        POS_REQUESTS.labels(kind, name).inc(count)
    write_lines("cloud.pos", "answered", now, _lines(told, now))


def _lines(told: Sequence[_Told], now: datetime) -> Iterator[Mapping[str, object]]:
    for opened, outcome in told:
        request = opened.request
        line: dict[str, object] = {
            "device_id": request.device_id,
            "kind": kind_of(request),
            "key": request.key,
            "outcome": "unanswered" if outcome is None else _name(outcome),
            "ms": round(_waited_s(opened, now) * 1000),
        }
        # From the till's journal through this line to the ledger: one purchase, one id.
        for name, holder in (("correlation_id", request), ("transaction_id", outcome)):
            value = getattr(holder, name, None)
            if value is not None:
                line[name] = value
        yield line


def _waited_s(opened: Opened, now: datetime) -> float:
    return max(0.0, (now - opened.arrived.arrived_at).total_seconds())


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, Declined):
        return outcome.reason.value
    return str(outcome.__struct_config__.tag)
