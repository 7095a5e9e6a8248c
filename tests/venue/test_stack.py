import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from protocol.money import Money
from venue.demo import Demo
from venue.lights import Light
from venue.programs import ProgramError, run_to_end
from venue.stack import CURRENCY, Venue, reconcile

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venue]:
    """A venue of two appliances, with a folder of the test's own."""
    with Venue(tmp_path_factory.mktemp("venue"), appliances=2) as venue:
        for appliance in venue.appliances:
            appliance.counter.sign_in(venue.badge)
        yield venue


def named_in_a_command_line(folder: Path) -> list[psutil.Process]:
    """Every process that was started with a file of this folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


@contextmanager
def balance_off_by(venue: Venue, cents: int) -> Generator[None]:
    """As if somebody had changed one wallet's balance behind the cloud's back."""
    update = (
        "UPDATE credit_wallets SET balance_in_cents = balance_in_cents + ? WHERE user_id ="
        " (SELECT user_id FROM credit_wallets ORDER BY user_id LIMIT 1)"
    )
    database = venue.folder / "cloud" / "cloud.sqlite"
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        assert connection.execute(update, (cents,)).rowcount == 1
        yield
        connection.execute(update, (-cents,))


def test_each_appliance_sells_at_its_own_counter_from_the_one_ledger(venue: Venue) -> None:
    guest = venue.attendee("two-counters@example.org")
    guest.top_up(Money(2000, CURRENCY))
    sold_before = venue.reconcile()["sales"]
    for spent, appliance in enumerate(venue.appliances, start=1):
        sale = appliance.counter.sell("100#", guest.fresh_qr().digits)
        assert sale.light is Light.APPROVED
        assert guest.balance(CURRENCY) == Money(2000 - 100 * spent, CURRENCY)
    books = venue.reconcile()
    assert books["balanced"] is True
    assert books["sales"] == sold_before + 2


def test_one_corrupted_balance_is_found_by_a_process_of_its_own(venue: Venue) -> None:
    guest = venue.attendee("corrupted@example.org")
    guest.top_up(Money(2000, CURRENCY))
    command = ["-m", "cloud", "reconcile", "--config", venue.cloud_config]
    with balance_off_by(venue, -1):
        books = reconcile(venue.cloud_config)
        assert books["balanced"] is False
        with pytest.raises(ProgramError, match="ended with 1"):
            run_to_end([venue.cloud.argv[0], *command])
    assert reconcile(venue.cloud_config)["balanced"] is True
    run_to_end([venue.cloud.argv[0], *command])


def test_a_corrupted_balance_makes_the_demos_verdict_wrong(venue: Venue) -> None:
    guest = venue.attendee("verdict@example.org")
    guest.top_up(Money(2000, CURRENCY))
    so_far = sum(len(each.counter.edge.approvals()) for each in venue.appliances)
    demo = Demo(venue, Console(quiet=True), so_far, 0.0)
    with balance_off_by(venue, 1):
        verdict = demo.verdict()
    assert verdict.ledger_balanced is False
    assert not verdict.is_right
    assert '"ledger_balanced": false' in verdict.as_json()
    verdict = demo.verdict()
    assert verdict.sales == verdict.approved == so_far
    assert verdict.is_right


def test_a_verdict_with_more_lights_than_sales_is_wrong(venue: Venue) -> None:
    so_far = sum(len(each.counter.edge.approvals()) for each in venue.appliances)
    verdict = Demo(venue, Console(quiet=True), so_far + 1, 0.0).verdict()
    assert verdict.ledger_balanced is True
    assert not verdict.is_right


def test_a_closed_venue_leaves_no_process_and_no_folder_of_its_own() -> None:
    with Venue() as venue:
        assert len(named_in_a_command_line(venue.folder)) >= 3  # broker, cloud, appliance
        sockets = [appliance.socket for appliance in venue.appliances]
    assert named_in_a_command_line(venue.folder) == []
    assert not venue.folder.exists()
    assert not any(socket.parent.exists() for socket in sockets)
