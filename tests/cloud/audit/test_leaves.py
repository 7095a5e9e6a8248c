import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.audit.leaves import TABLES, LeafKind, canonical_form, find_rows, leaf_of
from tests.cloud.audit.log import Log

AT = datetime(2026, 6, 20, 18, 0, 0, 250, tzinfo=UTC)
RECORD: dict[str, Any] = {
    "id": UUID("0197A3C2-5F00-7C3A-9D51-2F6B8E0C4A17"),
    "at": AT,
    "actor": "staff:mia",
    "action": "deduct",
    "outcome": "approved",
    "device_id": "till-1",
    "event_id": None,
    "user_id": None,
    "subject": "ключ",
    "request_hash": None,
    "detail": {"b": [1, {"z": None, "a": "\u2028"}], "a": True},
}


def test_the_canonical_form_is_this_for_ever() -> None:
    """A leaf of years ago is checked by what this gives today."""
    assert canonical_form(LeafKind.AUDIT, RECORD).decode() == (
        '{"action":"deduct","actor":"staff:mia","at":"2026-06-20T18:00:00.000250Z",'
        '"detail":{"a":true,"b":[1,{"a":"\u2028","z":null}]},"device_id":"till-1",'
        '"id":"0197a3c2-5f00-7c3a-9d51-2f6b8e0c4a17","kind":"audit","outcome":"approved",'
        '"subject":"ключ","v":1}'
    )
    assert leaf_of(LeafKind.AUDIT, RECORD).hex() == (
        "b74162de4d83428056bb52cd5c8da2435d673a6541145ae46b944cafc2fa2a1d"
    )


@pytest.mark.parametrize("kind", LeafKind)
def test_every_column_is_in_the_leaf(kind: LeafKind) -> None:
    names = [column.name for column in TABLES[kind].columns]
    assert not {"kind", "v"} & set(names)
    row: dict[str, Any] = {name: f"value of {name}" for name in names}
    whole = leaf_of(kind, row)
    for name in names:
        assert leaf_of(kind, row | {name: "other"}) != whole, name
        assert leaf_of(kind, row | {name: None}) != whole, name


def test_a_time_is_the_same_in_every_zone() -> None:
    east = AT.astimezone(timezone(timedelta(hours=2)))
    naive = AT.replace(tzinfo=None)
    for at in (east, naive):
        assert leaf_of(LeafKind.AUDIT, RECORD | {"at": at}) == leaf_of(LeafKind.AUDIT, RECORD)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), _JSON, max_size=4))
def test_a_third_party_spells_it_the_same(detail: dict[str, Any]) -> None:
    """By the standard library of Python, as docs/audit.md shows it; sorted by UTF-8 or by code
    point is the same order."""
    canonical = canonical_form(LeafKind.AUDIT, RECORD | {"detail": detail})
    spelled = json.dumps(
        json.loads(canonical), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert spelled.encode() == canonical
    assert msgspec.json.encode(msgspec.json.decode(canonical), order="sorted") == canonical


def test_both_databases_give_the_same_leaf(log: Log) -> None:
    """PostgreSQL keeps JSON in its own order, SQLite times without a zone."""
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sell(till, guest)
    [sale] = log.floor.deducts(guest)
    named = (LeafKind.TRANSACTION, sale.id, sale.user_id)
    with log.floor.database.reading() as connection:
        row = find_rows(connection, [named])[named]
    canonical = json.loads(canonical_form(LeafKind.TRANSACTION, row))
    assert canonical["created_at"] == "2026-06-20T18:00:00.000000Z"
    assert canonical["lines"] == [{"product": 1, "quantity": 1, "unit_price_in_cents": 350}]
    assert leaf_of(LeafKind.TRANSACTION, sale._asdict()) == leaf_of(LeafKind.TRANSACTION, row)
