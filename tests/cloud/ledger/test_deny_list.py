"""How a till that asks comes to hold the very list, whatever it held before."""

from hypothesis import example, given
from hypothesis import strategies as st

from cloud.ledger.deny_list import (
    NEVER_BEGUN,
    TAGS,
    DeniedChange,
    ListState,
    newest_version,
    page,
    serial_held,
)
from protocol.messages import DENIED_CHANGES_MAX

STATE = ListState(tag=7, serial=40)


def test_a_version_names_one_list_and_how_far_it_was_read() -> None:
    assert serial_held(STATE, STATE.version) == 40
    assert serial_held(STATE, ListState(7, 39).version) == 39
    for of_another in (0, NEVER_BEGUN, ListState(8, 39).version, ListState(7, 41).version):
        assert serial_held(STATE, of_another) == 0
    assert serial_held(None, STATE.version) == 0
    assert newest_version(None) == NEVER_BEGUN
    assert newest_version(STATE) == 40 * TAGS + 7


def test_a_list_nobody_was_ever_on_is_told_whole_and_empty() -> None:
    told = page(None, 0, [])
    assert (told.version, told.is_whole, told.added, told.removed, told.more) == (
        NEVER_BEGUN,
        True,
        (),
        (),
        False,
    )


LONG = [(payer, True) for payer in range(450)] + [(payer, payer % 2 == 0) for payer in range(430)]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=900),
    st.integers(0, 900),
)
@example(LONG, 450)
@example(LONG, 20)
def test_pages_add_up_to_the_list(history: list[tuple[int, bool]], first: int) -> None:
    rows: dict[str, DeniedChange] = {}
    held, version = set[str](), 0
    for asked_at in (first, len(history)):
        rows = {}
        for serial, (payer, is_denied) in enumerate(history[:asked_at], 1):
            rows[f"payer-{payer}"] = DeniedChange(serial, f"payer-{payer}", is_denied)
        state = ListState(7, min(asked_at, len(history))) if rows else None
        while True:
            since = serial_held(state, version)
            changes = sorted(each for each in rows.values() if each.serial > since)
            if since == 0:
                changes = [each for each in changes if each.is_denied]
            told = page(state, since, changes[: DENIED_CHANGES_MAX + 1])
            held = (set() if told.is_whole else held) - set(told.removed) | set(told.added)
            version = told.version
            if not told.more:
                break
        assert version == newest_version(state)
        assert held == {payer for payer, each in rows.items() if each.is_denied}
