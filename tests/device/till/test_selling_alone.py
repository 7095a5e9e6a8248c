"""A till without its cloud: what it lights, journals and uploads."""

from dataclasses import replace

import pytest
from msgspec import structs

from device.till.accepting import accept
from device.till.contents import AskForHeartbeat, AskToCancel, AskToDeduct, AskToPostOffline
from device.till.entries import (
    CancelReason,
    DeniedTaken,
    Entry,
    LightShown,
    MessageClosed,
    SaleAbandoned,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    Synced,
    SyncRefused,
    WalletKeysTaken,
)
from device.till.outbox import UPLOADS_AT_ONCE_MAX
from device.till.receipt import Text
from device.till.signals import Light, Sound
from device.till.states import Asking, HandedOverAsked, JournalBroken, Ready, Scanning
from protocol.messages import (
    Cancelled,
    Declined,
    DeniedChanges,
    HeartbeatAnswered,
    Outcome,
    PostedOffline,
    Reason,
    UnderReview,
)
from protocol.money import Money
from protocol.wallet_qr import QrRefusal
from tests.device.alone import RULES, a_code, cut_off, selling
from tests.device.stage import EPOCH_MS, OTHER_KEY, a_policy, approved, declined, named


def posted(cents: int = 500) -> PostedOffline:
    return PostedOffline("0198", Money(cents, "EUR"), 0, False, EPOCH_MS)


def test_a_sale_without_a_reply_is_accepted_by_the_rules() -> None:
    stage = selling()
    stage.is_answered = False
    stage.press("500#")
    text = a_code(stage)
    stage.show(text)
    key = stage.last(AskToDeduct).content.key
    scanned_ms = stage.true_ms
    stage.wait(4.0)
    assert stage.light is Light.APPROVED_OFFLINE
    assert stage.sounds[-1] is Sound.APPROVED_OFFLINE
    (accepted,) = stage.acceptances
    assert accepted.key == key
    assert accepted.scanned_at_ms == scanned_ms
    assert accepted.accepted_at_ms == scanned_ms + 4000
    assert accepted.payer_id == "payerpayer1"
    assert Text("ACCEPTED OFFLINE", bold=True, large=True, centred=True) in stage.slips[-1].lines
    assert stage.journal[-1] == LightShown(key)
    stage.tick()
    assert stage.uploaded == [AskToPostOffline(stage.standing.unsynced[0].sale, accepted)]
    assert not [each for each in stage.sent if isinstance(each.content, AskToCancel)]
    stage.wait(2.0)
    assert stage.till.phase == Ready()


def test_what_is_known_of_the_time_and_the_wallet_does_not_leak() -> None:
    stage = cut_off()
    text = a_code(stage)
    stage.press("500#")
    stage.show(text)
    (accepted,) = stage.acceptances
    assert not [each for each in stage.seen if text in each or accepted.wallet_qr in each]


def test_without_a_link_nobody_waits_for_a_reply() -> None:
    stage = cut_off()
    assert stage.light is Light.OFFLINE_ALLOWED
    stage.press("500#")
    assert isinstance(stage.till.phase, Scanning)
    stage.show(a_code(stage))
    assert stage.light is Light.APPROVED_OFFLINE
    assert not [each for each in stage.sent if isinstance(each.content, AskToDeduct)]


def test_where_offline_is_not_allowed_the_sale_is_declined_at_once() -> None:
    stage = cut_off(a_policy())
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.press("500#")
    assert stage.light is Light.DECLINED
    assert stage.reason == "offline_not_allowed"


def test_a_sale_too_large_for_offline_is_declined_at_the_hash_key() -> None:
    stage = cut_off()
    stage.press("1001#")
    assert stage.light is Light.DECLINED
    assert stage.reason == "sale_too_large_offline"


def test_no_reply_and_a_rule_against_it_is_a_fault_and_a_cancel() -> None:
    stage = selling()
    stage.is_answered = False
    stage.press("1001#")
    stage.show(a_code(stage))
    stage.wait(4.0)
    assert stage.light is Light.FAULT
    assert stage.acceptances == []
    assert stage.standing.sales[0].is_cancelled
    assert stage.reason == "sale_too_large_offline"


def test_without_a_link_a_code_that_does_not_count_is_asked_for_anew_under_the_same_key() -> None:
    stage = cut_off()
    stage.press("500#")
    stage.show(a_code(stage, oal=0))
    assert stage.light is Light.REFRESH_QR
    stage.wait(3.0)
    stage.show(a_code(stage, 2, age_s=200))
    assert stage.reason == "token_expired"
    stage.show(a_code(stage, 3))
    assert stage.light is Light.APPROVED_OFFLINE
    assert len({each.sale.key for each in stage.standing.unsynced}) == 1


def test_without_a_link_a_payer_who_may_not_is_declined_and_nothing_is_left_open() -> None:
    stage = selling()
    stage.denied = [DeniedChanges(1, False, ("payerpayer1",), (), False)]
    stage.wait(20.0)
    stage.lose_link()
    stage.press("500#")
    stage.show(a_code(stage))
    assert stage.light is Light.DECLINED
    assert stage.reason == "payer_denied"
    assert isinstance(stage.journal[-1], SaleAbandoned)
    assert stage.standing.sales == ()


def test_the_same_code_never_pays_twice_at_this_till_not_even_after_a_power_cut() -> None:
    stage = cut_off()
    stage.press("500#")
    text = a_code(stage)
    stage.show(text)
    stage.wait(2.5)
    stage.press("500#")
    stage.show(text)
    assert stage.reason == "token_taken_here_before"
    stage.press("*")
    stage.wall_is_set = True
    stage.cut_power()
    stage.press("500#")
    stage.show(text)
    assert stage.reason == "token_taken_here_before"
    assert len(stage.acceptances) == 1


def test_a_code_that_was_approved_online_does_not_pay_offline() -> None:
    stage = selling()
    text = a_code(stage)
    stage.press("500#")
    stage.show(text)
    token_id = "offline-0001"
    paid = structs.replace(approved(), token_id=token_id, at_ms=stage.true_ms)
    stage.answer(paid, stage.last(AskToDeduct))
    stage.wait(2.5)
    stage.lose_link()
    stage.press("500#")
    stage.show(text)
    assert stage.reason == "token_taken_here_before"


def test_the_limits_count_over_the_spell_and_over_a_power_cut() -> None:
    stage = cut_off()
    for number in range(3):
        stage.sell(number)
    assert (stage.standing.spell.sum_in_cents, stage.standing.spell.count) == (1500, 3)
    stage.wall_is_set = True
    stage.cut_power()
    stage.sell(3)
    assert stage.reason == "wallet_sales_reached"
    assert len(stage.acceptances) == 3


def test_a_spell_ends_only_with_the_last_answer() -> None:
    stage = cut_off()
    for number in range(3):
        stage.sell(number)
    stage.connect()
    stage.wait(0.1)
    first, second, third = stage.uploads
    stage.answer(posted(), first)
    stage.answer(posted(), third)
    assert stage.till.record.spell.count == stage.standing.spell.count == 3
    stage.answer(posted(), second)
    assert stage.till.record.spell.count == stage.standing.spell.count == 0
    assert stage.standing.unsynced == stage.standing.sales == ()


def test_uploads_go_out_oldest_first_by_themselves() -> None:
    stage = cut_off()
    for number in range(3):
        stage.sell(number)
    assert stage.uploads == []
    stage.connect()
    stage.wait(0.1)
    keys = [each.key for each in stage.uploaded]
    assert keys == [each.sale.key for each in stage.standing.unsynced]
    assert stage.heartbeats[-1].queue == 3


def test_one_upload_that_is_never_answered_blocks_no_other() -> None:
    policy = a_policy(offline=structs.replace(RULES, spell_max_in_cents=10**6))
    stage = cut_off(policy)
    for number in range(UPLOADS_AT_ONCE_MAX + 2):
        stage.sell(number, "10", payer=f"payer-{number:05d}")
    stage.connect()
    stage.wait(0.5)
    assert len(stage.uploads) == UPLOADS_AT_ONCE_MAX
    stage.wait(1.0)
    assert len({each.key for each in stage.uploaded}) == UPLOADS_AT_ONCE_MAX + 2
    for each in stage.uploads[1:]:
        stage.answer(posted(10), each)
    (left,) = stage.standing.unsynced
    assert left.sale.key == stage.uploaded[0].key
    before = len(stage.again)
    stage.wait(70.0)
    assert len(stage.again) > before


@pytest.mark.parametrize(
    ("outcome", "is_posting"),
    [
        (posted(), True),
        (approved(), True),
        (UnderReview("review-1"), False),
    ],
)
def test_each_final_answer_closes_an_upload(outcome: Outcome, is_posting: bool) -> None:
    stage = cut_off()
    stage.sell()
    stage.connect()
    stage.wait(0.1)
    sent = stage.last(AskToPostOffline)
    stage.answer(outcome, sent)
    closed = MessageClosed(sent.content.key, "offline_acceptance", "signed.reply.token", is_posting)
    assert closed in stage.journal
    assert stage.standing.sales == ()
    assert stage.till.outbox == ()


@pytest.mark.parametrize(
    "reason", [Reason.DEVICE_QUARANTINED, Reason.MALFORMED, Reason.UNSUPPORTED_VERSION]
)
def test_a_refusal_settles_no_upload(reason: Reason) -> None:
    stage = cut_off()
    stage.sell()
    stage.connect()
    stage.wait(0.1)
    sent = stage.last(AskToPostOffline)
    stage.answer(Declined(reason), sent)
    assert stage.standing.unsynced
    before = stage.again.count(sent.request_hash)
    stage.wait(10.0)
    assert stage.again.count(sent.request_hash) > before
    stage.answer(posted(), sent)
    assert stage.standing.unsynced == ()


def test_an_approval_that_comes_after_the_acceptance_changes_nothing() -> None:
    stage = selling()
    stage.is_answered = False
    stage.press("500#")
    stage.show(a_code(stage))
    deduct = stage.last(AskToDeduct)
    stage.wait(4.0)
    entries, lights = len(stage.journal), len(stage.lights)
    stage.answer(approved(), deduct)
    assert (len(stage.journal), len(stage.lights)) == (entries, lights)
    stage.tick()
    stage.answer(approved(), stage.last(AskToPostOffline))
    assert stage.standing.sales == ()


def test_an_acceptance_that_was_not_shown_is_put_to_staff_and_uploaded_only_if_kept() -> None:
    stage = cut_off()
    stage.sell()
    stage.journal = [each for each in stage.journal if not isinstance(each, LightShown)]
    stage.cut_power()
    assert isinstance(stage.till.phase, HandedOverAsked)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    assert "Handed over?" in stage.texts()
    stage.connect()
    stage.wait(3.0)
    assert stage.uploads == []
    stage.press("#")
    assert isinstance(stage.journal[-1], SaleKept)
    stage.wait(0.1)
    assert len(stage.uploads) == 1
    stage.answer(posted(), stage.last(AskToPostOffline))
    assert stage.standing.sales == ()


def test_an_acceptance_that_staff_take_back_is_cancelled_and_never_uploaded() -> None:
    stage = cut_off()
    stage.sell()
    key = stage.standing.unsynced[0].sale.key
    stage.journal = [each for each in stage.journal if not isinstance(each, LightShown)]
    stage.cut_power()
    stage.hold("*")
    assert stage.journal[-1] == SaleCancelled(key, CancelReason.NOT_HANDED_OVER)
    stage.cut_power()
    stage.connect()
    stage.wait(3.0)
    assert stage.uploads == []
    assert stage.standing.unsynced == ()
    assert stage.standing.spell.count == 1
    # Its upload had been under way after all: that answer says nothing of the cancel.
    late = MessageClosed(key, "offline_acceptance", "t", True)
    assert stage.standing.after(99, late).sales == stage.standing.sales
    stage.answer(Cancelled(None), stage.last(AskToCancel))
    assert stage.standing.sales == ()
    assert stage.standing.spell.count == 0


def test_a_shown_acceptance_is_uploaded_after_a_power_cut_word_for_word() -> None:
    stage = cut_off()
    stage.sell()
    (before,) = stage.acceptances
    stage.wall_ms -= 10**9
    stage.cut_power()
    assert stage.standing.settled_below(len(stage.journal)) == stage.standing.unsynced[0].number
    stage.connect()
    stage.wait(0.1)
    assert [each.acceptance for each in stage.uploaded] == [before]


def test_a_disk_that_fails_at_the_acceptance_lights_no_green() -> None:
    stage = cut_off()
    stage.press("500#")
    stage.failing_writes = True
    stage.show(a_code(stage))
    assert Light.APPROVED_OFFLINE not in stage.lights
    assert stage.light is Light.FAULT
    assert isinstance(stage.last(AskToCancel).content, AskToCancel)
    stage.failing_writes = False
    stage.wait(6.0)
    stage.connect()
    stage.wait(1.0)
    assert stage.uploads == []
    assert stage.standing.sales[0].is_cancelled


def test_a_disk_that_fails_as_a_code_shown_first_is_taken_lights_no_green() -> None:
    """Opened and accepted in one step: what was not even opened is not uploaded."""
    stage = cut_off()
    stage.show(a_code(stage))
    stage.failing_kind = SaleOpened
    stage.press("500#")
    assert stage.light is Light.FAULT
    assert Light.APPROVED_OFFLINE not in stage.lights
    stage.failing_kind = None
    stage.connect()
    stage.wait(10.0)
    assert stage.uploads == []
    assert isinstance(stage.last(AskToCancel).content, AskToCancel)


def test_a_code_shown_first_pays_alone_at_the_hash_key() -> None:
    stage = cut_off()
    stage.show(a_code(stage))
    stage.wait(5.0)
    scanned_ms = stage.true_ms - 5000
    stage.press("500#")
    assert stage.light is Light.APPROVED_OFFLINE
    assert stage.acceptances[0].scanned_at_ms == scanned_ms
    assert stage.acceptances[0].accepted_at_ms == scanned_ms + 5000


def test_a_disk_that_fails_once_the_light_is_on_takes_nothing_back() -> None:
    stage = cut_off()
    stage.press("500#")
    stage.failing_kind = LightShown
    stage.show(a_code(stage))
    assert stage.light is Light.APPROVED_OFFLINE
    stage.failing_kind = None
    stage.wait(6.0)
    assert isinstance(stage.journal[-1], LightShown)
    stage.connect()
    stage.wait(0.1)
    assert len(stage.uploads) == 1


def test_the_sync_and_the_deny_list_survive_a_power_cut_with_their_age() -> None:
    stage = selling()
    stage.denied = [DeniedChanges(7, True, ("payerpayer2",), (), False)]
    stage.wait(61.0)
    taken = [each for each in stage.journal if isinstance(each, Synced | DeniedTaken)]
    assert {type(each) for each in taken} == {Synced, DeniedTaken}
    stage.lose_link()
    stage.wall_is_set = True
    stage.cut_power()
    assert stage.till.record.denied == {"payerpayer2"}
    assert stage.till.record.denied_version == 7
    assert stage.light is Light.OFFLINE_ALLOWED
    synced_ms = stage.till.record.synced_at_ms
    assert synced_ms is not None
    stage.wait((synced_ms + 3_600_000 - stage.wall_ms) / 1000 + 0.05)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.press("500#")
    assert stage.reason == "deny_list_too_old"


def test_a_deny_list_in_pieces_is_asked_on_and_does_not_count_until_it_is_whole() -> None:
    stage = selling()
    before = len(stage.heartbeats)
    stage.denied = [
        DeniedChanges(3, True, ("payerpayer2",), (), True),
        DeniedChanges(4, False, ("payerpayer3",), ("payerpayer2",), False),
    ]
    stage.wait(15.0)
    assert [each.denied_version for each in stage.heartbeats[before:]][:2] == [0, 3]
    assert stage.till.record.denied == {"payerpayer3"}
    assert stage.till.record.denied_version == 4


def test_a_deny_list_cut_off_in_the_middle_allows_nothing() -> None:
    stage = selling()
    stage.is_answered = False
    stage.wait(15.0)
    heartbeat = stage.last(AskForHeartbeat)
    piece = DeniedChanges(3, True, ("payerpayer2",), (), True)
    stage.answer(HeartbeatAnswered(stage.true_ms, 1, denied=piece), heartbeat)
    stage.lose_link()
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.press("500#")
    assert stage.reason == "deny_list_too_old"


def test_without_any_sync_or_clock_after_a_power_cut_nothing_is_sold() -> None:
    stage = cut_off()
    stage.cut_power()
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.press("500#")
    assert stage.reason == "clock_untrusted"
    stage.journal = [each for each in stage.journal if not isinstance(each, Synced)]
    stage.wall_is_set = True
    stage.cut_power()
    stage.press("500#")
    assert stage.reason == "never_synced_in_this_epoch"


def test_a_revoked_appliance_sells_nothing_alone() -> None:
    stage = selling()
    stage.heartbeat_outcome = Declined(Reason.DEVICE_REVOKED)
    stage.wait(20.0)
    assert any(isinstance(each, SyncRefused) for each in stage.journal)
    stage.lose_link()
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.wall_is_set = True
    stage.cut_power()
    stage.press("500#")
    assert stage.reason == "never_synced_in_this_epoch"
    stage.heartbeat_outcome = None
    stage.connect()
    stage.wait(3.0)
    stage.lose_link()
    assert stage.light is Light.OFFLINE_ALLOWED


def test_a_refusal_of_another_kind_says_nothing_of_the_sync() -> None:
    stage = selling()
    stage.heartbeat_outcome = Declined(Reason.MALFORMED)
    stage.wait(20.0)
    stage.lose_link()
    assert stage.light is Light.OFFLINE_ALLOWED


def test_codes_of_a_key_newer_than_the_policy_count_and_survive_a_power_cut() -> None:
    stage = selling()
    stage.wallet_keys = (named("w2", OTHER_KEY),)
    stage.wait(61.0)
    assert WalletKeysTaken(1, stage.wallet_keys) in stage.journal
    stage.lose_link()
    stage.wall_is_set = True
    stage.cut_power()
    stage.sell(kid="w2")
    assert len(stage.acceptances) == 1


def test_keys_that_were_named_for_another_policy_do_not_count() -> None:
    stage = selling()
    stage.wallet_keys = (named("w2", OTHER_KEY),)
    stage.newest_policy = 2
    stage.wait(61.0)
    stage.lose_link()
    stage.press("500#")
    stage.show(a_code(stage, kid="w2"))
    assert stage.reason == "token_unknown_key"


def test_a_jump_of_the_wall_clock_changes_no_sale() -> None:
    stage = cut_off()
    for jump_ms in (-(10**10), 10**10):
        stage.wall_ms += jump_ms
        stage.tick()
        assert stage.light is Light.OFFLINE_ALLOWED
        true_ms = stage.true_ms
        stage.sell(number=jump_ms % 7)
        assert stage.acceptances[-1].accepted_at_ms == true_ms
    assert len(stage.acceptances) == 2


def test_the_light_turns_by_itself_when_the_rules_no_longer_hold() -> None:
    stage = cut_off()
    assert stage.light is Light.OFFLINE_ALLOWED
    stage.wait(3590.0)
    assert stage.light in {Light.OFFLINE_ALLOWED, Light.NOBODY_SIGNED_IN}
    stage.wait(20.0)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED


def test_another_journal_must_be_known_to_the_cloud_first() -> None:
    stage = selling()
    stage.is_answered = False
    stage.failing_writes = True
    stage.press("500#")
    stage.begin_epoch("another")
    stage.failing_writes = False
    stage.wait(6.0)
    assert stage.till.record.synced_at_ms is None
    stage.is_answered = True
    stage.wait(16.0)
    assert stage.till.record.synced_at_ms is not None


def test_a_reply_that_takes_its_time_makes_no_earlier_clock() -> None:
    stage = selling()
    true_ms = stage.true_ms
    assert stage.till.anchor is not None
    assert stage.till.anchor.at(stage.now_s) == true_ms
    stage.reply_age_ms = 9000
    stage.wait(30.0)
    assert stage.till.anchor.at(stage.now_s) == stage.true_ms
    stage.wait(700.0)
    assert stage.till.anchor.at(stage.now_s) == stage.true_ms - 9000


def test_a_sale_in_flight_when_the_policy_changes_is_not_taken_alone() -> None:
    stage = selling()
    stage.is_answered = False
    stage.press("500#")
    stage.show(a_code(stage))
    assert isinstance(stage.till.phase, Asking)
    assert stage.till.terms is not None
    newer = replace(stage.till.terms, policy=a_policy(2, offline=RULES))
    stage.till = replace(stage.till, terms=newer)
    stage.wait(4.0)
    assert stage.light is Light.FAULT
    assert stage.reason == "policy_changed_during_the_sale"


def test_a_text_that_is_no_code_is_refused_by_name() -> None:
    stage = cut_off()
    stage.press("500#")
    assert isinstance(stage.till.phase, Scanning)
    now = replace(stage.now(), wall_is_set=True)
    assert accept(stage.till, stage.till.phase.sale, "a shopping list", now.monotonic_s, now) is (
        QrRefusal.NOT_A_WALLET_QR
    )


def test_a_cloud_that_refuses_again_and_again_is_noted_once() -> None:
    stage = selling()
    stage.heartbeat_outcome = Declined(Reason.DEVICE_QUARANTINED)
    stage.wait(20.0)
    stage.connect()
    stage.wait(1.0)
    assert len([each for each in stage.journal if isinstance(each, SyncRefused)]) == 1


def test_an_acceptance_read_twice_counts_once() -> None:
    stage = cut_off()
    stage.sell()
    (accepted,) = stage.acceptances
    assert stage.standing.spell.with_sale(accepted) == stage.standing.spell
    assert stage.standing.number_of(accepted.key) > 0
    assert stage.standing.number_of("nobody's key") == 0


@pytest.mark.parametrize("lost", [Synced, DeniedTaken])
def test_what_an_earlier_journal_could_not_write_of_a_sync_no_other_one_takes(
    lost: type[Entry],
) -> None:
    """The disk is found broken as the sync is written: the new epoch has had none of its own."""
    stage = selling()
    stage.denied = [DeniedChanges(7, True, ("payerpayer2",), (), False)]
    stage.wait(61.0)
    assert stage.till.record.denied_version == 7
    stage.failing_kind = lost
    stage.denied = [DeniedChanges(8, False, ("payerpayer3",), (), False)]
    stage.wait(61.0)
    assert isinstance(stage.till.phase, JournalBroken)
    stage.begin_epoch("another")
    stage.failing_kind = None
    stage.is_answered = False
    stage.wait(6.0)
    stage.lose_link()
    assert stage.till.record.epoch == "another"
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    assert stage.till.record.synced_at_ms is None
    assert stage.till.record.denied_version == 0
    assert stage.standing.record.denied_version == 0


def test_a_sale_refused_as_quarantined_takes_the_leave_to_sell_alone_back() -> None:
    """At once, and not only with the next heartbeat: the link may go before that."""
    stage = selling()
    stage.is_answered = False
    stage.press("500#")
    stage.show(a_code(stage))
    stage.answer(declined(Reason.DEVICE_QUARANTINED), stage.last(AskToDeduct))
    assert stage.light is Light.DECLINED
    stage.lose_link()
    stage.wait(3.0)
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.wall_is_set = True
    stage.cut_power()
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
