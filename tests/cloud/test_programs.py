import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cloud.store.database import Database
from tests.cloud.floor import Floor
from venue.programs import Program
from venue.servers import Broker, Credentials


class Installed:
    """railtix-cloud with settings and a state folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "cloud.toml"
        self.ready = folder / "ready.json"
        self.config.write_text(
            f'state = "{folder / "state"}"\n[http]\nport = 0\n[payments]\nprovider = "test"\n'
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cloud", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
        )

    def serve(self) -> Program:
        argv = [sys.executable, "-m", "cloud", "serve", "--config", self.config]
        return Program(
            "cloud",
            [*argv, "--ready-file", self.ready],
            self.folder / "cloud.log",
            ready=self.ready.exists,
        )

    @property
    def url(self) -> str:
        return str(json.loads(self.ready.read_text())["url"])


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_without_its_tables_the_server_says_what_to_do(installed: Installed) -> None:
    ended = installed.run("serve")
    assert ended.returncode == 2
    assert "railtix-cloud migrate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_setting_ends_the_program_with_its_name(installed: Installed) -> None:
    installed.config.write_text("[http]\nprt = 1\n")
    ended = installed.run("serve")
    assert (ended.returncode, ended.stderr.strip()) == (
        2,
        "settings: http.prt: there is no such setting",
    )


def test_a_port_that_is_taken_is_named(installed: Installed) -> None:
    assert installed.run("migrate").returncode == 0
    with installed.serve():
        port = installed.url.rpartition(":")[2]
        installed.config.write_text(
            f'state = "{installed.folder / "state"}"\n[http]\nport = {port}\n'
        )
        ended = installed.run("serve")
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_open_streams_and_exits_0(
    installed: Installed, end: signal.Signals
) -> None:
    assert installed.run("migrate").returncode == 0
    token = installed.run("token", "create", "ana").stdout.strip()
    program = installed.serve()
    with program:
        ops = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=installed.url, trust_env=False, timeout=10) as http:
            link = http.post("/v1/ops/attendees", json={}, headers=ops).json()["sign_in_link"]
            secret = link.partition("#sign-in=")[2]
            http.post("/v1/session", json={"link": secret}).raise_for_status()
            with http.stream("GET", "/v1/wallet/changes") as stream:
                lines = stream.iter_lines()
                assert next(lines) == "retry: 1000"
                program._stop_signal = end
                assert program.stop() == 0
                assert "event: changed" in list(lines), "the stream ended, and was not cut"
    log = [json.loads(line) for line in program.output().splitlines()]
    assert log[-1]["event"] == "stopped"
    assert token not in program.output()
    assert secret not in program.output()


def test_a_token_and_a_link_from_the_console_open_the_doors(installed: Installed) -> None:
    assert installed.run("migrate").returncode == 0
    token = installed.run("token", "create", "ana", "--days", "1").stdout.strip()
    link = installed.run("attendee", "add", "--base-url", "http://wallet.test").stdout.strip()
    assert link.startswith("http://wallet.test/#sign-in=")
    with installed.serve():
        ops = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=installed.url, trust_env=False) as http:
            assert http.get("/v1/ops/devices", headers=ops).status_code == 200
            answer = http.post("/v1/session", json={"link": link.partition("=")[2]})
            assert answer.status_code == 200
            assert installed.run("token", "revoke", "ana").returncode == 0
            assert http.get("/v1/ops/devices", headers=ops).status_code == 401
    assert installed.run("token", "revoke", "ana").returncode == 1


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_reconcile_names_the_wallet_that_is_not_its_sum(
    installed: Installed, request: pytest.FixtureRequest, kind: str
) -> None:
    url = f"sqlite:///{installed.folder / 'cloud.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_url")
    installed.config.write_text(f'state = "{installed.folder / "state"}"\ndatabase = "{url}"\n')
    floor = Floor(url, installed.folder / "keys")
    floor.add_guest(2000, paid=True)
    wrong = floor.add_guest(1000, paid=True)
    till = floor.add_till()
    floor.ask_one(till, till.deduct(floor.qr(wrong), 350))
    floor.close()
    balanced = installed.run("reconcile", "--json")
    assert balanced.returncode == 0
    said = json.loads(balanced.stdout)
    assert (said["balanced"], said["wallets"], said["transactions"]) == (True, 2, 3)

    database = Database(url)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE credit_wallets SET balance_in_cents = balance_in_cents + 1"
            " WHERE balance_in_cents = 650"
        )
    database.close()
    told = installed.run("reconcile")
    assert told.returncode == 1
    assert wrong.user_id in told.stdout
    assert "off by 0.01 EUR" in told.stdout
    [difference] = json.loads(installed.run("reconcile", "--json").stdout)["differences"]
    assert (difference["balance_in_cents"], difference["sum_in_cents"]) == (651, 650)


def test_a_worker_alone_is_ready_once_it_hears_the_appliances(
    installed: Installed, broker: Broker, worker_credentials: list[Credentials]
) -> None:
    assert installed.run("migrate").returncode == 0
    own = worker_credentials[0]
    installed.config.write_text(
        f'state = "{installed.folder / "state"}"\n[broker]\nport = {broker.port}\n'
        f'certificate = "{own.certificate}"\nkey = "{own.key}"\nauthorities = "{own.ca}"\n'
    )
    argv = [sys.executable, "-m", "cloud", "worker", "--config", installed.config]
    log = installed.folder / "worker.log"
    ready = installed.ready
    with Program("worker", [*argv, "--ready-file", ready], log, ready=ready.exists) as worker:
        assert json.loads(ready.read_text()) == {"pid": worker.pid}
        assert worker.stop() == 0


def test_a_worker_without_a_broker_says_which_setting_is_missing(installed: Installed) -> None:
    ended = installed.run("worker")
    assert ended.returncode == 2
    assert "broker: a worker needs the [broker] section" in ended.stderr


def test_the_help_says_where_to_begin(installed: Installed) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "cloud", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("serve", "api", "worker", "migrate", "reconcile", "token", "attendee"):
        assert command in ended.stdout
