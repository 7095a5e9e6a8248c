"""Every reason for which a sale that nobody decided yet is refused, or sent to a person."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from cloud.ledger.decisions import Flag, QuarantineCause, ReviewCause, Seen
from cloud.ledger.facts import CheckedQr, Resending
from protocol.ids import EventId, StaffId, StallId
from protocol.messages import (
    Approved,
    BalanceShown,
    Declined,
    HeartbeatAnswered,
    PostedOffline,
    Reason,
    Resend,
    SaleLine,
    SignedOut,
    UnderReview,
)
from protocol.money import Money
from protocol.policy import OfflineRules
from protocol.wallet_qr import QrRefusal, WalletToken
from tests.cloud.ledger.world import (
    EUR,
    EVENT,
    JOURNAL,
    NOW,
    NOW_S,
    World,
    balance,
    deduct,
    heartbeat,
    offline,
    sign_out,
    till,
)

TOKEN = WalletToken("payer-000000000", "token-1-----", "n" * 12, NOW_S, NOW_S + 90)


def _revoke(world: World) -> None:
    world.revoked.add(till(0))


def _revoke_certificate(world: World) -> None:
    world.revoked_certificates = frozenset({"T" * 43})


def _change_session(**changes: Any) -> Callable[[World], None]:
    return lambda world: world.session_changes.update(changes)


def _move(world: World) -> None:
    world.place = (EVENT, StallId("grill"))


def _reissue(world: World) -> None:
    world.policy_stall = StallId("grill")


def _wait(**duration: float) -> Callable[[World], None]:
    def wait(world: World) -> None:
        world.now = NOW + timedelta(**duration)

    return wait


def _show(qr: CheckedQr | QrRefusal) -> Callable[[World], None]:
    def show(world: World) -> None:
        world.qr = qr

    return show


STANDING: list[tuple[Callable[[World], None], Reason]] = [
    (_revoke, Reason.DEVICE_REVOKED),
    (_revoke_certificate, Reason.DEVICE_REVOKED),
    (_change_session(device_id=till(1)), Reason.SESSION_UNKNOWN),
    (_change_session(ended=True), Reason.SESSION_ENDED),
    (_change_session(expires_at=NOW), Reason.SESSION_EXPIRED),
    (_move, Reason.DEVICE_ELSEWHERE),
    (_change_session(staff_assigned=False), Reason.STAFF_NOT_ASSIGNED),
    (_show(QrRefusal.BAD_SIGNATURE), Reason.TOKEN_BAD_SIGNATURE),
    (_show(CheckedQr(TOKEN, EventId("other-fair"))), Reason.TOKEN_OTHER_EVENT),
    (_show(CheckedQr(replace(TOKEN, sub="nobody-0001"), EVENT)), Reason.UNKNOWN_PAYER),
    (_wait(seconds=101), Reason.TOKEN_EXPIRED),
    (_wait(seconds=-31), Reason.TOKEN_FROM_THE_FUTURE),
]


@pytest.mark.parametrize(("change", "reason"), STANDING)
def test_a_deduct_and_a_balance_are_refused_by_what_counts_now(
    change: Callable[[World], None], reason: Reason
) -> None:
    world = World()
    change(world)
    assert world.ask(deduct(), balance()) == [Declined(reason), Declined(reason)]
    assert world.balance(0) == 1000


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stall_id": "grill"}, Reason.DEVICE_ELSEWHERE),
        ({"event_id": "other-fair"}, Reason.DEVICE_ELSEWHERE),
        ({"policy_version": 2}, Reason.POLICY_UNKNOWN),
        ({"amount": Money(350, "CHF")}, Reason.WRONG_CURRENCY),
        ({"amount": Money(0, EUR)}, Reason.AMOUNT_NOT_POSITIVE),
        ({"amount": Money(20_001, EUR)}, Reason.AMOUNT_OVER_LIMIT),
        ({"lines": (SaleLine(1, 2, 350),)}, Reason.LINES_DO_NOT_ADD_UP),
        ({"session_id": "another-session"}, Reason.SESSION_UNKNOWN),
    ],
)
def test_a_sale_is_refused_online_and_reviewed_offline_for_what_it_says(
    changes: dict[str, Any], reason: Reason
) -> None:
    world = World(50_000)
    sale = replace(deduct(), **changes)
    other = replace(deduct(key="key-2"), **changes)
    assert world.ask_one(sale) == Declined(reason)
    assert isinstance(world.ask_one(offline(other)), UnderReview)
    review = world.decided[-1][1].review
    assert review is not None
    assert review.reason is reason
    assert world.balance(0) == 50_000


def test_a_policy_counts_until_it_expires_and_for_its_own_stall() -> None:
    world = World()
    # A token of that moment, so that the policy alone is too old.
    later = replace(TOKEN, iat=NOW_S + 3601, exp=NOW_S + 3691)
    world.qr, world.now = CheckedQr(later, EVENT), NOW + timedelta(seconds=3601)
    assert world.ask_one(deduct()) == Declined(Reason.POLICY_EXPIRED)
    world = World()
    _reissue(world)
    assert world.ask_one(deduct()) == Declined(Reason.POLICY_UNKNOWN)


def test_a_used_qr_pays_nothing_and_shows_nothing() -> None:
    world = World()
    answers = world.ask(balance(), deduct(), deduct(key="key-2"), balance())
    assert answers[0] == BalanceShown(Money(1000, EUR))
    assert isinstance(answers[1], Approved)
    assert answers[2:] == [Declined(Reason.TOKEN_ALREADY_USED)] * 2


def test_an_amount_alone_is_a_sale_and_lines_that_add_up_are_one() -> None:
    world = World()
    lines = (SaleLine(1, 2, 100), SaleLine(2, 1, 150))
    sold = replace(deduct(), lines=lines)
    alone = deduct(key="key-2", jti="token-2")
    assert all(isinstance(answer, Approved) for answer in world.ask(sold, alone))
    assert world.postings[-2].lines == lines


def _rules(rules: OfflineRules) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.rules = rules

    return change


def _lower_limit(world: World) -> None:
    world.sale_max_in_cents = 300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_revoke, Reason.DEVICE_REVOKED),
        (_change_session(device_id=till(1)), Reason.SESSION_UNKNOWN),
        (_reissue, Reason.POLICY_UNKNOWN),
        (_rules(OfflineRules(allowed=False)), Reason.OFFLINE_NOT_ALLOWED),
        (_rules(OfflineRules(allowed=True, sale_max_in_cents=349)), Reason.AMOUNT_OVER_LIMIT),
        (_lower_limit, Reason.AMOUNT_OVER_LIMIT),
        (_show(QrRefusal.UNKNOWN_KEY), Reason.TOKEN_UNKNOWN_KEY),
        (_show(CheckedQr(replace(TOKEN, iat=1, exp=91), EVENT)), Reason.TOKEN_EXPIRED),
        (_wait(hours=24, seconds=1), ReviewCause.UPLOAD_TOO_OLD),
    ],
)
def test_an_offline_sale_is_reviewed_for_what_it_recorded(
    change: Callable[[World], None], reason: Reason | ReviewCause
) -> None:
    world = World()
    change(world)
    assert isinstance(world.ask_one(offline(deduct())), UnderReview)
    review = world.decided[-1][1].review
    assert review is not None
    assert (review.reason, review.amount) == (reason, Money(350, EUR))


@pytest.mark.parametrize(
    "change",
    [
        _change_session(ended=True),
        _change_session(expires_at=NOW),
        _change_session(staff_assigned=False),
        _move,
        _wait(hours=23),
    ],
)
def test_what_happened_since_refuses_no_offline_sale(change: Callable[[World], None]) -> None:
    world = World()
    change(world)
    assert isinstance(world.ask_one(offline(deduct())), PostedOffline)


def test_a_sign_out_ends_ones_own_session_once() -> None:
    world = World()
    done = SignedOut("session-of-till-0")
    assert world.ask(sign_out(), sign_out(), deduct()) == [
        done,
        done,
        Declined(Reason.SESSION_ENDED),
    ]
    assert [decision.flags for _, decision in world.decided[:2]] == [(), (Flag.SAME_ANSWER,)]
    assert world.ask_one(sign_out(at=0, of=1)) == Declined(Reason.SESSION_UNKNOWN)
    unknown = replace(sign_out(), session_id="never-was-a-session")
    assert world.ask_one(unknown) == Declined(Reason.SESSION_UNKNOWN)


def test_a_heartbeat_is_answered_and_an_appliance_whose_journal_forked_is_quarantined() -> None:
    world = World()
    answered = HeartbeatAnswered(NOW_S * 1000, 1)
    assert world.ask_one(heartbeat(policy_version=7)) == answered
    seen = world.decided[-1][1].seen
    assert seen is not None
    assert seen.policy_acked == 1
    world.journal = replace(JOURNAL, head="B" * 43)
    assert world.ask_one(heartbeat()) == Declined(Reason.DEVICE_QUARANTINED)
    assert world.decided[-1][1].quarantine is QuarantineCause.FORKED
    _revoke(world)
    assert world.ask_one(heartbeat()) == Declined(Reason.DEVICE_REVOKED)
    assert world.decided[-1][1].outcome_name == "device_revoked"
    assert world.decided[0][1].outcome_name == "heartbeat_answered"


def test_a_heartbeat_is_told_of_the_end_of_the_session_it_names_and_of_no_other() -> None:
    world = World()

    def over(**named: str) -> str | None:
        return world.ask_one(replace(heartbeat(), **named)).session_over

    mine, anothers = "session-of-till-0", "session-of-till-1"
    assert over() is None
    assert over(session_id=mine) is None
    assert over(session_id="lost-with-a-backup") is None
    world.ask(sign_out(at=1, of=1))
    assert over(session_id=anothers) is None
    world.session_changes["staff_assigned"] = False
    assert over(session_id=mine) == mine
    world.session_changes.clear()
    world.ask(sign_out())
    assert over(session_id=mine) == mine


def test_after_a_restore_the_journal_is_asked_for_until_it_was_said_again() -> None:
    world = World()
    world.resend = Resending("restore-000000000001", JOURNAL.epoch, 5)
    beat = heartbeat()
    assert world.ask_one(beat).resend == Resend("restore-000000000001", 5)
    assert not _seen(world).has_resent
    elsewhere = replace(beat, journal=replace(JOURNAL, epoch="another-epoch-00"))
    assert world.ask_one(elsewhere).resend.from_entry == 0
    done = replace(beat, resent_for="restore-000000000001")
    assert world.ask_one(done).resend is None
    assert _seen(world).has_resent


def _seen(world: World) -> Seen:
    seen = world.decided[-1][1].seen
    assert seen is not None
    return seen


def test_a_sale_is_booked_to_the_staff_member_and_the_place_it_was_made_at() -> None:
    world = World()
    world.session_changes = {"staff_id": StaffId("kim")}
    world.ask(deduct())
    posting = world.postings[-1]
    assert (posting.created_by, posting.staff_id) == ("staff:kim", "kim")
    assert (posting.event_id, posting.stall_id, posting.device_id) == ("fair", "bar", "till-0")


def test_a_guest_who_never_topped_up_has_nothing_and_may_owe() -> None:
    world = World(0, users=1)
    refused = deduct(payer=1)
    assert world.ask_one(refused) == Declined(Reason.INSUFFICIENT_FUNDS, Money(0, EUR))
    assert isinstance(world.ask_one(offline(refused)), PostedOffline)
    assert world.balance(1) == -350
