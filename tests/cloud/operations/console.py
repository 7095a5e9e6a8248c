"""People at the console, and many of them asking at once."""

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from cloud.access.roles import Grant, Holder, Role
from cloud.operations.desk.decide_approval import decide_approval
from cloud.operations.desk.end_review import Ending, end_review
from cloud.operations.desk.refund_sale import refund_sale
from cloud.operations.refusals import Code, Refusal
from protocol.ids import DeviceId, EventId, IdempotencyKey
from protocol.messages import Deduct, OfflineAcceptance
from tests.cloud.floor import EVENT, Floor, eur

SUE = Holder("console:sue", (Grant(Role.SUPERVISOR, EVENT),))
TOM = Holder("console:tom", (Grant(Role.SUPERVISOR),))
FAY = Holder("console:fay", (Grant(Role.FINANCE, EVENT),))
GUS = Holder("console:gus", (Grant(Role.FINANCE),))
ELSEWHERE = Holder("console:eli", (Grant(Role.SUPERVISOR, EventId("winter-fair")),))


def new_key() -> IdempotencyKey:
    return IdempotencyKey(secrets.token_urlsafe(16))


def refund_at_desk(
    floor: Floor,
    sale: Deduct | OfflineAcceptance,
    cents: int | None = None,
    /,
    holder: Holder = SUE,
    key: IdempotencyKey | None = None,
) -> Any:
    return refund_sale(
        floor.database,
        (DeviceId(sale.device_id), IdempotencyKey(sale.key)),
        None if cents is None else eur(cents),
        reason="receipt seen",
        holder=holder,
        key=key or new_key(),
        now=floor.now(),
    )


def decide(
    floor: Floor,
    approval_id: UUID | str,
    holder: Holder,
    *,
    grant: bool = True,
    key: IdempotencyKey | None = None,
) -> Any:
    return decide_approval(
        floor.database,
        UUID(str(approval_id)),
        grant=grant,
        reason="looked into it",
        holder=holder,
        key=key or new_key(),
        now=floor.now(),
    )


def end(
    floor: Floor,
    review_id: UUID | str,
    ending: Ending,
    holder: Holder = SUE,
    key: IdempotencyKey | None = None,
) -> Any:
    return end_review(
        floor.database,
        floor.keys,
        UUID(str(review_id)),
        ending,
        reason="asked the stall",
        holder=holder,
        key=key or new_key(),
        now=floor.now(),
    )


def refuses(answer: object, code: Code) -> None:
    assert isinstance(answer, Refusal), answer
    assert answer.code is code


def at_once(deeds: Sequence[Callable[[], object]]) -> list[object]:
    answers: list[object] = []
    start = threading.Barrier(len(deeds))

    def do(deed: Callable[[], object]) -> None:
        start.wait()
        answers.append(deed())

    threads = [threading.Thread(target=do, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
