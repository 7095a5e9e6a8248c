"""What quarantines an appliance, and what must not."""

import copy
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cloud.ledger.decisions import Flag, QuarantineCause, ReviewCause
from cloud.ledger.facts import Resending
from cloud.ledger.journals import LEFT_MAX, Placed, doubt_entry, hear_journal
from protocol.ids import IdempotencyKey
from protocol.messages import (
    Approved,
    BalanceShown,
    Cancelled,
    Declined,
    Heartbeat,
    HeartbeatAnswered,
    JournalKnown,
    Reason,
    SignedOut,
    UnderReview,
)
from tests.cloud.ledger.honest_journal import Cloud, Machine
from tests.cloud.ledger.world import (
    JOURNAL,
    World,
    balance,
    cancel,
    deduct,
    heartbeat,
    offline,
    refund,
    sign_out,
    till,
)


class Wire:
    """Brings messages late, twice, in any order or never; so, too, the answers."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.machine, self.cloud = Machine(), Cloud()
        self.machine.write()
        self.under_way: list[Heartbeat | Placed] = []

    def step(self) -> None:
        machine, chance = self.machine, self.chance
        number = chance.choice(list(machine.unsettled)) if machine.unsettled else None
        match chance.randrange(12):
            case 0:
                machine.write(chance.randrange(1, 4))
            case 1 | 2:
                self.under_way.append(machine.sell())
            case 3 | 4 | 5:
                self.under_way.append(machine.beat())
            case 6 if number is not None and number not in machine.offline:
                self.under_way.append(machine.cancel(number))
            case 7 if number is not None:
                self.under_way.append(machine.accept(number))
            case 8 if chance.random() < 0.3:
                machine.set_aside()
            case 9:
                machine.told = None
            case _:
                self.deliver()

    def deliver(self) -> None:
        if not self.under_way:
            return
        request = self.chance.choice(self.under_way)
        if self.chance.random() < 0.7:
            self.under_way.remove(request)
        said = self.cloud.hear(request)
        assert not isinstance(said, QuarantineCause), said
        if self.chance.random() < 0.3:
            return
        if isinstance(request, Heartbeat):
            self.machine.told = said or self.machine.told
        elif request.journal.epoch == self.machine.epoch:
            self.machine.settle(request)


@pytest.mark.parametrize("seed", range(400))
def test_no_honest_history_is_ever_held_against_an_appliance(seed: int) -> None:
    wire = Wire(Random(seed))
    for _ in range(100):
        wire.step()
    for _ in range(3 * len(wire.under_way)):
        wire.deliver()


@pytest.mark.parametrize("seed", range(200))
def test_a_cloud_that_came_back_from_a_backup_holds_nothing_against_those_ahead_of_it(
    seed: int,
) -> None:
    wire = Wire(Random(seed))
    for _ in range(40):
        wire.step()
    backup = copy.deepcopy(wire.cloud)
    for _ in range(40):
        wire.step()
    # The cloud was down for longer than any deduct lives; what is kept is sent again.
    wire.under_way = [each for each in wire.under_way if isinstance(each, Heartbeat)]
    backup.appliance = replace(backup.appliance, resend=Resending("restore-1", None, 0))
    wire.cloud = backup
    for _ in range(60):
        wire.step()


def turn(machine: Machine, cloud: Cloud, entries: int, *, beats: int) -> QuarantineCause | None:
    """One of two that hold the same journal is at the wire: it sells, and it beats."""
    for said in (machine.sell(), None):
        if said is not None:
            doubt = cloud.hear(said)
            if isinstance(doubt, QuarantineCause):
                return doubt
            machine.settle(said)
    machine.write(entries)
    for _ in range(beats):
        heard = cloud.hear(machine.beat())
        if isinstance(heard, QuarantineCause):
            return heard
        machine.told = heard or machine.told
    return None


@given(
    st.integers(0, 5),
    st.lists(st.integers(0, 6), min_size=4, max_size=4),
    st.booleans(),
    st.integers(1, 3),
)
@settings(deadline=None)
def test_two_copies_of_a_journal_are_found_out_once_each_has_been_at_the_wire_twice(
    before: int, entries: list[int], copy_begins: bool, beats: int
) -> None:
    machine, cloud = Machine(), Cloud()
    machine.write()
    for _ in range(before):
        assert turn(machine, cloud, 1, beats=1) is None
    turns = [machine.copy(), machine] if copy_begins else [machine, machine.copy()]
    found = [
        turn(each, cloud, more, beats=beats) for each, more in zip(turns * 2, entries, strict=True)
    ]
    assert any(found)


@given(st.integers(2, 6), st.integers(1, 5))
@settings(deadline=None)
def test_a_copy_that_only_beats_is_found_out_by_its_second_heartbeat(sold: int, back: int) -> None:
    machine, cloud = Machine(), Cloud()
    machine.write()
    copies = [machine.copy()]
    for _ in range(sold):
        turn(machine, cloud, 0, beats=1)
        copies.append(machine.copy())
    old = copies[max(0, sold - back)]
    known = cloud.hear(old.beat())
    assert isinstance(known, JournalKnown)
    old.told = known
    assert cloud.hear(old.beat()) is QuarantineCause.WENT_BACK


def at(**changes: Any) -> Heartbeat:
    """A heartbeat whose journal stands elsewhere than at JOURNAL."""
    told = changes.pop("told", None)
    firmware = changes.pop("firmware", "1")
    journal = replace(JOURNAL, **changes)
    return replace(heartbeat(), journal=journal, journal_told=told, firmware=firmware)


def known(last: int, *, epoch: str = JOURNAL.epoch, releases: int = 0) -> JournalKnown:
    return JournalKnown(epoch, last, releases)


def beating() -> World:
    """The cloud knows till-0's journal as JOURNAL: entry 9, all below 9 settled."""
    world = World()
    world.journal = JOURNAL
    world.journal_changes = {"settled_by": "1"}
    return world


@pytest.mark.parametrize(
    ("beat", "doubt"),
    [
        (at(), None),
        (at(last=10, head="B" * 43), None),
        (at(last=10, settled_below=11, head="B" * 43), None),
        (at(last=8, head="B" * 43), None),
        (at(last=8, told=known(8)), None),
        (at(last=8, told=known(9, epoch="f" * 16)), None),
        (at(last=8, told=known(9, releases=1)), None),
        (at(settled_below=8), None),
        (at(last=10, settled_below=8, head="B" * 43, firmware="2"), None),
        (at(epoch="f" * 16), None),
        (at(last=8, told=known(9)), QuarantineCause.WENT_BACK),
        (at(last=10, settled_below=8, head="B" * 43), QuarantineCause.WENT_BACK),
        (at(head="B" * 43), QuarantineCause.FORKED),
    ],
)
def test_what_a_heartbeat_may_say_of_its_journal(
    beat: Heartbeat, doubt: QuarantineCause | None
) -> None:
    world = beating()
    answer = world.ask_one(beat)
    assert world.decided[-1][1].quarantine is doubt
    assert isinstance(answer, HeartbeatAnswered if doubt is None else Declined)


def test_a_heartbeat_that_says_less_is_told_what_is_known_and_changes_nothing() -> None:
    world = beating()
    assert world.ask_one(at(last=8)).journal_known == known(9)
    decision = world.decided[-1][1]
    assert decision.flags == (Flag.JOURNAL_BEHIND,)
    assert decision.seen is not None
    assert (decision.seen.journal, decision.seen.policy_acked) == (None, None)


def test_what_was_settled_stays_so_whatever_a_new_program_counts() -> None:
    world = beating()
    world.ask(at(settled_below=3), at(last=12, settled_below=3, head="B" * 43, firmware="2"))
    for _, decision in world.decided:
        assert decision.seen is not None
        assert decision.seen.journal is not None
        assert decision.seen.journal.settled_below == JOURNAL.settled_below


def test_a_new_program_that_counts_less_as_settled_goes_on_and_is_watched_from_there() -> None:
    world = beating()
    fewer = [
        at(settled_below=3, firmware="2"),
        at(last=10, settled_below=3, head="B" * 43, firmware="2"),
        at(last=11, settled_below=3, head="C" * 43, firmware="2"),
        at(last=12, settled_below=13, head="D" * 43, firmware="2"),
    ]
    again = at(last=13, settled_below=3, head="E" * 43, firmware="2")
    answers = world.ask(*fewer, again)
    assert [type(each) for each in answers] == [*[HeartbeatAnswered] * 4, Declined]
    assert world.decided[-1][1].quarantine is QuarantineCause.WENT_BACK


def test_another_epoch_is_believed_and_the_one_before_remembered() -> None:
    world = beating()
    world.journal_changes["journal_left"] = ("d" * 16,)
    told = world.ask_one(at(epoch="f" * 16, last=1)).journal_known
    assert world.ask_one(at(epoch="f" * 16, last=1, told=known(3, epoch="d" * 16))).journal_known
    assert world.ask_one(at(epoch="f" * 16, last=1, told=told)).journal_known is None
    decision = world.decided[-1][1]
    assert decision.flags == (Flag.JOURNAL_NEW_EPOCH,)
    assert decision.left == JOURNAL
    assert decision.seen is not None
    assert decision.seen.journal_left == ("d" * 16, JOURNAL.epoch)


def test_a_late_heartbeat_of_an_epoch_it_left_is_told_so_and_one_that_was_told_is_found_out() -> (
    None
):
    world = beating()
    world.journal_changes["journal_left"] = ("c" * 16, "d" * 16)
    told = world.ask_one(at(epoch="d" * 16, last=50)).journal_known
    assert told == known(9)
    # It heard of the epoch before it, not of the one after it: that may be.
    earlier = known(3, epoch="c" * 16)
    assert world.ask_one(at(epoch="d" * 16, last=50, told=earlier)).journal_known == told
    assert world.ask_one(at(epoch="d" * 16, told=known(9, epoch="x" * 16))).journal_known == told
    assert isinstance(world.ask_one(at(epoch="d" * 16, last=51, told=told)), Declined)
    assert world.decided[-1][1].quarantine is QuarantineCause.RETURNED


def test_so_many_epochs_are_remembered_and_no_more() -> None:
    left = tuple(f"epoch-{number:010}" for number in range(LEFT_MAX))
    appliance = replace(Cloud().appliance, journal=JOURNAL, journal_left=left)
    heard = hear_journal(appliance, at(epoch="f" * 16, told=known(9)))
    assert heard.left == (*left[1:], JOURNAL.epoch)


def test_a_released_appliance_is_believed_whatever_it_says_next_and_then_watched_as_before() -> (
    None
):
    world = beating()
    world.journal_changes |= {"journal_anew": True, "releases": 1}
    stale = at(last=4, head="C" * 43, told=known(9))
    again = at(last=4, head="D" * 43)
    assert [type(each) for each in world.ask(stale, again)] == [HeartbeatAnswered, Declined]
    assert world.decided[-1][1].quarantine is QuarantineCause.FORKED
    world.quarantined.clear()
    assert isinstance(world.ask_one(at(epoch="f" * 16, last=4)), HeartbeatAnswered)
    assert world.decided[-1][1].left == JOURNAL


def test_a_release_forgets_what_was_told_before_it() -> None:
    machine, cloud = Machine(), Cloud()
    machine.write()
    turn(machine, cloud, 0, beats=1)
    ahead = machine.copy()
    turn(ahead, cloud, 5, beats=1)
    machine.told = known(len(ahead.heads), epoch=machine.epoch)
    assert cloud.hear(machine.beat()) is QuarantineCause.WENT_BACK
    cloud.release()
    for _ in range(3):
        assert turn(machine, cloud, 1, beats=2) is None
    assert turn(ahead, cloud, 0, beats=2) is not None


def test_one_entry_of_a_journal_is_one_sale() -> None:
    world = World()
    first, second = deduct(key="key-1"), replace(deduct(key="key-2", jti="token-2"), entry=77)
    twin = replace(deduct(key="key-3", jti="token-3"), entry=77)
    answers = world.ask(first, second, twin)
    assert [type(each) for each in answers] == [Approved, Approved, Declined]
    assert answers[2] == Declined(Reason.DEVICE_QUARANTINED)
    assert world.decided[-1][1].quarantine is QuarantineCause.ENTRY_TWICE
    assert world.balance(0) == 300


def test_a_sale_whose_entry_the_till_no_longer_knew_is_no_twin() -> None:
    world = World()
    forgotten = [replace(cancel(deduct(key=f"key-{number}")), entry=0) for number in range(3)]
    assert world.ask(*forgotten) == [Cancelled(None)] * 3


@pytest.mark.parametrize("kind", ["deduct", "offline", "cancel", "refund"])
def test_a_sale_from_before_what_was_settled_was_seen_before(kind: str) -> None:
    world = beating()
    early = replace(deduct(), entry=8)
    made: dict[str, Any] = {
        "deduct": early,
        "offline": offline(early),
        # Both change nothing that is not there.
        "cancel": cancel(early),
        "refund": replace(refund(early), entry=8),
    }
    answer = world.ask_one(made[kind])
    doubt = world.decided[-1][1].quarantine
    assert doubt is (QuarantineCause.ENTRY_UNSEEN if kind in {"deduct", "offline"} else None)
    if kind == "offline":
        assert isinstance(answer, UnderReview)


def test_a_sale_from_before_what_was_settled_counts_where_it_was_seen_or_may_be_forgotten() -> None:
    world = beating()
    early = replace(deduct(), entry=9)
    assert isinstance(world.ask_one(early), Approved)
    world.journal = replace(JOURNAL, last=20, settled_below=21, head="B" * 43)
    assert isinstance(world.ask_one(early), Approved)
    world.resend = Resending("restore-000000000001", JOURNAL.epoch, 5)
    lost = replace(deduct(key="key-2", jti="token-2"), entry=12)
    assert isinstance(world.ask_one(lost), Approved)


def test_any_request_with_another_head_at_the_same_number_shows_a_fork() -> None:
    world = beating()
    forked = replace(deduct(), journal=replace(JOURNAL, head="B" * 43))
    assert world.ask_one(forked) == Declined(Reason.DEVICE_QUARANTINED)
    assert world.decided[-1][1].quarantine is QuarantineCause.FORKED


def test_an_appliance_nobody_has_heard_of_yet_is_doubted_only_for_its_entries() -> None:
    appliance = Cloud().appliance
    anew = replace(appliance, journal=JOURNAL, journal_anew=True)
    elsewhere = replace(appliance, journal=replace(JOURNAL, epoch="f" * 16))
    other = frozenset({IdempotencyKey("another")})
    for each in (appliance, anew, elsewhere):
        sale = replace(deduct(), entry=1)
        assert doubt_entry(each, sale, is_known=False, others=frozenset()) is None
        doubt = doubt_entry(each, sale, is_known=False, others=other)
        assert doubt is QuarantineCause.ENTRY_TWICE


def test_from_a_quarantined_appliance_nothing_new_posts_and_what_was_answered_stays() -> None:
    world = beating()
    sold = deduct()
    approved = world.ask_one(sold)
    world.quarantined.add(till(0))
    declined = Declined(Reason.DEVICE_QUARANTINED)
    assert world.ask_one(deduct(key="key-2", jti="token-2")) == declined
    assert world.ask_one(balance(jti="token-3")) == declined
    assert world.ask_one(refund(sold)) == declined
    assert world.ask_one(heartbeat()) == declined
    assert world.ask_one(sold) == approved
    for request in (cancel(sold), offline(deduct(key="key-4", jti="token-4"))):
        assert isinstance(world.ask_one(request), UnderReview)
        review = world.decided[-1][1].review
        assert review is not None
        assert review.reason is Reason.DEVICE_QUARANTINED
    assert isinstance(world.ask_one(sign_out()), SignedOut)
    assert isinstance(world.ask_one(balance(at=1, jti="token-5")), BalanceShown)
    assert world.balance(0) == 650
    assert all(decision.quarantine is None for _, decision in world.decided)


def test_a_quarantined_appliance_is_still_heard_of_but_not_believed() -> None:
    world = beating()
    world.quarantined.add(till(0))
    world.ask(at(last=12, head="B" * 43))
    seen = world.decided[-1][1].seen
    assert seen is not None
    assert (seen.journal, seen.policy_acked, seen.printer) == (None, None, "ok")


def test_a_revoked_appliance_is_revoked_whatever_its_journal_says() -> None:
    world = beating()
    world.revoked.add(till(0))
    world.quarantined.add(till(0))
    assert world.ask_one(at(head="B" * 43)) == Declined(Reason.DEVICE_REVOKED)
    assert world.decided[-1][1].quarantine is None


def test_the_batch_in_which_it_is_noticed_believes_nothing_after_it() -> None:
    world = beating()
    answers = world.ask(
        deduct(), at(head="B" * 43), deduct(key="key-2", jti="token-2"), cancel(deduct())
    )
    assert isinstance(answers[0], Approved)
    assert answers[1:3] == [Declined(Reason.DEVICE_QUARANTINED)] * 2
    assert isinstance(answers[3], UnderReview)
    assert [each.quarantine for _, each in world.decided].count(None) == 3


def test_one_qr_at_two_tills_posts_twice_and_freezes_the_wallet() -> None:
    world = World(5000)
    here, there = offline(deduct()), offline(deduct(key="key-2", at=1))
    first, second = world.ask(here, there)
    assert (first.token_seen_before, second.token_seen_before) == (False, True)
    assert world.balance(0) == 5000 - 700
    [wallet] = [wallet for (who, _), wallet in world.wallets.items() if who.endswith("0")]
    assert wallet.offline_frozen
    assert ReviewCause.UPLOAD_TOO_OLD not in {each.review for _, each in world.decided}
