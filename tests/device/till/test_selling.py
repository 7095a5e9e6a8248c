from datetime import UTC

import pytest

from device.till.contents import AskToDeduct
from device.till.entries import KeyedLine, SaleAbandoned, SaleOpened
from device.till.events import KeyPressed, LinkDown, PolicyArrived
from device.till.signals import Light, Sound
from device.till.states import (
    Asking,
    KeyingAmount,
    NobodySignedIn,
    Ready,
    Scanning,
)
from protocol.messages import Reason
from protocol.money import Money
from protocol.policy import Product
from protocol.wallet_qr import peek
from tests.device.stage import (
    EPOCH_MS,
    OTHER_KEY,
    Stage,
    a_badge,
    a_policy,
    a_wallet_qr,
    approved,
    asking,
    ready,
    scanning,
)


def opened(stage: Stage) -> SaleOpened:
    sale = stage.journal[-1]
    assert isinstance(sale, SaleOpened)
    return sale


def test_500_and_the_hash_key_is_five_and_is_journaled_before_anybody_scans() -> None:
    stage = ready()
    stage.press("500#")
    assert opened(stage).amount == Money(500, "EUR")
    assert opened(stage).lines == ()
    assert stage.light is Light.SHOW_QR
    assert stage.is_looking


def test_products_are_added_up_with_the_price_lists_prices() -> None:
    stage = ready()
    stage.press("A1A3A1#")
    assert opened(stage).amount == Money(1100, "EUR")
    assert opened(stage).lines == (KeyedLine(1, "Beer", 2, 450), KeyedLine(3, "Water", 1, 200))


def test_a_sale_records_who_sold_what_where_under_which_policy() -> None:
    stage = scanning()
    sale = opened(stage)
    assert (sale.session_id, sale.initials) == ("session-0123456789", "AL")
    assert (sale.event_id, sale.stall_id, sale.policy_version) == ("summer", "bar", 1)
    assert sale.at_ms == EPOCH_MS


def test_nothing_is_scanned_if_the_sale_could_not_be_journaled() -> None:
    stage = ready()
    stage.failing_writes = True
    stage.press("500#")
    assert not stage.is_looking
    assert stage.light is Light.FAULT
    assert not any(isinstance(each.content, AskToDeduct) for each in stage.sent)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ("0#", Reason.AMOUNT_NOT_POSITIVE),
        ("000#", Reason.AMOUNT_NOT_POSITIVE),
        ("A7#", Reason.AMOUNT_NOT_POSITIVE),
        ("20001#", Reason.AMOUNT_OVER_LIMIT),
        ("A2#", "product_unknown"),
        ("A1A2A3#", "product_unknown"),
    ],
)
def test_what_the_till_can_refuse_before_scanning_it_refuses(keys: str, reason: str) -> None:
    stage = ready()
    entries = len(stage.journal)
    stage.press(keys)
    assert reason in [each.detail for each in stage.notes]
    assert stage.lights.count(Light.DECLINED) == 1
    assert Sound.DECLINED in stage.sounds
    assert len(stage.journal) == entries
    assert not stage.is_looking


def test_a_number_keyed_while_the_till_was_busy_is_no_number_once_it_listens() -> None:
    stage = asking()
    stage.press("12")
    stage.answer(approved())
    stage.press("34#")
    assert stage.till.phase == Ready()
    assert not any(isinstance(each, SaleOpened) for each in stage.journal[4:])
    stage.press("500#")
    assert isinstance(stage.till.phase, Scanning)


def test_a_number_keyed_half_while_the_till_was_busy_is_forgotten_after_a_pause() -> None:
    stage = asking()
    stage.press("12")
    stage.answer(approved())
    stage.wait(3.5)
    stage.press("500#")
    assert isinstance(stage.till.phase, Scanning)


def test_the_limit_itself_may_be_sold() -> None:
    stage = ready()
    stage.press("20000#")
    assert opened(stage).amount == Money(20_000, "EUR")


def test_more_different_products_than_a_message_holds_are_refused() -> None:
    many = tuple(Product(number, f"P{number}", 1) for number in range(1, 42))
    stage = ready(a_policy(products=many))
    stage.press("".join(f"A{number}" for number in range(1, 42)) + "#")
    assert stage.notes[-1].detail == "too_many_products"


def test_a_price_list_that_lost_a_product_while_staff_keyed_refuses_it() -> None:
    stage = ready()
    stage.press("A1A3")
    newer = a_policy(version=2, products=(Product(3, "Water", 200),))
    stage.take(PolicyArrived(newer, UTC, "token"))
    stage.press("#")
    assert stage.notes[-1].detail == "product_unknown"


def test_an_expired_policy_sells_nothing() -> None:
    stage = ready(a_policy(expires_at_ms=EPOCH_MS + 10_000))
    stage.wait(11)
    stage.press("500#")
    assert stage.notes[-1].detail == Reason.POLICY_EXPIRED


def test_without_a_cloud_nothing_is_sold() -> None:
    stage = ready()
    stage.take(LinkDown())
    assert stage.light is Light.OFFLINE_NOT_ALLOWED
    stage.press("500#")
    assert stage.notes[-1].detail == Reason.OFFLINE_NOT_ALLOWED
    assert not any(isinstance(each, SaleOpened) for each in stage.journal)


def test_a_star_clears_what_was_keyed() -> None:
    stage = ready()
    stage.press("500*")
    assert stage.till.phase == Ready()
    stage.press("A1A*")
    assert stage.till.phase == Ready()


@pytest.mark.parametrize("before", ["", "5", "A", "A1"])
def test_a_key_without_a_meaning_is_declined_by_sound_and_changes_nothing(before: str) -> None:
    for keys in ("BCD", "#"):
        stage = ready()
        stage.press(before)
        phase = stage.till.phase
        for key in keys if before == "A" else {"": "#"}.get(before, keys.replace("#", "")):
            stage.press(key)
            assert stage.sounds[-1] is Sound.DECLINED
        assert stage.till.phase == phase


def test_a_star_when_nothing_is_keyed_is_only_a_click() -> None:
    stage = ready()
    stage.press("*")
    assert stage.sounds[-1] is Sound.CLICK
    assert stage.till.phase == Ready()


def test_a_number_keyed_too_long_is_refused_and_not_cut_short() -> None:
    stage = ready()
    stage.press("5" * 40)
    assert stage.sounds[-1] is Sound.DECLINED
    stage.press("#")
    assert stage.notes[-1].detail == Reason.AMOUNT_OVER_LIMIT
    stage.press("A" + "1" * 40)
    assert stage.sounds[-1] is Sound.DECLINED
    stage.press("#")
    assert stage.notes[-1].detail == "product_unknown"


def test_an_amount_cannot_turn_into_products_half_way() -> None:
    stage = ready()
    stage.press("5A")
    assert stage.till.phase == KeyingAmount("5")
    assert stage.sounds[-1] is Sound.DECLINED


def test_a_wallet_qr_is_sent_as_the_jws_it_holds_with_the_sales_key() -> None:
    stage = scanning()
    sale = opened(stage)
    stage.show(a_wallet_qr(8))
    content = stage.sent[-1].content
    assert isinstance(content, AskToDeduct)
    assert content.key == sale.key
    token = peek(content.wallet_qr)
    assert token is not None
    assert token.jti == "token-000008"
    assert stage.sent[-1].expiry_s == 4
    assert (stage.light, stage.is_looking) == (Light.ASKING, False)
    assert stage.sounds[-1] is Sound.SCANNED


def test_a_qr_signed_by_a_key_the_policy_does_not_name_is_the_clouds_to_judge() -> None:
    stage = scanning()
    stage.show(a_wallet_qr(key=OTHER_KEY, kid="newer"))
    assert isinstance(stage.till.phase, Asking)


def test_an_expired_qr_is_the_clouds_to_judge_because_the_tills_clock_may_be_wrong() -> None:
    stage = scanning()
    stage.show(a_wallet_qr(issued_s=EPOCH_MS // 1000 - 86_400))
    assert isinstance(stage.till.phase, Asking)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("WIFI:S:fair;T:WPA;P:secret;;", "not_a_wallet_qr"),
        ("https://example.org/menu", "not_a_wallet_qr"),
        ("", "not_a_wallet_qr"),
        ("9" * 1_000_000, "token_too_long"),
        ("a.b.c", "token_malformed"),
        (a_wallet_qr(key=OTHER_KEY), "token_bad_signature"),
        (a_badge(), "token_malformed"),
    ],
    ids=["wifi", "web", "empty", "1 MB", "not json", "forged", "badge"],
)
def test_a_code_that_is_no_payment_is_refused_here_by_name_and_the_sale_goes_on(
    text: str, reason: str
) -> None:
    stage = scanning()
    sale = opened(stage)
    stage.show(text)
    assert (stage.light, stage.sounds[-1]) == (Light.REFRESH_QR, Sound.REFRESH_QR)
    assert stage.notes[-1].detail == reason
    assert stage.is_looking
    stage.wait(2.5)
    assert stage.light is Light.SHOW_QR
    stage.show(a_wallet_qr())
    assert stage.sent[-1].content.key == sale.key
    assert opened(stage) == sale


def test_a_refused_code_that_stays_in_view_is_refused_once() -> None:
    stage = scanning()
    for _ in range(5):
        stage.show("https://example.org/menu")
        stage.wait(1.5)
    assert stage.lights.count(Light.REFRESH_QR) == 1
    assert isinstance(stage.till.phase, Scanning)


def test_the_right_code_is_taken_while_the_refusal_of_another_still_blinks() -> None:
    stage = scanning()
    stage.show("https://example.org/menu")
    stage.show(a_wallet_qr())
    assert isinstance(stage.till.phase, Asking)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_star_while_scanning_abandons_the_sale_without_a_message(is_held: bool) -> None:
    stage = scanning()
    sent = len(stage.sent)
    key = opened(stage).key
    stage.take(KeyPressed("*", held=is_held))
    assert stage.journal[-1] == SaleAbandoned(key)
    assert stage.till.phase == Ready()
    assert len(stage.sent) == sent
    assert stage.standing.sales == ()


def test_other_keys_while_scanning_change_nothing() -> None:
    stage = scanning()
    phase = stage.till.phase
    stage.press("5A#")
    assert stage.till.phase == phase
    assert stage.sounds[-1] is Sound.DECLINED


def test_a_sale_nobody_pays_for_is_abandoned() -> None:
    stage = scanning()
    stage.wait(121)
    assert isinstance(stage.journal[-1], SaleAbandoned)
    assert stage.till.phase == Ready()


def test_a_code_seen_when_nobody_looks_for_one_means_nothing() -> None:
    stage = asking()
    before = stage.till.phase
    stage.show(a_wallet_qr(2))
    assert stage.till.phase == before


def test_a_policy_for_another_stall_ends_the_session() -> None:
    stage = ready()
    moved = a_policy(version=2, stall_id="kitchen")
    stage.take(PolicyArrived(moved, UTC, "token"))
    assert stage.till.phase == NobodySignedIn()
    assert stage.till.session is None


def test_a_policy_in_the_middle_of_a_sale_leaves_the_sale_under_the_old_one() -> None:
    stage = asking()
    stage.take(PolicyArrived(a_policy(version=2), UTC, "token"))
    assert isinstance(stage.till.phase, Asking)
    assert stage.till.phase.sale.policy_version == 1


def test_the_retained_policy_coming_again_is_not_journaled_again() -> None:
    stage = ready()
    entries = len(stage.journal)
    stage.take(PolicyArrived(a_policy(), UTC, "token"))
    assert len(stage.journal) == entries
