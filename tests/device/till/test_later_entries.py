from typing import Any

import msgspec
import pytest

from device.till.entries import (
    CancelReason,
    DeniedTaken,
    Entry,
    LightShown,
    MessageClosed,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionBegan,
    Synced,
    WalletKeysTaken,
    decode,
    encode,
)
from device.till.later_entries import decode_known, decode_later
from device.till.standing import Standing
from protocol.messages import DeniedChanges
from tests.device.stage import WALLET_KEY, a_session, approved, asking, named


def sale() -> SaleOpened:
    return asking().standing.sales[0].sale


ENTRIES: list[Entry] = [
    sale(),
    SaleAnswered("k", approved(), "t"),
    SaleCancelled("k", CancelReason.STAFF),
    LightShown("k"),
    MessageClosed("k", "cancel", "t"),
    SessionBegan(a_session(), "t"),
    Synced(1, None),
    DeniedTaken(
        DeniedChanges(version=1, is_whole=True, added=("payerpayer1",), removed=(), more=False), 2
    ),
    WalletKeysTaken(1, (named("w1", WALLET_KEY),)),
]


def with_additions(raw: Any) -> Any:
    """The same as a later release would write it: one more field in every object there is."""
    match raw:
        case dict():
            return {**{k: with_additions(v) for k, v in raw.items()}, "of_a_later_release": [1]}
        case list():
            return [with_additions(each) for each in raw]
        case _:
            return raw


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: type(each).__name__)
def test_what_a_later_release_added_is_passed_over_at_any_depth(entry: Entry) -> None:
    later = msgspec.json.encode(with_additions(msgspec.json.decode(encode(entry))))
    with pytest.raises(msgspec.DecodeError):
        decode(later)
    assert decode_later(later) == entry
    assert decode_later(encode(entry)) == entry


def test_a_kind_that_is_new_is_no_entry_here() -> None:
    assert decode_later(b'{"entry":"tip_given","key":"k"}') is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"7", b'{"key":"k"}', b'{"entry":7}', b'{"entry":"sale_answered"}', b"\xff"],
)
def test_rubbish_is_no_releases_entry(body: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_later(body)


def test_a_value_that_is_not_what_it_was_is_still_refused() -> None:
    raw = msgspec.json.decode(encode(SaleAnswered("k", approved(), "t")))
    for changed in (
        raw | {"key": 7},
        raw | {"outcome": "x"},
        raw | {"outcome": [1]},
        raw | {"outcome": {"outcome": "new"}},
    ):
        with pytest.raises(msgspec.DecodeError):
            decode_later(msgspec.json.encode(changed))


def test_a_standing_of_a_later_release_is_read_as_far_as_it_is_known() -> None:
    standing = Standing()
    opened = sale()
    sold = SaleAnswered(opened.key, approved(), "t")
    for number, entry in enumerate([opened, sold, *ENTRIES[5:]], 1):
        standing = standing.after(number, entry)
    assert standing.last_sale is not None
    raw = msgspec.json.decode(msgspec.json.encode(standing))
    assert decode_known(msgspec.json.encode(with_additions(raw)), Standing) == standing
