"""`railtix-cloud courier` as its own process, killed where it hurts."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from cloud.clock import utc_clock
from cloud.store.letters import TopUpReceipt, post_letter
from cloud.store.tables import letters
from tests.cloud.courier.mail_server import MailServer
from tests.cloud.courier.samples import eur
from tests.cloud.floor import Floor
from venue.programs import Program
from venue.servers import Postgres

WITHIN_S = 30


class Post:
    """An installed cloud, its outbox, and what is to be found there."""

    def __init__(self, url: str, folder: Path, mail: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.floor = Floor(url, self.state / "keys", starts_at=None)
        self.database = self.floor.database
        self.config = folder / "cloud.toml"
        self.config.write_text(
            f'state = "{self.state}"\ndatabase = "{url}"\n'
            f"[http]\nport = 0\n[courier]\ninterval_s = 0.05\n{mail}"
        )

    def program(self, command: str = "courier") -> Program:
        ready = self.folder / f"{command}.json"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "cloud", command, "--config", self.config]
        log = self.folder / f"{command}.log"
        return Program(command, [*argv, "--ready-file", ready], log, ready=ready.exists)

    def write(self) -> None:
        letter = TopUpReceipt(
            amount=eur(2000),
            balance=eur(2000),
            reference="cs_1",
            at_ms=round(utc_clock().timestamp() * 1000),
        )
        with self.database.transaction() as connection:
            post_letter(connection, "mia@fair.example", letter, utc_clock())

    def row(self) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(letters)).one()

    def end_lease(self) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                update(letters).where(letters.c.state == "waiting").values(next_try_at=utc_clock())
            )

    def await_sent(self) -> Any:
        eventually(lambda: self.row().state == "sent")
        return self.row()

    def close(self) -> None:
        self.floor.close()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251  # a test's own patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"  # noqa: TID251
        time.sleep(0.02)


@pytest.fixture
def post(database_url: str, tmp_path: Path, server: MailServer) -> Iterator[Post]:
    mail = (
        f'[mail]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {server.port}\nsecurity = "none"\n'
        'sender = "RailTix Credits <credits@fair.example>"\n'
    )
    post = Post(database_url, tmp_path, mail)
    yield post
    post.close()


def test_killed_while_a_letter_is_on_its_way_it_is_sent_by_the_next(
    post: Post, server: MailServer
) -> None:
    server.to_recipient = "hang"
    post.write()
    with post.program() as courier:
        assert server.arrived.wait(WITHIN_S)
        assert post.row().tries == 1, "taken before anything was said to the server"
        courier.kill()
    server.to_recipient = "250 OK"
    post.end_lease()
    with post.program():
        row = post.await_sent()
    assert server.ids() == [f"<{row.letter_id}@fair.example>"]
    assert (row.tries, row.content) == (2, None)


def test_killed_after_the_server_took_it_a_second_copy_has_the_same_id(
    post: Post, server: MailServer
) -> None:
    server.to_letter = "hang after"
    post.write()
    with post.program() as courier:
        assert server.arrived.wait(WITHIN_S)
        courier.kill()
    assert post.row().state == "waiting"
    server.to_letter = "250 OK"
    post.end_lease()
    with post.program():
        post.await_sent()
    first, second = server.ids()
    assert first == second


def test_a_letter_from_before_it_started_is_sent_and_sigterm_ends_it(
    post: Post, server: MailServer
) -> None:
    post.write()
    with post.program() as courier:
        post.await_sent()
        courier._stop_signal = signal.SIGTERM
        assert courier.stop() == 0
        log = courier.output()
    assert len(server.letters) == 1
    assert "mia@fair.example" not in log
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"


def test_two_couriers_share_the_work(post: Post, server: MailServer, tmp_path: Path) -> None:
    for _ in range(12):
        post.write()
    other = post.program()
    other.argv[-1] = str(tmp_path / "other.json")
    other._ready = (tmp_path / "other.json").exists
    with post.program(), other:
        eventually(lambda: len(server.letters) >= 12)
    assert len(set(server.ids())) == len(server.letters) == 12


def test_serve_carries_letters_itself_into_files(tmp_path: Path) -> None:
    post = Post(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path, "")
    try:
        post.write()
        with post.program("serve"):
            post.await_sent()
        [file] = (post.state / "mail").iterdir()
        assert file.name == f"{post.row().letter_id}.eml"
    finally:
        post.close()


def test_told_not_to_serve_leaves_letters_to_a_courier(tmp_path: Path) -> None:
    post = Post(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path, "in_serve = false\n")
    try:
        post.write()
        with post.program("serve"):
            time.sleep(0.3)
            assert post.row().state == "waiting"
            with post.program():
                post.await_sent()
    finally:
        post.close()


def test_a_secret_setting_that_is_wrong_is_named_and_not_shown(tmp_path: Path) -> None:
    post = Post(
        f"sqlite:///{tmp_path / 'cloud.sqlite'}",
        tmp_path,
        '[mail]\nkind = "smtp"\nsecurity = "none"\nuser = "railtix"\npassword = "hunter2"\n',
    )
    post.close()
    ended = subprocess.run(
        [sys.executable, "-m", "cloud", "courier", "--config", post.config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "a password needs starttls or tls" in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.postgres
def test_a_database_that_is_killed_and_comes_back_finds_it_still_there(
    tmp_path: Path, server: MailServer
) -> None:
    mail = f'[mail]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {server.port}\nsecurity = "none"\n'
    # The server's own user must reach its folder, as it may not under a test's.
    with (
        tempfile.TemporaryDirectory() as reachable,
        lasting_postgres(Path(reachable)) as postgres,
    ):
        url = postgres.create_database("away")
        post = Post(url, tmp_path, mail)
        try:
            with post.program() as courier:
                post.database.engine.dispose()
                postgres.kill()
                eventually(lambda: "task_failed" in courier.output())
                assert courier.running
                postgres.start()
                post.write()
                post.await_sent()
                assert courier.stop() == 0
            assert url not in courier.output()
        finally:
            post.close()
    assert len(server.letters) == 1


@contextmanager
def lasting_postgres(folder: Path) -> Generator[Postgres]:
    folder.chmod(0o755)
    with Postgres(folder / "cluster") as postgres:
        yield postgres
