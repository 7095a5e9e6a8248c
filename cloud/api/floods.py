"""What comes too often is refused cheaply, and recorded by the power of ten instead of each."""

from math import ceil

from fastapi import Request

from cloud.access.pace import Wait
from cloud.api.context import Cloud
from cloud.api.limits import Limited
from cloud.api.problems import ProblemError
from cloud.operations.people.limited import is_worth_a_record, record_limited
from cloud.operations.refusals import Code, Refusal


def spend(cloud: Cloud, limited: Limited, request: Request) -> None:
    """Each of these costs something: count it. Raises ProblemError where there were too many."""
    refusal = count_failure(cloud, limited, request)
    if refusal is not None:
        raise ProblemError(refusal)


def stop_flood(cloud: Cloud, limited: Limited, request: Request) -> None:
    """Before a costly look at a secret: raises ProblemError for whoever failed too often."""
    if cloud.limits.is_spent(limited, cloud.limits.client_of(request)):
        spend(cloud, limited, request)


def count_failure(cloud: Cloud, limited: Limited, request: Request) -> Refusal | None:
    """Count one failure. None: refuse as ever; otherwise there were too many: say this, and write
    no record of this one."""
    client = cloud.limits.client_of(request)
    wait = cloud.limits.take(limited, client)
    if wait is None:
        return None
    if is_worth_a_record(wait.refused):
        record_limited(cloud.database, limited.value, client, wait.refused, cloud.clock())
    return too_often(wait)


def too_often(wait: Wait) -> Refusal:
    wait_s = max(1, ceil(wait.seconds))
    return Refusal(
        Code.TOO_MANY_REQUESTS,
        "This comes too often.",
        f"Ask again in {wait_s} s.",
        retry_after_s=wait_s,
    )
