"""A badge's first PIN: whoever holds the badge keyed it twice, and is signed in with it."""

from sqlalchemy import Connection, update

from cloud.access.pins import hash_pin
from cloud.access.refusals import PinNotAllowed
from cloud.keys import KeyRing
from cloud.operations.till.badge_and_pin import (
    Shown,
    count_failure,
    find_answer,
    forget_failures,
    judge_choice,
    judge_new_pin,
    keep_answer,
    note_lock_out,
    unseal,
)
from cloud.operations.till.opening import Opened
from cloud.operations.till.staff_session import begin, gather, judge
from cloud.store.database import Database
from cloud.store.locks import lock_devices
from cloud.store.tables import badges
from protocol.messages import ChoosePin, Declined, Outcome
from protocol.policy import Badge, open_badge


def choose_pin(database: Database, keys: KeyRing, opened: Opened, request: ChoosePin) -> Outcome:
    """The badge gets this PIN and its holder a session, in one transaction; or neither, and why.

    As slow as a sign-in, in two transactions for the same reasons, and each try counts as one. Of
    two appliances that choose at once one wins: the badge's row is read again by one at a time.
    """
    badge = open_badge(request.badge.encode(), keys.find_badge)
    pin = unseal(keys, request)
    now = opened.arrived.arrived_at

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        facts = gather(connection, opened, request, badge, to_change=True)
        refusal = judge(facts, badge, request, now)
        if refusal is not None:
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        assert facts.holder is not None, "judged"
        failures = facts.holder.failures + 1
        count_failure(connection, request.device, badge, failures, now)
        refusal = judge_choice(facts.holder, now) or judge_new_pin(pin)
        if refusal is not None:
            note_lock_out(connection, opened, request, badge, failures)
            return keep_answer(connection, opened, request, badge, Declined(refusal))

    assert pin is not None, "judged"
    pin_hash = hash_pin(pin)
    assert not isinstance(pin_hash, PinNotAllowed), "judged"

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        facts = gather(connection, opened, request, badge, to_change=True)
        refusal = judge(facts, badge, request, now, counted=True)
        if refusal is None:
            assert facts.holder is not None, "judged"
            refusal = judge_choice(facts.holder, now)
        if refusal is not None:
            note_lock_out(connection, opened, request, badge, failures)
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        _set_pin(connection, badge, pin_hash)
        forget_failures(connection, request.device, badge)
        return keep_answer(
            connection, opened, request, badge, begin(connection, facts, request, now)
        )


def _set_pin(connection: Connection, badge: Shown, pin_hash: str) -> None:
    assert isinstance(badge, Badge), "judged"
    connection.execute(
        update(badges)
        .where(badges.c.badge_id == badge.badge_id)
        .values(pin_hash=pin_hash, choose_until=None)
    )
