"""A bar whose cloud, broker and database can be killed in the middle of a sale, and the points."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from device.journal.journal import look_at
from device.till.entries import SaleAnswered
from tests.journeys.bar import BAR_DOCUMENT, WITHIN_S, Bar, Books, Guest, Watch, eventually, now
from tests.journeys.power import check_promise, is_settled
from venue.lights import Light
from venue.stack import Venue

REQUEST_BYTES_MIN: Final = 400
"""A signed deduct is longer; a ping or an acknowledgement is far shorter."""

DOCUMENT: Final[dict[str, Any]] = BAR_DOCUMENT | {"reply_timeout_ms": 30_000}
"""Longer than it takes to start the cloud again: only staff end a wait."""


@contextmanager
def killable_bar(
    folder: Path, *, database: str | None = None, books_url: str | None = None
) -> Generator[Bar]:
    """One appliance, Mia signed in, and a wire between cloud and broker; balanced at the end.

    `database`: as the cloud reaches it; `books_url`: as we do.
    """
    with Venue(folder, document=DOCUMENT, database=database, relay_cloud=True) as venue:
        books = Books(books_url or f"sqlite:///{folder / 'cloud' / 'cloud.sqlite'}")
        try:
            bar = Bar(venue, books, venue.badge)
            bar.counter.sign_in(venue.badge)
            yield bar
            assert venue.reconcile()["balanced"]
        finally:
            books.close()


class Asked:
    """A sale whose deduct is on its way, while something is about to die."""

    def __init__(self, bar: Bar, guest: Guest, before_asking: Callable[[str], None]) -> None:
        """Key it, prepare what is to happen to the request by its key, and show the phone."""
        self.watch: Watch = bar.watch()
        self._bar = bar
        bar.counter.key("100#")
        digits = guest.fresh_qr().digits
        self.key = self._open_key()
        before_asking(self.key)
        self._to_cloud = bar.venue.cloud_network.replies.carried
        shown = bar.counter.show_phone(digits, "easy")
        bar.edge.wait_for_light(Light.ASKING, since=shown, timeout_s=WITHIN_S)
        bar.edge.clear()

    def await_delivery(self) -> None:
        """Until the broker has handed the request on, and nothing has come of it."""
        network = self._bar.venue.cloud_network
        eventually(
            lambda: network.replies.carried - self._to_cloud >= REQUEST_BYTES_MIN or None,
            "the broker to hand the request on",
        )
        assert self.watch.posted() == []
        self.assert_unanswered()

    def await_commit(self) -> None:
        """Until the deduct is in the books, and its reply is lost on the way to the broker."""
        network = self._bar.venue.cloud_network
        eventually(lambda: self.watch.posted() or None, "the cloud to deduct")
        eventually(lambda: network.requests.lost or None, "the reply to be lost")
        self.assert_unanswered()

    def assert_unanswered(self) -> None:
        assert self._bar.edge.light() is Light.ASKING
        assert self.watch.journaled(SaleAnswered) == []

    def reconnect(self) -> None:
        """The appliance's link breaks and comes back, and it sends the same bytes again."""
        self._bar.appliance.network.cut()
        self._bar.appliance.network.mend()

    def cancel(self) -> None:
        began = now()
        self._bar.edge.hold("*")
        self._bar.edge.wait_for_light(Light.FAULT, since=began, timeout_s=WITHIN_S)

    def check(self, *words: Light) -> Light:
        """Until the lamp has said one of these and all is settled: the books say the same."""
        edge = self._bar.edge
        seen = edge.wait_for_any_light(frozenset(words), self.watch.since, WITHIN_S)
        assert seen.light is not None, "it was waited for"
        edge.wait_for(lambda: is_settled(self._bar) or None, "all to be journaled", WITHIN_S)
        assert self.watch.approvals() == (seen.light is Light.APPROVED)
        check_promise(self.watch, is_paid=seen.light is Light.APPROVED)
        return seen.light

    def _open_key(self) -> str:
        chain = look_at(self._bar.appliance.folder)
        assert chain is not None, "the journal is there"
        (sale,) = chain.standing.sales
        return sale.sale.key
