"""The cloud's database killed, unreachable or failing at a deduct's commit."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from cloud.store.database import Database
from device.till.entries import SaleAnswered
from protocol.messages import Approved
from tests.journeys.bar import WITHIN_S, Bar, Guest, eventually
from tests.journeys.killed import Asked, killable_bar
from tests.journeys.power import check_next_sale
from tests.journeys.strace import Traced, failing
from venue.lights import Light
from venue.network import Network, Wire
from venue.servers import LOOPBACK, Postgres

pytestmark = [pytest.mark.xdist_group("killed-database"), pytest.mark.timeout(600)]

NAME: Final = "killed_database"


class PostgresBar:
    """A bar on a PostgreSQL of its own, which the cloud reaches by a wire that can be cut."""

    def __init__(self, bar: Bar, postgres: Postgres, network: Network) -> None:
        self.bar = bar
        self.postgres = postgres
        self.network = network
        self.database = Database(postgres.url(NAME))

    def start_again(self) -> None:
        """After the server died, or while it recovers on its own."""
        if not self.postgres.running:
            self.postgres.start()
        eventually(lambda: self.database.is_reachable() or None, "the database to recover")
        # Our own connections died with it.
        self.bar.books.close()

    def come_to_rest(self) -> None:
        """Whatever the test before left."""
        self.start_again()
        self.network.mend()
        self.bar.come_to_rest()

    def ask(self, guest: Guest, *words: bytes) -> Asked:
        """Until the cloud has said these words about this sale to the database, in vain."""
        asked = Asked(
            self.bar, guest, lambda key: self.network.swallow_replies_after(key.encode(), *words)
        )
        lost = self.network.replies.lost
        eventually(lambda: self.network.replies.lost > lost or None, "the answer to be lost")
        assert self.network.wire is Wire.SWALLOWING_REPLIES
        asked.assert_unanswered()
        return asked

    def kill_backend(self) -> None:
        """SIGKILL to the session that holds the open transaction; the server ends all others.

        Returns once it has: until then it would still answer, and then no more.
        """
        # It ends broken, as it has to.
        with suppress(SQLAlchemyError), self.database.reading() as connection:
            holding = connection.execute(
                text(
                    "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
                    " AND datname = current_database()"
                )
            )
            pids = list(holding.scalars())
            assert pids, "the transaction is open"
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: _is_broken(connection) or None, "the server to end our session")


@pytest.fixture(scope="module")
def _postgres_bar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresBar]:
    with Postgres() as postgres:
        url = postgres.create_database(NAME)
        network = Network(postgres.port)
        relayed = url.replace(f"{LOOPBACK}:{postgres.port}", f"{LOOPBACK}:{network.port}")
        assert relayed != url
        folder = tmp_path_factory.mktemp("database")
        try:
            with killable_bar(folder, database=relayed, books_url=url) as bar:
                on_postgres = PostgresBar(bar, postgres, network)
                yield on_postgres
                on_postgres.database.close()
        finally:
            network.close()


@pytest.fixture
def on_postgres(_postgres_bar: PostgresBar) -> PostgresBar:
    _postgres_bar.come_to_rest()
    return _postgres_bar


@pytest.mark.postgres
def test_a_commit_of_unknown_result_is_looked_up_and_answered_once(
    on_postgres: PostgresBar,
) -> None:
    bar = on_postgres.bar
    guest = bar.guest()
    asked = on_postgres.ask(guest, b"COMMIT")
    (deduct,) = eventually(lambda: asked.watch.posted() or None, "the commit to stand")
    on_postgres.network.mend()
    asked.check(Light.APPROVED)
    assert _answered_transaction(asked) == str(deduct.id)
    assert "CommitUnknownError" in bar.venue.cloud.output()
    check_next_sale(bar, guest)


@pytest.mark.postgres
def test_a_server_killed_after_the_commit_gives_the_same_answer_again(
    on_postgres: PostgresBar,
) -> None:
    bar = on_postgres.bar
    guest = bar.guest()
    asked = on_postgres.ask(guest, b"COMMIT")
    (deduct,) = eventually(lambda: asked.watch.posted() or None, "the commit to stand")
    on_postgres.postgres.kill()
    on_postgres.network.mend()
    asked.assert_unanswered()
    on_postgres.start_again()
    asked.reconnect()
    asked.check(Light.APPROVED)
    assert _answered_transaction(asked) == str(deduct.id)
    check_next_sale(bar, guest)


@pytest.mark.postgres
@pytest.mark.parametrize("whom", ["server", "backend"])
def test_a_database_killed_inside_the_transaction_deducts_once_when_asked_again(
    on_postgres: PostgresBar, whom: str
) -> None:
    bar = on_postgres.bar
    guest = bar.guest()
    asked = on_postgres.ask(guest)
    assert asked.watch.posted() == []
    if whom == "server":
        on_postgres.postgres.kill()
    else:
        on_postgres.kill_backend()
    on_postgres.network.mend()
    on_postgres.start_again()
    asked.reconnect()
    asked.check(Light.APPROVED)
    check_next_sale(bar, guest)


@pytest.fixture
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    with killable_bar(tmp_path_factory.mktemp("sqlite")) as bar:
        yield bar


def test_sqlite_commits_whose_flush_fails_are_tried_again_and_deduct_once(on_sqlite: Bar) -> None:
    bar = on_sqlite
    guest = bar.guest()
    cloud = bar.venue.cloud
    wal = bar.venue.folder / "cloud" / "cloud.sqlite-wal"
    cloud.kill()
    # Every second flush of a thread fails: each request's first try or its second.
    failing_flush = failing("fdatasync", "EIO", "2+2")
    traced = Traced(cloud, bar.venue.folder / "cloud.strace", *failing_flush, paths=(wal,))
    bar.venue.cloud = traced
    try:
        bar.venue.start_cloud_again()
        bar.await_ready(0.0)
        for _ in range(3):
            asked = Asked(bar, guest, lambda _: None)
            asked.check(Light.APPROVED)
            assert len(asked.watch.posted()) == 1
            bar.await_ready(asked.watch.since)
        # The first sale may have met the flush before the first failing one.
        assert sum(call.is_injected for call in traced.calls()) >= 2
    finally:
        traced.kill()
        bar.venue.cloud = cloud
    assert "CommitUnknownError" in cloud.output()
    bar.venue.start_cloud_again()
    bar.edge.wait_for_light(Light.READY, timeout_s=WITHIN_S)
    check_next_sale(bar, guest)


def _is_broken(connection: Connection) -> bool:
    try:
        connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return True
    return False


def _answered_transaction(asked: Asked) -> str:
    (answered,) = asked.watch.journaled(SaleAnswered)
    assert isinstance(answered.outcome, Approved)
    return answered.outcome.transaction_id
