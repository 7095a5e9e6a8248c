"""Each cell of the table in docs/rules.md, through the real broker, on both databases."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.worker.worker import Worker
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    Deduct,
    PostedOffline,
    Reason,
    UnderReview,
)
from protocol.signing import fingerprint
from tests.cloud.floor import Floor, Guest, eur
from tests.cloud.wire import Line, WireTill, eventually
from venue.servers import Broker, Credentials

BALANCE, PRICE, TOO_MUCH = 2000, 350, 5000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def floor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Floor]:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    floor = Floor(url, tmp_path / "keys", starts_at=None)
    yield floor
    floor.close()


@pytest.fixture
def worker(floor: Floor, broker: Broker, worker_credentials: list[Credentials]) -> Iterator[Worker]:
    worker = Worker(floor.desk, Line.of(broker, worker_credentials[0]))
    worker.start()
    try:
        assert worker.wait_until_subscribed(20)
        yield worker
    finally:
        worker.stop()


@pytest.fixture
def stall(
    floor: Floor, broker: Broker, worker: Worker, certify_device: Callable[[str], Credentials]
) -> Iterator[WireTill]:
    with WireTill.at(floor, broker, certify_device("till-1")) as stall:
        yield stall


class Sale:
    """One key at one stall, and the state that docs/rules.md calls its column."""

    def __init__(self, floor: Floor, stall: WireTill, state: str) -> None:
        self.floor, self.stall = floor, stall
        self.guest: Guest = floor.add_guest(BALANCE)
        cents = TOO_MUCH if state == "declined" else PRICE
        # Offline the policy's 10.00 holds; a declined sale is within it for its own guest.
        if state == "declined":
            self.guest, cents = floor.add_guest(PRICE - 1), PRICE
        self.deduct: Deduct = stall.till.deduct(floor.qr(self.guest), cents)
        self.before = self._bring_to(state)

    @property
    def other_content(self) -> Deduct:
        """Another sale under the same key."""
        return self.stall.till.deduct(self.floor.qr(self.guest), PRICE + 1, key=self.deduct.key)

    def posted(self) -> int:
        """How many deducts stand under this key."""
        rows = self.floor.deducts(self.guest)
        return len([row for row in rows if row.idempotency_key == self.deduct.key])

    def net(self) -> int:
        """What the sale took from the wallet in the end."""
        purchased = sum(
            row.amount_in_cents
            for row in self.floor.transactions(self.guest)
            if row.type == "Purchase"
        )
        return purchased - self.floor.balance(self.guest)

    def _bring_to(self, state: str) -> Any:
        till = self.stall.till
        match state:
            case "unseen":
                return None
            case "approved" | "declined":
                return self.stall.ask(self.deduct)
            case "cancelled":
                return self.stall.ask(till.cancel(self.deduct))
            case "posted offline":
                return self.stall.ask(till.accept_offline(self.deduct))
            case other:
                raise AssertionError(other)


def test_a_deduct_with_the_same_content(floor: Floor, stall: WireTill) -> None:
    unseen = Sale(floor, stall, "unseen")
    assert isinstance(stall.ask(unseen.deduct), Approved)
    assert (unseen.posted(), unseen.net()) == (1, PRICE)
    for state, posted in {
        "approved": 1,
        "declined": 0,
        "cancelled": 0,
        "posted offline": 1,
    }.items():
        sale = Sale(floor, stall, state)
        assert stall.ask(sale.deduct) == sale.before, state
        assert (sale.posted(), sale.net()) == (posted, posted * PRICE), state
    assert Sale(floor, stall, "declined").before == Declined(
        Reason.INSUFFICIENT_FUNDS, eur(PRICE - 1)
    )
    assert Sale(floor, stall, "cancelled").before == Cancelled(None)


def test_a_deduct_with_other_content(floor: Floor, stall: WireTill) -> None:
    for state, posted in {"approved": 1, "declined": 0, "posted offline": 1}.items():
        sale = Sale(floor, stall, state)
        assert stall.ask(sale.other_content) == Declined(Reason.KEY_REUSED), state
        assert (sale.posted(), sale.net()) == (posted, posted * PRICE), state
    cancelled = Sale(floor, stall, "cancelled")
    assert stall.ask(cancelled.other_content) == Cancelled(None)
    assert cancelled.posted() == 0


def test_a_cancel(floor: Floor, stall: WireTill) -> None:
    answers = {
        "unseen": Cancelled(None),
        "approved": Cancelled(eur(PRICE)),
        "declined": Cancelled(None),
        "cancelled": Cancelled(None),
        "posted offline": Cancelled(eur(PRICE)),
    }
    for state, answer in answers.items():
        sale = Sale(floor, stall, state)
        assert stall.ask(stall.till.cancel(sale.deduct)) == answer, state
        assert stall.ask(stall.till.cancel(sale.deduct)) == answer, state
        assert stall.ask(sale.deduct) == answer, state
        assert sale.net() == 0, state


def test_an_offline_acceptance(floor: Floor, stall: WireTill) -> None:
    unseen = Sale(floor, stall, "unseen")
    posted = stall.ask(stall.till.accept_offline(unseen.deduct))
    assert isinstance(posted, PostedOffline)
    assert (posted.amount, posted.short_in_cents) == (eur(PRICE), 0)
    assert unseen.net() == PRICE

    approved = Sale(floor, stall, "approved")
    assert stall.ask(stall.till.accept_offline(approved.deduct)) == approved.before
    assert (approved.posted(), approved.net()) == (1, PRICE)

    declined = Sale(floor, stall, "declined")
    flagged = stall.ask(stall.till.accept_offline(declined.deduct))
    assert isinstance(flagged, PostedOffline)
    assert (flagged.amount, flagged.short_in_cents) == (eur(PRICE), 1)
    assert declined.net() == PRICE

    cancelled = Sale(floor, stall, "cancelled")
    assert isinstance(stall.ask(stall.till.accept_offline(cancelled.deduct)), UnderReview)
    assert cancelled.posted() == 0

    again = Sale(floor, stall, "posted offline")
    assert stall.ask(stall.till.accept_offline(again.deduct)) == again.before
    assert (again.posted(), again.net()) == (1, PRICE)


def test_the_same_bytes_sent_three_times_are_answered_three_times_and_deducted_once(
    floor: Floor, stall: WireTill
) -> None:
    guest = floor.add_guest(BALANCE)
    sale = stall.till.deduct(floor.qr(guest), PRICE)
    token = stall.till.sign(sale)
    for _ in range(3):
        stall.publish(token)
    answers = [stall.expect(token, sale) for _ in range(3)]
    assert isinstance(answers[0], Approved)
    assert answers == [answers[0]] * 3
    assert floor.balance(guest) == BALANCE - PRICE


def test_the_same_qr_at_fifty_stalls_at_once_is_approved_once(
    floor: Floor,
    broker: Broker,
    worker: Worker,
    worker_credentials: list[Credentials],
    fifty_stalls: list[Credentials],
) -> None:
    """By two workers, who each take a part of the requests."""
    guest = floor.add_guest(100_000)
    qr = floor.qr(guest)
    second = Worker(floor.desk, Line.of(broker, worker_credentials[1]))
    second.start()
    stalls = [WireTill.at(floor, broker, each) for each in fifty_stalls]
    try:
        assert second.wait_until_subscribed(20)
        for stall in stalls:
            stall.__enter__()
        sales = [stall.till.deduct(qr, PRICE) for stall in stalls]
        tokens = [stall.till.sign(sale) for stall, sale in zip(stalls, sales, strict=True)]
        for stall, token in zip(stalls, tokens, strict=True):
            stall.publish(token)
        answers = [
            stall.expect(token, sale)
            for stall, token, sale in zip(stalls, tokens, sales, strict=True)
        ]
    finally:
        for stall in stalls:
            stall.__exit__()
        second.stop()
    approved = [answer for answer in answers if isinstance(answer, Approved)]
    declined = [answer for answer in answers if answer == Declined(Reason.TOKEN_ALREADY_USED)]
    assert (len(approved), len(declined)) == (1, 49)
    assert floor.balance(guest) == 100_000 - PRICE


@pytest.fixture(scope="session")
def fifty_stalls(authority: Any) -> list[Credentials]:
    return authority.certify_devices(*(f"stall-{number}" for number in range(50)))


def test_what_another_appliance_signed_or_sent_is_refused_by_name_and_posts_nothing(
    floor: Floor,
    broker: Broker,
    stall: WireTill,
    certify_device: Callable[[str], Credentials],
) -> None:
    guest = floor.add_guest(BALANCE)
    with WireTill.at(floor, broker, certify_device("till-2")) as other:
        mine = stall.till.deduct(floor.qr(guest), PRICE)
        on_my_topic_by_their_key = other.till.sign(mine)
        on_their_topic = stall.till.sign(mine)
        stall.publish(on_my_topic_by_their_key)
        other.publish(on_their_topic)
        # Sent with their own key on their own topic, but in my name.
        other.publish(on_my_topic_by_their_key)
        # The broker's access list drops this one: it never arrives.
        other.publish(stall.till.sign(stall.till.heartbeat()), stall.till.device_id)
        # An answer to what follows proves that all before it were taken.
        for each in (stall, other):
            each.ask(each.till.heartbeat())
        eventually(lambda: len(floor.audit(action="request_refused")) == 3)
        assert stall.hears_nothing(0.1)
        assert other.hears_nothing(0.1)
    refused = {
        (record.device_id, record.outcome, record.request_hash)
        for record in floor.audit(action="request_refused")
    }
    assert refused == {
        ("till-1", "on_anothers_topic", fingerprint(on_my_topic_by_their_key)),
        ("till-2", "on_anothers_topic", fingerprint(on_their_topic)),
        ("till-2", "signed_by_anothers_key", fingerprint(on_my_topic_by_their_key)),
    }
    assert len(floor.audit(action="heartbeat")) == 2
    assert floor.deducts(guest) == []


def test_a_revoked_appliance_and_a_signed_out_one_sell_nothing_by_name(
    floor: Floor, stall: WireTill
) -> None:
    guest = floor.add_guest(BALANCE)
    stall.ask(stall.till.sign_out())
    ended = stall.till.deduct(floor.qr(guest), PRICE)
    assert stall.ask(ended) == Declined(Reason.SESSION_ENDED)
    floor.revoke(stall.till)
    revoked = stall.till.deduct(floor.qr(guest), PRICE)
    assert stall.ask(revoked) == Declined(Reason.DEVICE_REVOKED)
    assert [floor.audit(subject=each.key)[0].outcome for each in (ended, revoked)] == [
        "session_ended",
        "device_revoked",
    ]
    assert floor.deducts(guest) == []
