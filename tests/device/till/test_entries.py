import pytest

from device.till.contents import AskToSignOut
from device.till.entries import (
    CancelReason,
    Entry,
    EpochBegan,
    KeyedLine,
    LightShown,
    MessageClosed,
    PolicyTaken,
    Resent,
    SaleAbandoned,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionBegan,
    SessionEnded,
    decode,
    encode,
    key_of,
    kind_of,
)
from device.till.standing import Standing
from device.till.states import SigningIn, Till, Unanswered, awaited_hashes
from protocol.messages import Cancelled, SignedIn
from protocol.money import Money

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
ABOUT_NO_KEY: tuple[Entry, ...] = (
    EpochBegan("e", 1),
    PolicyTaken(1, "jws"),
    SessionBegan(SignedIn("s" * 22, "mia", "MB", "fair", "bar", 9), "jws"),
    SessionEnded("s" * 22, None),
    Resent("restore-1"),
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
