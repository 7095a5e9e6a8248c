"""Staff sign in with badge and PIN: a session for the appliance's event and stall."""

from cloud.keys import KeyRing
from cloud.operations.till.badge_and_pin import (
    count_failure,
    find_answer,
    forget_failures,
    judge_choice,
    judge_new_pin,
    keep_answer,
    knows_pin,
    note_lock_out,
    unseal,
)
from cloud.operations.till.opening import Opened
from cloud.operations.till.staff_session import begin, gather, judge
from cloud.store.database import Database
from cloud.store.locks import lock_devices
from protocol.messages import Declined, Outcome, Reason, SignIn
from protocol.policy import open_badge


def sign_in(database: Database, keys: KeyRing, opened: Opened, request: SignIn) -> Outcome:
    """A staff session for this appliance's event and stall, or why not; sent again, the same.

    Two transactions with the slow comparison between them, so that no lock waits for argon2. The
    first counts the try as failed: tries at once, or a crash in between, gain nothing.
    """
    badge = open_badge(request.badge.encode(), keys.find_badge)
    pin = unseal(keys, request)
    now = opened.arrived.arrived_at

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        facts = gather(connection, opened, request, badge)
        refusal = judge(facts, badge, request, now)
        if refusal is not None:
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        holder = facts.holder
        assert holder is not None, "judged"
        if holder.pin_hash is None:
            # There is nothing to guess yet, so it is no try.
            unset = judge_choice(holder, now) or judge_new_pin(pin) or Reason.PIN_NOT_SET
            return keep_answer(connection, opened, request, badge, Declined(unset))
        failures = holder.failures + 1
        count_failure(connection, request.device, badge, failures, now)

    is_right = knows_pin(pin, holder)

    with database.transaction() as connection:
        lock_devices(connection, [request.device])
        answered = find_answer(connection, request, None)
        if answered is not None:
            return answered
        if not is_right:
            note_lock_out(connection, opened, request, badge, failures)
            return keep_answer(connection, opened, request, badge, Declined(Reason.PIN_WRONG))
        # Read again: the appliance or the badge may have been revoked, or the PIN forgotten, while
        # it was compared.
        facts = gather(connection, opened, request, badge)
        refusal = judge(facts, badge, request, now, counted=True)
        if refusal is None and facts.pin_hash != holder.pin_hash:
            refusal = Reason.PIN_WRONG
        if refusal is not None:
            return keep_answer(connection, opened, request, badge, Declined(refusal))
        forget_failures(connection, request.device, badge)
        return keep_answer(
            connection, opened, request, badge, begin(connection, facts, request, now)
        )
