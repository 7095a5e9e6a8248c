import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from venue.programs import Program

WITHIN_S = 150.0


def demo(folder: Path, *arguments: str) -> Program:
    """`railtix-venue demo`, to be started; what it says goes to a file."""
    argv = [sys.executable, "-m", "venue", "demo", "--keep", folder / "venue", *arguments]
    return Program("demo", argv, folder / "demo.log", env={"NO_COLOR": "1", "COLUMNS": "100"})


def play(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """The whole demo, which must end well: what it told, and its last line on stdout."""
    argv = [sys.executable, "-m", "venue", "demo", "--exit", "--keep", str(folder / "venue")]
    ended = subprocess.run(
        [*argv, *arguments],
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert processes_of(folder) == []
    return ended.stdout, json.loads(ended.stdout.splitlines()[-1])


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process whose command line names a file of this folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words: list[str] = process.info["cmdline"] or []
        is_of_it = any(str(folder) in word for word in words)
        if is_of_it and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_tells_every_scene(told: str) -> None:
    for scene in (
        "tops up 20.00 EUR",
        "badge before the camera, PIN on the keypad",
        "A sale by amount: 5.00",
        "A sale by products",
        "A screenshot of a QR that has paid already",
        "A sale larger than the balance",
        "The network is lost in the middle of a sale",
    ):
        assert scene in told
    # Where each sale's milliseconds went, and what came out of the printer.
    for stage in ("frame", "decode", "sign", "wire", "cloud", "journal", "light"):
        assert len(re.findall(rf"^\W*{stage}\s+[\d.]+ ms", told, re.MULTILINE)) >= 2, stage
    assert "Credits left" in told
    assert "given back: net zero" in told


def assert_is_the_verdict_of(verdict: dict[str, Any], sales: int) -> None:
    assert list(verdict) == ["sales", "approved", "declined", "scan_to_light_ms", "ledger_balanced"]
    assert verdict["sales"] == verdict["approved"] == sales
    assert verdict["ledger_balanced"] is True
    assert verdict["declined"]["token_already_used"] >= 1
    assert verdict["declined"]["insufficient_funds"] == 1
    times = verdict["scan_to_light_ms"]
    assert set(times) == {"p50", "p99"}
    assert 0 < times["p50"] <= times["p99"]


def test_the_demo_sells_what_was_asked_for_and_its_last_line_is_the_verdict(tmp_path: Path) -> None:
    told, verdict = play(tmp_path, "--sales", "5")
    assert_tells_every_scene(told)
    assert_is_the_verdict_of(verdict, 5)


@pytest.mark.postgres
def test_the_demo_plays_on_postgresql_with_several_appliances(
    tmp_path: Path, postgres_url: str
) -> None:
    told, verdict = play(tmp_path, "--sales", "7", "--appliances", "3", "--database", postgres_url)
    assert_is_the_verdict_of(verdict, 7)
    # The five beyond the script are spread: each till turned green.
    for number in (1, 2, 3):
        log = (tmp_path / "venue" / f"bar-north-{number}.log").read_text("utf-8")
        assert '"outcome": "approved"' in log
    assert "postgresql" in told


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Program]:
    """The demo in the middle of its script."""
    program = demo(tmp_path, "--exit")
    with program:
        deadline = time.monotonic() + WITHIN_S  # noqa: TID251 -- waiting is in real time
        while "A sale by amount" not in program.output():
            assert program.running, program.output()
            assert time.monotonic() < deadline, program.output()  # noqa: TID251
            time.sleep(0.05)
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_in_the_middle_leaves_no_process(
    running: Program, tmp_path: Path, number: signal.Signals
) -> None:
    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    assert {each.pid for each in processes_of(tmp_path)} <= {each.pid for each in family}
    assert len(family) >= 5  # the demo itself, its leash, broker, cloud, appliance
    os.kill(running.pid, number)
    code = running.wait(WITHIN_S)
    assert code == (-number if number is signal.SIGKILL else 130)
    deadline = time.monotonic() + WITHIN_S  # noqa: TID251
    while left := [each for each in family if is_alive(each)]:
        assert time.monotonic() < deadline, left  # noqa: TID251
        time.sleep(0.05)
    assert processes_of(tmp_path) == []


def test_a_demo_that_cannot_start_says_why_and_ends_with_1(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    with demo(tmp_path, "--exit", "--database", nowhere) as program:
        assert program.wait(WITHIN_S) == 1
    assert "It did not work:" in program.output()
    assert processes_of(tmp_path) == []


def test_the_demo_explains_itself() -> None:
    explained = subprocess.run(
        [sys.executable, "-m", "venue", "demo", "--help"],
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    ).stdout
    for option in ("--sales", "--appliances", "--database", "--exit", "--keep"):
        assert option in explained
