import pytest

from device.till.contents import AskToSignOut
from device.till.entries import (
    CancelReason,
    DeniedTaken,
    Entry,
    EpochBegan,
    KeyedLine,
    LightShown,
    MessageClosed,
    PolicyTaken,
    Resent,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionBegan,
    SessionEnded,
    Synced,
    SyncRefused,
    WalletKeysTaken,
    decode,
    encode,
    key_of,
    kind_of,
)
from device.till.standing import Standing
from device.till.states import SigningIn, Till, Unanswered, awaited_hashes
from protocol.messages import Cancelled, DeniedChanges, SignedIn
from protocol.money import Money
from tests.device.stage import OTHER_KEY, named

KEY = "k" * 22
SALE = SaleOpened(
    key=KEY,
    correlation_id="c" * 22,
    session_id="s" * 22,
    initials="MB",
    event_id="fair",
    stall_id="bar",
    policy_version=1,
    amount=Money(900, "EUR"),
    lines=(KeyedLine(1, "Lager", 2, 450),),
    at_ms=1,
)
ACCEPTED = SaleAcceptedOffline(
    key=KEY,
    wallet_qr="whoever-has-this-can-pay",
    payer_id="payerpayer1",
    token_id="token-000001",
    token_expires_s=2,
    amount=Money(900, "EUR"),
    scanned_at_ms=1,
    accepted_at_ms=2,
)
ABOUT_NO_KEY: tuple[Entry, ...] = (
    EpochBegan("e", 1),
    PolicyTaken(1, "jws"),
    SessionBegan(SignedIn("s" * 22, "mia", "MB", "fair", "bar", 9), "jws"),
    SessionEnded("s" * 22, None),
    Resent("restore-1"),
    Synced(5, None),
    SyncRefused(5),
    DeniedTaken(DeniedChanges(7, True, ("payerpayer1",), (), False), 5),
    WalletKeysTaken(1, (named("w2", OTHER_KEY),)),
)
ABOUT_A_KEY: tuple[Entry, ...] = (
    SessionEnded("s" * 22, KEY),
    SALE,
    SaleAnswered(KEY, Cancelled(None), "jws"),
    SaleCancelled(KEY, CancelReason.STAFF),
    SaleAbandoned(KEY),
    LightShown(KEY),
    SaleKept(KEY),
    MessageClosed(KEY, "cancel", "jws"),
    MessageClosed(KEY, "offline_acceptance", "jws", is_posting=True),
    ACCEPTED,
)


@pytest.mark.parametrize("entry", [*ABOUT_NO_KEY, *ABOUT_A_KEY], ids=kind_of)
def test_what_was_journaled_is_read_back(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


def test_every_entry_names_the_key_it_is_about() -> None:
    assert {key_of(entry) for entry in ABOUT_A_KEY} == {KEY}
    assert {key_of(entry) for entry in ABOUT_NO_KEY} == {""}


def test_only_requests_that_were_signed_can_be_sent_again() -> None:
    signed = Unanswered(AskToSignOut(KEY, "s" * 22), 0.0, request_hash="h1")
    unsigned = Unanswered(AskToSignOut("m" * 22, "s" * 22), 0.0)
    till = Till(phase=SigningIn(KEY, 1.0, (), request_hash="h2"), outbox=(signed, unsigned))
    assert awaited_hashes(till) == {"h1", "h2"}
    assert awaited_hashes(Till()) == frozenset()


def test_everything_below_the_oldest_open_sale_is_settled() -> None:
    nothing_open = Standing()
    assert nothing_open.settled_below(7) == 8
    one_open = nothing_open.after(5, SALE)
    assert one_open.settled_below(7) == 5
    assert one_open.after(8, SaleAbandoned(KEY)).settled_below(8) == 9


def test_a_wallets_code_stands_in_no_repr() -> None:
    assert ACCEPTED.wallet_qr not in repr(ACCEPTED)


def test_an_acceptance_closes_no_sale_that_nobody_opened() -> None:
    standing = Standing().after(1, ACCEPTED)
    assert standing.sales == standing.unsynced == ()
    assert standing.last_sale is None


def test_a_sale_taken_offline_waits_for_its_answer_though_it_was_seen() -> None:
    standing = Standing().after(1, SALE).after(2, ACCEPTED)
    assert standing.sales[0].may_be_unseen
    seen = standing.after(3, LightShown(KEY))
    assert not seen.sales[0].may_be_unseen
    assert seen.settled_below(3) == 1
    assert [(each.number, each.amount, each.accepted_at_ms) for each in seen.unsynced] == [
        (1, Money(900, "EUR"), 2)
    ]
    assert seen.spell.sum_in_cents == 900
    assert (seen.shift.offline, seen.shift.offline_in_cents) == (1, 900)
    answered = seen.after(4, MessageClosed(KEY, "offline_acceptance", "t"))
    assert answered.settled_below(4) == 5
    assert answered.spell.count == 0
