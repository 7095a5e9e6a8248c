"""A whole shift at two bars, and what lamp, paper, ledger and audit say of it in the end."""

from collections.abc import Iterator

import pytest

from protocol import receipt_qr
from protocol.messages import SaleName
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, now
from tests.journeys.power import await_settled
from venue.lights import Light
from venue.paper import plain
from venue.phone import badge
from venue.stack import Venue

pytestmark = [pytest.mark.xdist_group("shift"), pytest.mark.timeout(600)]

READY = frozenset({Light.READY, Light.READY_NO_PAPER})


@pytest.fixture
def bars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bar, Bar]]:
    folder = tmp_path_factory.mktemp("shift")
    document = BAR_DOCUMENT | {"offline": {"allowed": True}}
    with Venue(folder, document=document, appliances=2) as venue:
        books = Books(f"sqlite:///{folder / 'cloud' / 'cloud.sqlite'}")
        one, other = (Bar(venue, books, venue.badge) for _ in range(2))
        other.appliance = venue.appliances[1]
        yield one, other
        books.close()
        assert venue.reconcile()["balanced"]


def sell(bar: Bar, guest: Guest, light: Light = Light.APPROVED) -> None:
    bar.counter.key("200#")
    began = bar.counter.show_phone(guest.fresh_qr().digits, "easy")
    bar.edge.wait_for_light(light, since=began, timeout_s=WITHIN_S)
    bar.edge.clear()


def lose_the_network(bar: Bar) -> None:
    began = now()
    bar.appliance.network.cut()
    bar.edge.wait_for_light(Light.OFFLINE_ALLOWED, since=began, timeout_s=WITHIN_S)


def switch_off_and_on(bar: Bar) -> None:
    """In the middle of an offline spell, with no network to come back to."""
    bar.appliance.cut_power()
    bar.appliance.switch_on(bar.venue.rng())
    bar.edge.wait_for_any_light(
        frozenset({Light.OFFLINE_ALLOWED, Light.OFFLINE_NOT_ALLOWED}), 0.0, WITHIN_S
    )


def be_ready(bar: Bar) -> None:
    edge = bar.edge
    edge.wait_for(lambda: edge.light() in READY or None, "the till to be ready", WITHIN_S)


def back_online(bar: Bar) -> None:
    bar.appliance.network.mend()
    be_ready(bar)
    await_settled(bar)


def refund(bar: Bar, sale: SaleName) -> None:
    edge, began = bar.edge, now()
    edge.tap("B")
    edge.wait_for_light(Light.SHOW_RECEIPT, since=began, timeout_s=WITHIN_S)
    edge.show(badge(receipt_qr.write(sale), bar.venue.rng(), "easy"))
    edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began, timeout_s=WITHIN_S)
    edge.clear()
    edge.tap("#")
    edge.wait_for_light(Light.REFUNDED, since=began, timeout_s=WITHIN_S)


def shift_report(bar: Bar) -> str:
    began = now()
    be_ready(bar)
    bar.edge.hold("D")
    slip = bar.edge.wait_for(
        lambda: next(
            (said for paper in bar.edge.papers if "Shift of" in (said := plain(paper.printed))),
            None,
        ),
        "the shift report",
        WITHIN_S,
    )
    bar.edge.tap("#")
    bar.edge.wait_for_light(Light.NOBODY_SIGNED_IN, since=began, timeout_s=WITHIN_S)
    return " ".join(slip.split())


def test_a_shift_with_all_that_goes_wrong_ends_with_lamp_paper_ledger_and_audit_agreed(
    bars: tuple[Bar, Bar],
) -> None:
    one, other = bars
    for bar in bars:
        bar.counter.sign_in(bar.badge)
    guest, friend = one.guest(), one.guest()

    sell(one, guest)
    sell(other, friend)
    for bar in bars:
        lose_the_network(bar)
    one.edge.take_paper_out()
    sell(one, guest, Light.APPROVED_OFFLINE)
    sell(other, friend, Light.APPROVED_OFFLINE)
    assert len(one.books.postings()) == 4, "two top-ups, two sales: what is sold alone waits"
    one.edge.put_paper_in()
    one.edge.wait_for(
        lambda: any("COPY" in plain(paper.printed) for paper in one.edge.papers) or None,
        "the receipt that waited for paper",
        WITHIN_S,
    )
    switch_off_and_on(one)
    for bar in bars:
        back_online(bar)
    sell(one, guest)
    first = next(row for row in one.books.postings() if row.device_id == "bar-north-1")
    be_ready(one)
    refund(one, SaleName(first.device_id, first.idempotency_key))
    await_settled(one)

    said = [shift_report(bar) for bar in bars]
    assert "6.00" in said[0], "three sales"
    assert "2.00" in said[0], "one refund, one offline"
    assert "4.00" in said[1], "two sales"
    for bar in bars:
        await_settled(bar)

    postings = [row for row in one.books.postings() if row.device_id is not None]
    assert sorted((row.device_id, row.type, row.amount_in_cents) for row in postings) == [
        *[("bar-north-1", "Deduct", 200)] * 3,
        ("bar-north-1", "Refund", 200),
        *[("bar-north-2", "Deduct", 200)] * 2,
    ]
    assert len({(row.device_id, row.idempotency_key) for row in postings}) == len(postings)
    assert (guest.balance(), friend.balance()) == (2000 - 600 + 200, 2000 - 400)
    subjects = {record.subject for record in one.books.audit()}
    for row in postings:
        assert subjects & {row.idempotency_key, str(row.id)}, "each posting has its record"
