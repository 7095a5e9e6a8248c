import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud.clock import utc_clock
from cloud.monitoring import Monitor, Telling
from cloud.readiness import Readiness
from cloud.store.database import Database
from tests.cloud.floor import Floor
from venue.programs import Program
from venue.servers import Broker, Credentials


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Floor, Readiness, httpx.Client]]:
    floor = Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys")
    readiness = Readiness(floor.database)
    monitor = Monitor("127.0.0.1", 0, Telling(floor.database, readiness, floor.now), readiness)
    monitor.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{monitor.port}", trust_env=False) as http:
        yield floor, readiness, http
    monitor.stop()
    floor.close()


def test_metrics_keep_prometheuss_rules(watched: tuple[Floor, Readiness, httpx.Client]) -> None:
    _, _, http = watched
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=1.0.0")
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.MULTILINE))
    ours = {name: kind for name, kind in kinds.items() if name.startswith("railtix_")}
    assert ours
    for name, kind in ours.items():
        assert re.fullmatch(r"railtix_[a-z_]+[a-z]", name)
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|s|milliseconds)$", name), name


def test_readiness_names_each_part_and_what_is_wrong_with_it(
    watched: tuple[Floor, Readiness, httpx.Client],
) -> None:
    floor, readiness, http = watched
    assert http.get("/readyz").json() == {
        "status": "ready",
        "parts": {"database": "ok", "stopping": "ok"},
    }
    readiness.add_thread("sequencer", lambda: False)
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["sequencer"] == "its thread has ended; look at the log"
    assert 'railtix_ready{part="sequencer"} 0.0' in http.get("/metrics").text
    assert 'railtix_ready{part="database"} 1.0' in http.get("/metrics").text
    with floor.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    assert "another version" in http.get("/readyz").json()["parts"]["database"]


def test_metrics_are_told_though_the_database_is_away() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    readiness = Readiness(nowhere)
    monitor = Monitor("127.0.0.1", 0, Telling(nowhere, readiness, utc_clock), readiness)
    monitor.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{monitor.port}", trust_env=False) as http:
            told = http.get("/metrics")
            assert told.status_code == 200
            assert 'railtix_ready{part="database"} 0.0' in told.text
            assert "railtix_audit_pending" not in told.text
            assert http.get("/healthz").status_code == 200
            assert http.get("/nothing").status_code == 404
    finally:
        monitor.stop()
        nowhere.close()


@pytest.mark.parametrize(
    ("program", "part"), [("courier", "courier"), ("sequencer", "sequencer"), ("worker", "worker")]
)
def test_every_program_says_whether_it_is_ready(
    tmp_path: Path,
    program: str,
    part: str,
    broker: Broker,
    worker_credentials: list[Credentials],
) -> None:
    own = worker_credentials[0]
    config, ready = tmp_path / "cloud.toml", tmp_path / "ready.json"
    config.write_text(
        f'state = "{tmp_path / "state"}"\n[metrics]\nport = 0\n[broker]\nport = {broker.port}\n'
        f'certificate = "{own.certificate}"\nkey = "{own.key}"\nauthorities = "{own.ca}"\n'
    )
    argv = [sys.executable, "-m", "cloud"]
    subprocess.run([*argv, "migrate", "--config", config], check=True, capture_output=True)
    running = Program(
        program,
        [*argv, program, "--config", config, "--ready-file", ready],
        tmp_path / "program.log",
        ready=ready.exists,
    )
    with running:
        lines = [json.loads(line) for line in running.output().splitlines()]
        port = next(line["port"] for line in lines if line["event"] == "monitored")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            answer = http.get("/readyz")
            assert (answer.status_code, answer.json()["parts"][part]) == (200, "ok")
            assert f'railtix_ready{{part="{part}"}} 1.0' in http.get("/metrics").text
        asked = [*argv, "ready", "--config", config]
        of_its_own = os.environ | {"RAILTIX_METRICS__PORT": str(port)}
        told = subprocess.run(asked, capture_output=True, text=True, check=False, env=of_its_own)
        assert (told.returncode, f"{part}: ok" in told.stdout) == (0, True)
        assert running.stop() == 0
    told = subprocess.run(asked, capture_output=True, text=True, check=False, env=of_its_own)
    assert (told.returncode, "nobody answers" in told.stdout) == (1, True)
