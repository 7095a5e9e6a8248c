"""One running venue for all journeys of a pytest process: its bar is at rest for each test."""

from collections.abc import Iterator

import pytest

from tests.journeys.bar import Bar, Books, open_bar, staff_it
from venue.stack import Venue


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    """mosquitto, the cloud on SQLite, and one appliance, each a program of its own."""
    with open_bar(tmp_path_factory.mktemp("venue")) as venue:
        yield venue
    ended = [venue.cloud, venue.broker, *(each.program for each in venue.appliances)]
    assert [program.exit_code for program in ended] == [0] * len(ended), "one had to be killed"


@pytest.fixture(scope="session")
def _bar(venue: Venue) -> Iterator[Bar]:
    books = Books(f"sqlite:///{venue.folder / 'cloud' / 'cloud.sqlite'}")
    yield Bar(venue, books, staff_it(venue))
    books.close()


@pytest.fixture
def bar(_bar: Bar) -> Bar:
    """Mia is signed in, the wire is whole, nothing is keyed or shown."""
    _bar.come_to_rest()
    return _bar
