import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from venue.programs import ProgramError
from venue.servers import Authority, Broker, Postgres

pytestmark = pytest.mark.postgres


def connect(server: Postgres, database: str = "postgres") -> psycopg.Connection:
    address = server.url(database).replace("+psycopg", "")
    return psycopg.connect(address, autocommit=True)


@pytest.fixture
def fresh() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def test_commits_are_durable_and_only_loopback_is_served(fresh: Postgres) -> None:
    with connect(fresh) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()  # pyright: ignore[reportArgumentType, reportCallIssue]  # a name of ours, below
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
        }
    assert shown == {
        "fsync": ("on",),
        "synchronous_commit": ("on",),
        "full_page_writes": ("on",),
        "listen_addresses": ("127.0.0.1",),
    }
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(fresh.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_each_test_has_an_empty_database_of_its_own(
    postgres: Postgres, empty_postgres_url: str
) -> None:
    with psycopg.connect(empty_postgres_url.replace("+psycopg", "")) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone()
    assert tables == (0,)
    with pytest.raises(ProgramError, match="already exists"):
        postgres.create_database(empty_postgres_url.rpartition("/")[2])


def test_what_was_committed_outlives_a_power_cut(fresh: Postgres) -> None:
    with connect(fresh) as connection:
        connection.execute("CREATE TABLE sold (amount int)")
        connection.execute("INSERT INTO sold VALUES (500)")
        backends = psutil.Process(fresh.pid).children()
        assert backends
        fresh.kill()
    _, alive = psutil.wait_procs(backends, timeout=10)
    assert alive == []
    fresh.start()
    with connect(fresh) as connection:
        assert connection.execute("SELECT amount FROM sold").fetchall() == [(500,)]


def test_nothing_of_a_killed_server_runs_on(fresh: Postgres) -> None:
    connections = [connect(fresh) for _ in range(8)]
    everybody = psutil.Process(fresh.pid).children()
    assert len(everybody) > len(connections)
    fresh.kill()
    running = [each for each in psutil.process_iter(["status"]) if each in everybody]
    assert {each.info["status"] for each in running} <= {psutil.STATUS_ZOMBIE}
    for connection in connections:
        connection.close()


def test_a_stopped_server_leaves_no_folder_and_no_listener() -> None:
    server = Postgres()
    with server:
        assert (server.folder / "data" / "PG_VERSION").exists()
    assert server.exit_code == 0
    assert not server.folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = Postgres(settings={"shared_buffers": "no size"})
    with pytest.raises(ProgramError, match="invalid value for parameter"):
        server.start()
    assert not server.folder.exists()


def test_the_whole_server_is_gone_after_the_parent_was_killed() -> None:
    script = (
        "import time\n"
        "from venue.servers import Postgres\n"
        "server = Postgres().start()\n"
        "print(server.pid, server.folder, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().decode().split()
        server = psutil.Process(int(pid))
        family = [server, *server.children(recursive=True)]
        assert len(family) > 1
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    subprocess.run(["rm", "-r", folder], check=True)


def test_servers_start_for_a_user_who_is_not_root() -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from venue.servers import Authority, Broker, Postgres\n"
        "folder = Path(sys.argv[1])\n"
        "authority = Authority(folder / 'authority')\n"
        "server = authority.certify_server('broker')\n"
        "with Postgres(folder / 'pg') as pg, Broker(folder / 'mq', authority.ca, server) as mq:\n"
        "    print(os.geteuid(), pg.running, mq.running)\n"
    )
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    try:
        became, user = _as_somebody_else(folder) if os.geteuid() == 0 else ([], os.geteuid())
        ended = subprocess.run(
            [*became, sys.executable, "-c", script, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["rm", "-r", str(folder)], check=True)
    assert ended.stderr == ""
    assert ended.stdout == f"{user} True True\n"


def _as_somebody_else(folder: Path) -> tuple[list[str], int]:
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # The interpreter may lie in root's home: nobody is lent the right to read it.
    lent = [f"--{kind}-caps=+dac_override" for kind in ("inh", "ambient")]
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, *lent], nobody.pw_uid


def test_a_broker_killed_and_started_again_still_serves(broker: Broker) -> None:
    broker.kill()
    broker.start()
    with socket.create_connection((broker.host, broker.port), timeout=5):
        assert broker.running


def test_an_authority_is_founded_once_and_then_opened(tmp_path: Path) -> None:
    first = Authority(tmp_path)
    (before,) = first.certify_devices("bar-1")
    root = before.ca.read_bytes()
    (after,) = Authority(tmp_path).certify_devices("bar-1")
    assert after.ca.read_bytes() == root
    with pytest.raises(ProgramError, match="may not be certified"):
        first.certify_devices("bar-2", "cloud-worker-1")
    assert not (tmp_path / "issued" / "bar-2").exists()
