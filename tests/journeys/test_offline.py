"""Two bars whose network goes away: keys, frames, light, tones, paper; and what is posted after."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select

from cloud.store.database import Database
from cloud.store.tables import credit_wallets, outcomes, users
from device.till.entries import MessageClosed, SaleAcceptedOffline, SaleOpened
from protocol.messages import PostedOffline, decode_outcome
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, eventually, now
from venue.lights import Light
from venue.programs import run_to_end
from venue.stack import CLOUD, EVENT, Venue

pytestmark = [pytest.mark.xdist_group("offline"), pytest.mark.timeout(900)]

SHORT_BEEP_HZ: Final = 1320
HIGH_BEEP_HZ: Final = 2640
RESTING: Final = frozenset({Light.OFFLINE_ALLOWED, Light.READY})
DOCUMENT: Final = BAR_DOCUMENT | {"offline": {"allowed": True}, "reply_timeout_ms": 3000}


class OtherBar(Bar):
    """The same venue's second appliance."""

    def __init__(self, venue: Venue, books: Books) -> None:
        super().__init__(venue, books, venue.badge)
        self.appliance = venue.appliances[1]


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bar, Bar]]:
    with Venue(tmp_path_factory.mktemp("offline"), document=DOCUMENT, appliances=2) as venue:
        books = Books(_database_of(venue))
        bars = (Bar(venue, books, venue.badge), OtherBar(venue, books))
        for bar in bars:
            bar.counter.sign_in(venue.badge)
        yield bars
        books.close()
        assert venue.reconcile()["balanced"]


@pytest.fixture
def bar(bars: tuple[Bar, Bar]) -> Bar:
    return online(bars[0])


@pytest.fixture
def other(bars: tuple[Bar, Bar]) -> Bar:
    return online(bars[1])


def online(bar: Bar) -> Bar:
    began = now()
    bar.appliance.network.mend()
    bar.edge.clear()
    bar.edge.wait_for_light(Light.READY, since=began, timeout_s=WITHIN_S)
    await_uploads(bar)
    return bar


def accepted(bar: Bar) -> list[str]:
    """The keys of what was taken offline and has no answer, oldest first."""
    closed = {each.key for each in bar.journal() if isinstance(each, MessageClosed)}
    taken = [each.key for each in bar.journal() if isinstance(each, SaleAcceptedOffline)]
    return [key for key in taken if key not in closed]


def await_uploads(bar: Bar) -> None:
    eventually(lambda: not accepted(bar) or None, "every offline sale to be answered")


def cut_off(bar: Bar) -> None:
    began = now()
    bar.appliance.network.cut()
    bar.edge.wait_for_light(Light.OFFLINE_ALLOWED, since=began, timeout_s=WITHIN_S)


def sell_alone(bar: Bar, keys: str, digits: str) -> str:
    """By key presses and frames; what the receipt says."""
    watch = bar.watch()
    bar.counter.key(keys)
    bar.counter.show_phone(digits, "easy")
    await_taken(bar, watch.since)
    watch.await_tones(HIGH_BEEP_HZ, 1)
    watch.await_tones(SHORT_BEEP_HZ, 1)
    return watch.await_paper()


def await_taken(bar: Bar, since: float) -> None:
    bar.edge.wait_for_light(Light.APPROVED_OFFLINE, since=since, timeout_s=WITHIN_S)
    bar.edge.clear()
    bar.edge.wait_for_any_light(RESTING, since, WITHIN_S)


def outcome_of(bar: Bar, key: str) -> Any:
    database = Database(_database_of(bar.venue))
    try:
        with database.reading() as connection:
            found = select(outcomes.c.answer).where(outcomes.c.key == key)
            return decode_outcome(bytes(connection.execute(found).scalar_one()))
    finally:
        database.close()


def is_frozen(bar: Bar, guest: Guest) -> bool:
    database = Database(_database_of(bar.venue))
    try:
        with database.reading() as connection:
            found = (
                select(credit_wallets.c.offline_frozen)
                .join(users, users.c.user_id == credit_wallets.c.user_id)
                .where(users.c.email == guest.email)
            )
            return bool(connection.execute(found).scalar_one())
    finally:
        database.close()


def printed_bound(venue: Venue, folder: Path) -> dict[str, int]:
    """What `railtix-ops policy show` says that offline sales may cost here."""
    config = ["--config", str(venue.cloud_config)]
    made = run_to_end([*CLOUD, "token", "create", "bound", "--role", "ops", *config])
    token = folder / "token"
    token.touch(0o600)
    token.write_text(made.strip().splitlines()[-1])
    said = run_to_end(
        [
            *(sys.executable, "-m", "provisioning", "policy", "show", "--event", EVENT, "--json"),
            *("--url", venue.base_url, "--token-file", str(token)),
        ]
    )
    bound: dict[str, int] = json.loads(said)["loss_if_allowed"]
    return bound


def test_a_bar_that_is_cut_off_sells_and_uploads_by_itself_oldest_first(bar: Bar) -> None:
    first, second = bar.guest(), bar.guest()
    codes = [first.fresh_qr().digits, second.fresh_qr().digits]
    cut_off(bar)
    watch = bar.watch()
    papers = [sell_alone(bar, "300#", codes[0]), sell_alone(bar, "A3#", codes[1])]
    assert all("ACCEPTED OFFLINE" in paper for paper in papers)
    assert "3.00 EUR" in papers[0]
    assert "Water" in papers[1]
    assert watch.posted() == []
    keys = accepted(bar)

    bar.appliance.network.mend()
    await_uploads(bar)

    posted = watch.posted()
    assert [row.idempotency_key for row in posted] == keys
    assert [row.amount_in_cents for row in posted] == [300, 250]
    assert all(row.accepted_offline_at is not None for row in posted)
    assert (first.balance(), second.balance()) == (1700, 1750)
    assert all(isinstance(outcome_of(bar, key), PostedOffline) for key in keys)


def test_what_offline_sales_may_not_cost_is_declined_at_the_hash_key(bar: Bar) -> None:
    cut_off(bar)
    watch = bar.watch()
    bar.edge.type("1001#")
    watch.await_light(Light.DECLINED)
    assert watch.journaled(SaleOpened) == []


def test_a_lost_approval_and_an_offline_acceptance_are_one_sale(bar: Bar) -> None:
    """The cloud deducts, its reply is lost, the till decides alone; then it says so."""
    guest = bar.guest()
    watch = bar.watch()
    bar.counter.key("200#")
    bar.appliance.network.swallow_replies()
    bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    await_taken(bar, watch.since)
    assert len(watch.posted()) == 1
    bar.appliance.network.mend()
    await_uploads(bar)
    (posted,) = watch.posted()
    assert posted.idempotency_key == watch.journaled(SaleAcceptedOffline)[0].key
    assert guest.balance() == 1800


def test_a_pulled_plug_loses_no_sale_that_was_taken_offline(bar: Bar) -> None:
    guest = bar.guest()
    digits = guest.fresh_qr().digits
    cut_off(bar)
    watch = bar.watch()
    sell_alone(bar, "100#", digits)
    (key,) = accepted(bar)
    bar.appliance.cut_power()
    bar.appliance.switch_on(bar.venue.rng())
    assert accepted(bar) == [key]
    bar.appliance.network.mend()
    await_uploads(bar)
    (posted,) = watch.posted()
    assert posted.idempotency_key == key
    assert guest.balance() == 1900


def test_one_code_at_two_bars_that_are_cut_off_costs_no_more_than_was_said(
    bar: Bar, other: Bar, tmp_path: Path
) -> None:
    bound = printed_bound(bar.venue, tmp_path)
    guest = bar.guest()
    digits = guest.fresh_qr().digits
    cut_off(bar)
    cut_off(other)
    watch = bar.watch()
    for each in (bar, other):
        assert "ACCEPTED OFFLINE" in sell_alone(each, "500#", digits)
    keys = [*accepted(bar), *accepted(other)]
    assert len(keys) == 2

    bar.appliance.network.mend()
    await_uploads(bar)
    other.appliance.network.mend()
    await_uploads(other)

    posted = watch.posted()
    assert [row.idempotency_key for row in posted] == keys
    assert [outcome_of(bar, key).token_seen_before for key in keys] == [False, True]
    assert is_frozen(bar, guest)
    assert guest.balance() == 2000 - 2 * 500
    copied = sum(row.amount_in_cents for row in posted[1:])
    assert copied <= bound["wallet_in_cents"] <= bound["event_in_cents"]
    assert sum(row.amount_in_cents for row in posted) <= bound["wallet_in_cents"]


def _database_of(venue: Venue) -> str:
    return f"sqlite:///{venue.folder / 'cloud' / 'cloud.sqlite'}"
