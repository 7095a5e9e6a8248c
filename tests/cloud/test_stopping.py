"""What becomes of requests that are here, or come, while the server is told to stop."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from venue.programs import Program

DRAIN_S = 5
# Long enough for three requests on a slow machine, and shorter than anybody waits for a lock.


class Served:
    """railtix-cloud serve on SQLite, and a person signed in there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "cloud.toml"
        self.config.write_text(
            f'state = "{folder / "state"}"\n[http]\nport = 0\ndrain_s = {DRAIN_S}\n'
            '[payments]\nprovider = "test"\n[metrics]\nport = 0\n'
        )
        self._run("migrate")
        self.ready = folder / "ready.json"
        self.program = Program(
            "cloud",
            [*self._argv("serve"), "--ready-file", self.ready],
            folder / "cloud.log",
            ready=self.ready.exists,
        )

    def start(self) -> None:
        self.ops = {"Authorization": f"Bearer {self._run('token', 'create', 'ana').strip()}"}
        link = self._run("attendee", "add").strip().partition("#sign-in=")[2]
        self.program.start()
        self.url = str(json.loads(self.ready.read_text())["url"])
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=120)
        bearer = self.http.post("/v1/session", json={"link": link, "bearer": True}).json()["bearer"]
        self.headers = {"Authorization": f"Bearer {bearer}"}

    def close(self) -> None:
        self.http.close()
        self.program.stop()

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.program.output().splitlines()]
        return [line for line in lines if line["event"] == event]

    def _argv(self, *arguments: str) -> list[str | Path]:
        return [sys.executable, "-m", "cloud", *arguments, "--config", self.config]

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            self._argv(*arguments), capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    served.start()
    yield served
    served.close()


def _until(happened: Callable[[], bool]) -> None:
    for _ in range(6000):
        if happened():
            return
        time.sleep(0.01)
    pytest.fail("it never happened")


def test_a_request_that_is_being_answered_when_the_server_is_told_to_stop_is_answered(
    served: Served,
) -> None:
    answers: list[httpx.Response] = []

    def invite() -> None:
        with httpx.Client(base_url=served.url, trust_env=False, timeout=120) as http:
            answers.append(
                http.post("/v1/ops/attendees", json={"email": "a@b.test"}, headers=served.ops)
            )

    # Whoever holds the database's one writer's lock keeps the request from its end.
    holder = sqlite3.connect(served.folder / "state" / "cloud.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    asking = threading.Thread(target=invite)
    asking.start()
    _until(lambda: "railtix_http_requests_in_progress 1.0" in _metrics(served))
    os.kill(served.program.pid, signal.SIGTERM)

    # First it says that it leaves, and still takes what comes.
    _until(lambda: served.http.get("/readyz").status_code == 503)
    assert served.http.get("/readyz").json()["parts"]["stopping"] == "it was told to stop"
    assert served.http.get("/v1/wallet", headers=served.headers).status_code == 200

    # Then nobody new is let in, while the one that is here waits on.
    _until(lambda: not _is_listening(served.url))
    assert not answers
    holder.execute("COMMIT")
    holder.close()
    asking.join(120)
    assert [answer.status_code for answer in answers] == [201]
    assert served.program.stop() == 0
    assert served.told("stopped")
    assert not served.told("request_failed")


def test_a_body_that_is_still_on_its_way_is_waited_for(served: Served) -> None:
    goes_on = threading.Event()

    def body() -> Iterator[bytes]:
        yield b'{"event_id": '
        goes_on.wait(120)
        yield b'"nowhere"}'

    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(
            httpx.post(
                f"{served.url}/v1/wallet/qr",
                content=body(),
                headers=served.headers | {"Content-Type": "application/json"},
                trust_env=False,
                timeout=120,
            )
        )

    asking = threading.Thread(target=ask)
    asking.start()
    _until(lambda: "railtix_http_requests_in_progress 1.0" in _metrics(served))
    os.kill(served.program.pid, signal.SIGTERM)
    _until(lambda: not _is_listening(served.url))
    goes_on.set()
    asking.join(120)
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "event_unknown")
    ]
    assert served.program.stop() == 0


def _metrics(served: Served) -> str:
    port = served.told("monitored")[0]["port"]
    return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text


def _is_listening(url: str) -> bool:
    try:
        httpx.get(f"{url}/healthz", trust_env=False, timeout=60)
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        # Refused; or taken by the kernel a moment before nobody listened any more.
        return False
    return True
