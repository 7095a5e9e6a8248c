import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from time import monotonic, sleep, time_ns  # noqa: TID251 -- a walk is waited for in real time
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console

from device.clock import STA_UNSYNC, WallClock
from device.credentials import FOLDER, load
from device.hardware.settings import HardwareSettings, KeypadPins
from device.hardware.simulated_pins import SimulatedFactory
from device.journal.journal import Journal
from device.selftest.findings import Finding, Part, Verdict, is_sound, slip_of, table_of
from device.selftest.parts import looks_of, name_the_dead
from device.selftest.person import Keys, Person
from device.selftest.surroundings import (
    look_at_certificate,
    look_at_clock,
    look_at_disk,
    look_at_network,
)
from device.selftest.walk import Walk
from device.settings import BrokerSettings, KeySettings, Settings, StateSettings
from device.state_lock import AlreadyRunningError, lock_state
from device.till.entries import Synced
from device.till.receipt import Columns, Text
from device.till.signals import Light
from tests.device.stage import DEVICE
from venue.edge import Edge
from venue.paper import plain
from venue.phone import phone
from venue.servers import Broker

KEYS = "123A456B789C*0#D"
IN_FILE = KeySettings()


def settings_of(state: Path, broker: Broker | None, socket_path: Path) -> Settings:
    return Settings(
        broker=BrokerSettings("localhost", 1 if broker is None else broker.port),
        state=StateSettings(str(state)),
        hardware=HardwareSettings(kind="simulated", socket=str(socket_path)),
    )


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {each.part.value: each.verdict.value for each in found}


class Walking:
    """A walk in a thread of its own, and what it says."""

    def __init__(self, walk: Walk, parts: list[Part]) -> None:
        self.found: list[Finding] = []
        self._out = io.StringIO()
        walk.out = self._out
        walk.__post_init__()
        self._read = 0

        def go() -> None:
            self.found = walk.over(parts)

        self._thread = Thread(target=go)
        self._thread.start()

    def until(self, *words: str) -> str:
        """Wait until one of several words is said, after what was waited for before."""
        deadline = monotonic() + 90
        while monotonic() < deadline:
            said = self._out.getvalue()[self._read :]
            for word in words:
                at = said.find(word)
                if at >= 0:
                    self._read += at + len(word)
                    return word
            sleep(0.01)
        raise AssertionError(f"never said {words}: {self._out.getvalue()}")

    def end(self) -> list[Finding]:
        self._thread.join(90)
        assert not self._thread.is_alive()
        return self.found


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "edge"


def test_a_person_is_walked_through_every_part_by_keypad_alone(
    state: Path, broker: Broker, socket_path: Path
) -> None:
    settings = settings_of(state, broker, socket_path)
    walking = Walking(Walk(settings, is_alone=False, prints=True, patience=5.0), list(Part))
    with Edge(socket_path, connect_timeout_s=60) as edge:
        for key in KEYS:
            walking.until(f"press {key}\n")
            edge.tap(key)
        walking.until("keys: ok")
        asked: list[str] = []
        while (word := walking.until("Lamp: ", "lamp: ok", "lamp: failed")) == "Lamp: ":
            walking.until("no]")
            edge.tap("#")
            asked.append(word)
        assert len(asked) == len(Light) - 1
        for _ in range(3):
            walking.until("Buzzer: ")
            walking.until("no]")
            edge.tap("#")
        walking.until("Hold a printed card")
        edge.show(phone("railtix:card", np.random.default_rng(1), "easy"))
        walking.until("camera: ok")
        walking.until("did the slip come")
        edge.tap("#")
        found = walking.end()
        assert verdicts(found) == dict.fromkeys(map(str, Part), "ok"), found
        assert "a code of 12 characters" in found[-2].told[1]
        assert "railtix:card" not in repr(found), "what a code says is nobody's business here"
        printed = [plain(paper.printed) for paper in edge.papers]
    assert any("ÄÖÜäöüß" in each for each in printed)
    assert "keys" in printed[-1]
    assert DEVICE in printed[-1]


def test_what_is_wrong_is_named_part_by_part(
    state: Path, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device.selftest.person.KEY_S", 0.05)
    monkeypatch.setattr("device.selftest.person.QR_S", 1.0)
    monkeypatch.setattr("device.selftest.parts.PAPER_S", 2.0)
    settings = settings_of(state, None, socket_path)
    walk = Walk(settings, is_alone=False)
    walking = Walking(walk, [Part.KEYS, Part.BUZZER, Part.CAMERA, Part.PRINTER])
    with Edge(socket_path, connect_timeout_s=60) as edge:
        edge.take_paper_out()
        walking.until("press 1\n")
        keys = walking.until("keys: failed", "keys: ok")
        assert keys == "keys: failed"
        for _ in range(3):
            walking.until("Buzzer: ")
            walking.until("no]")
            edge.tap("*")
        found = walking.end()
    assert verdicts(found) == dict.fromkeys(["keys", "buzzer", "camera", "printer"], "failed")
    told = {each.part: each.told for each in found}
    assert told[Part.KEYS] == ("no key at all: is the keypad plugged in?",)
    assert told[Part.BUZZER][0].startswith("not heard")
    assert "no code was read" in told[Part.CAMERA][1]
    assert told[Part.PRINTER][0].startswith("no paper")
    assert not is_sound(found)


def test_a_lead_of_the_lamp_that_stands_still_is_named_with_its_pin(
    state: Path, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(state, None, socket_path)
    green = settings.hardware.lamp.green

    def is_green(_factory: SimulatedFactory, number: int) -> bool:
        return number == green

    monkeypatch.setattr(SimulatedFactory, "level", is_green)
    monkeypatch.setattr("device.selftest.person.QR_S", 1.0)
    walk = Walk(settings, is_alone=False)
    walking = Walking(walk, [Part.LAMP, Part.CAMERA])
    with Edge(socket_path, connect_timeout_s=60) as edge:
        walking.until("no]")
        while walk.senses.stuck_lead is None:
            sleep(0.01)
        edge.tap("#")
        lamp, _ = walking.end()
    assert lamp.told == (f"green does not do what it was told: look at GPIO {green}",)


@pytest.mark.parametrize(
    ("dead", "said"),
    [
        ("456B", ["row 2 (4 5 6 B) is dead: look at GPIO 6"]),
        ("369#", ["column 3 (3 6 9 #) is dead: look at GPIO 20"]),
        ("5", ["dead: 5"]),
        (
            "123A7",
            ["row 1 (1 2 3 A) is dead: look at GPIO 5", "dead: 7"],
        ),
        (KEYS, ["no key at all: is the keypad plugged in?"]),
        ("", []),
    ],
)
def test_a_dead_row_or_column_is_named_with_its_pin(dead: str, said: list[str]) -> None:
    assert name_the_dead(set(dead), KeypadPins()) == said


def test_every_light_is_put_into_words_that_tell_it_from_its_neighbours() -> None:
    assert looks_of(Light.APPROVED) == "green, steady"
    assert looks_of(Light.DECLINED) == "red, steady"
    assert looks_of(Light.REFRESH_QR) == "red, 3 times"
    assert looks_of(Light.FAULT) == "red, blinking"
    assert looks_of(Light.NOBODY_SIGNED_IN) == "white, breathing"
    assert looks_of(Light.READY) == "white, steady"
    assert looks_of(Light.APPROVED_OFFLINE).startswith("green and amber")


def test_keys_that_come_for_others_are_told() -> None:
    keys, out = Keys(), io.StringIO()
    from device.selftest.parts import try_keys

    for key in KEYS.replace("1", "x").replace("2", "1").replace("x", "2"):
        keys.put((key, False))
    found = try_keys(Person(keys, out), KeypadPins())
    assert found.verdict is Verdict.FAILED
    assert found.told == ("for 1 came 2", "for 2 came 1")


def test_a_terminal_answers_as_well_as_the_keypad() -> None:
    fingers, terminal = os.openpty()
    with os.fdopen(fingers, "wb", buffering=0) as hands, os.fdopen(terminal) as typed:
        person = Person(Keys(), io.StringIO(), typed=typed)
        hands.write(b"perhaps\nyes\n")
        assert person.agrees("Is it?") is True
        hands.write(b"N\n")
        assert person.agrees("Is it?") is False
    assert Person(Keys(), io.StringIO(), patience=0.001).agrees("Is anybody there?") is None


def run_selftest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device", "selftest", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def config_of(state: Path, broker: Broker, tmp_path: Path) -> Path:
    path = tmp_path / "pos.toml"
    path.write_text(
        f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\n'
        f'[state]\ndirectory = "{state}"\n'
        f'[hardware]\nkind = "simulated"\nsocket = "{tmp_path / "edge"}"\n'
    )
    return path


def test_with_nobody_there_it_does_what_needs_nobody(
    state: Path, broker: Broker, tmp_path: Path
) -> None:
    config = config_of(state, broker, tmp_path)
    ended = run_selftest("--config", config, "--yes", "--json")
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    assert {each["part"]: each["verdict"] for each in found} == {
        "certificate": "ok",
        "disk": "ok",
        "clock": "ok",
        "network": "ok",
        "keys": "skipped",
        "lamp": "skipped",
        "buzzer": "skipped",
        "camera": "ok",
        "printer": "ok",
    }
    told = {each["part"]: " ".join(each["told"]) for each in found}
    assert "frames a second, sharpness" in told["camera"]
    assert "round trip" in told["network"]
    assert "TLSv1.3" in told["network"]
    assert "matches its key" in told["certificate"]
    assert sorted(path.name for path in state.iterdir()) == ["identity", "railtix-pos.lock"]

    one = run_selftest("--config", config, "--yes", "--only", "disk")
    assert one.returncode == 0
    assert "disk" in one.stdout
    assert "certificate" not in one.stdout
    wrong = run_selftest("--config", config, "--only", "toaster")
    assert wrong.returncode == 2
    assert "no part 'toaster'; there are certificate, disk" in wrong.stderr
    with ExitStack() as stack:
        lock_state(state, stack)
        running = run_selftest("--config", config, "--yes", "--only", "disk")
    assert running.returncode == 1
    assert "in use by another railtix-pos" in running.stderr


def test_while_the_appliance_runs_nothing_is_tried(state: Path, socket_path: Path) -> None:
    walk = Walk(settings_of(state, None, socket_path), is_alone=True)
    with ExitStack() as stack:
        lock_state(state, stack)
        with pytest.raises(AlreadyRunningError):
            walk.over(list(Part))
    assert not socket_path.exists()


def test_without_an_identity_the_rest_is_still_tried(tmp_path: Path, socket_path: Path) -> None:
    out = io.StringIO()
    walk = Walk(settings_of(tmp_path / "none", None, socket_path), is_alone=True, out=out)
    found = walk.over([Part.CERTIFICATE, Part.NETWORK, Part.DISK, Part.CLOCK])
    assert verdicts(found) == {
        "certificate": "failed",
        "network": "failed",
        "disk": "ok",
        "clock": "ok",
    }
    assert "copy the folder" in found[0].told[0]


def test_a_network_that_fails_says_at_which_step(
    state: Path, broker: Broker, tmp_path: Path
) -> None:
    credentials = load(state)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = look_at_network(BrokerSettings("localhost", closed.getsockname()[1]), credentials)
    assert refused.verdict is Verdict.FAILED
    assert "refused" in refused.told[1]
    nowhere = look_at_network(BrokerSettings("no-such-host.invalid"), credentials)
    assert "has no address" in nowhere.told[0]
    other = look_at_network(BrokerSettings("127.0.0.2", broker.port), credentials)
    assert other.verdict is Verdict.FAILED
    fine = look_at_network(BrokerSettings(broker.host, broker.port), credentials)
    assert fine.verdict is Verdict.OK, fine.told


def test_a_certificate_that_runs_out_or_is_nobodys_fails(state: Path) -> None:
    credentials = load(state)
    expires_at = credentials.expires_at
    for left, verdict, said in (
        (timedelta(days=60), Verdict.OK, "60 days left"),
        (timedelta(days=3), Verdict.FAILED, "3 days left"),
        (timedelta(days=-2), Verdict.FAILED, "expired"),
    ):
        found = look_at_certificate(credentials, IN_FILE, expires_at - left)
        assert found.verdict is verdict
        assert said in " ".join(found.told)
    soon = expires_at - timedelta(days=60)
    sealed = look_at_certificate(credentials, KeySettings("credential"), soon)
    assert sealed.verdict is Verdict.FAILED
    assert "lies open" in sealed.told[1]
    (own, *_) = x509.load_pem_x509_certificates((state / FOLDER / "certificate.pem").read_bytes())
    (state / FOLDER / "ca.pem").write_bytes(own.public_bytes(Encoding.PEM))
    nobodys = look_at_certificate(credentials, IN_FILE, soon)
    assert "was not issued by ca.pem" in nobodys.told[1]


@pytest.fixture
def journal(state: Path) -> Iterator[Journal]:
    journal = Journal(state, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: 1)
    journal.open()
    yield journal
    journal.close()


def test_a_clock_behind_what_the_cloud_signed_fails(state: Path, journal: Journal) -> None:
    signed_ms = time_ns() // 1_000_000
    journal.append(Synced(signed_ms, None))
    unset = WallClock(lambda: STA_UNSYNC, state / "none")
    behind = look_at_clock(state, signed_ms - 3_600_000, unset)
    assert behind.verdict is Verdict.FAILED
    assert "3600 s behind" in behind.told[1]
    after = look_at_clock(state, signed_ms + 5_000, unset)
    assert after.verdict is Verdict.OK
    assert "no offline sales" in after.told[1]
    assert "5 s after" in after.told[0]
    is_set = look_at_clock(state, signed_ms, WallClock(lambda: 0, state / "none"))
    assert is_set.told[0].count("set by NTP") == 1
    assert len(is_set.told) == 1


def test_a_disk_that_cannot_be_written_or_read_fails(
    state: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = look_at_disk(state)
    assert fine.verdict is Verdict.OK
    assert "1 journal entries, chain sound" in fine.told[1]
    gone = look_at_disk(state / "no such folder")
    assert gone.verdict is Verdict.FAILED

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("device.selftest.surroundings.os.write", full)
        assert look_at_disk(state).told == (f"{state}: No space left on device",)
    assert not (state / "selftest.tmp").exists()
    journal.close()
    journal.path.write_bytes(b"nonsense" * 1000)
    assert "the journal cannot be read" in look_at_disk(state).told[0]


def test_the_result_is_a_table_and_a_slip_that_take_every_character_as_it_is() -> None:
    found = [
        Finding(Part.NETWORK, Verdict.FAILED, ("[bold]broker[/] refused",)),
        Finding(Part.DISK, Verdict.OK, ("plenty",)),
    ]
    out = io.StringIO()
    Console(file=out, width=100).print(table_of(found))
    assert "[bold]broker[/] refused" in out.getvalue()
    slip = slip_of(found, DEVICE, f"{datetime(2026, 1, 1, tzinfo=UTC):%Y-%m-%d}")
    assert Columns("network", "failed", bold=True) in slip.lines
    assert Text("[bold]broker[/] refused") in slip.lines
    assert Text("plenty") not in slip.lines, "paper is for what is wrong"
