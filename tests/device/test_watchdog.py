import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 -- a thread that hangs does so in real time

import pytest
from structlog.testing import capture_logs

from device.credentials import load
from device.hardware.reader_process import ReaderCommand
from device.hardware.scanner import Scanner
from device.journal.journal import Journal
from device.link import Incoming, Link, PolicyBytes
from device.notary import Notary
from device.ports import Inbox, Stop
from device.runtime import Runtime
from device.till.receipt import Slip
from device.till.signals import Light, Sound
from device.watchdog import (
    INTERVAL_MAX_S,
    LIMITS_S,
    STARTS,
    Notifier,
    Sign,
    Stuck,
    Watch,
    Watchdog,
    interval_s,
    limits_for,
)
from protocol.policy import sign_policy
from tests.device.fake_cloud import POLICY_KEY
from tests.device.stage import EPOCH_MS, a_policy
from venue.programs import Program


@dataclass
class Systemd:
    """The other end of the notify socket."""

    address: str
    socket: socket.socket

    def heard(self) -> list[str]:
        """What was told since the last time."""
        lines: list[str] = []
        with suppress(BlockingIOError):
            while True:
                lines += self.socket.recv(4096).decode().splitlines()
        return lines


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        if request.param == "a path":
            address = str(tmp_path / "notify")
            listener.bind(address)
        else:
            address = f"@railtix-test-{os.getpid()}"
            listener.bind(f"\0{address[1:]}")
        yield Systemd(address, listener)


@pytest.fixture
def path_socket(tmp_path: Path) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / "notify"))
        yield Systemd(str(tmp_path / "notify"), listener)


@dataclass
class Watched:
    """A watchdog over parts whose signs a test moves, in a time that a test lets pass."""

    systemd: Systemd
    now_s: float = 1000.0
    is_ready: bool = True
    status: str = "Ready"
    signs: dict[str, Sign] = field(
        default_factory=lambda: {part: Sign(0) for part in ("till", "link", "scanner")}
    )

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(
            Notifier(self.systemd.address),
            lambda: self.signs,
            is_ready=lambda: self.is_ready,
            say=lambda: self.status,
            clock=lambda: self.now_s,
            every_s=1.0,
        )

    def move(self, *parts: str) -> None:
        for part in parts:
            self.signs[part] = Sign(self.signs[part].count + 1)

    def look(self) -> list[str]:
        self.watchdog.look()
        return self.systemd.heard()


def test_all_well_is_ready_once_and_fed_each_time(systemd: Systemd) -> None:
    watched = Watched(systemd)
    assert watched.look() == ["READY=1", "WATCHDOG=1", "STATUS=Ready"]
    for _ in range(30):
        watched.now_s += 5
        watched.move("till", "link", "scanner")
        assert watched.look() == ["WATCHDOG=1"]
    watched.status = "Scanning"
    assert watched.look() == ["WATCHDOG=1", "STATUS=Scanning"]
    watched.watchdog.close()
    assert systemd.heard() == ["STOPPING=1"]


@pytest.mark.parametrize("part", sorted(LIMITS_S))
def test_a_part_that_stands_still_starves_the_watchdog_and_is_named(
    path_socket: Systemd, part: str
) -> None:
    watched = Watched(path_socket)
    others = [each for each in LIMITS_S if each != part]
    watched.look()
    for _ in range(int(LIMITS_S[part])):
        watched.now_s += 1
        watched.move(*others)
        assert "WATCHDOG=1" in watched.look()
    watched.now_s += 1
    watched.move(*others)
    with capture_logs() as logs:
        told = watched.look()
    assert told == [f"STATUS={part} stuck for {LIMITS_S[part] + 1:.0f} s"]
    assert logs == [{"event": "parts_stuck", "parts": (part,), "log_level": "error"}]
    watched.move(part)
    assert watched.look() == ["WATCHDOG=1", "STATUS=Ready"]


def test_a_part_at_rest_is_not_stuck_and_gets_its_whole_time_when_it_is_wanted(
    path_socket: Systemd,
) -> None:
    watch = Watch({"scanner": 30.0})
    assert watch.judge({"scanner": Sign(7, rests=True)}, 0) == ()
    assert watch.judge({"scanner": Sign(7, rests=True)}, 5000) == ()
    assert watch.judge({"scanner": Sign(7)}, 5030) == ()
    assert watch.judge({"scanner": Sign(7)}, 5031) == (Stuck("scanner", 31),)
    assert watch.judge({"scanner": Sign(0)}, 5032) == (), "a counter begun anew has moved"


def test_a_journal_that_does_not_open_is_not_ready_and_not_restarted_for_it(
    path_socket: Systemd,
) -> None:
    watched = Watched(path_socket, is_ready=False, status="JournalBroken")
    first = watched.look()
    assert first == ["EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1", "STATUS=JournalBroken"]
    watched.is_ready = True
    assert watched.look() == ["READY=1", "WATCHDOG=1"]
    watched.is_ready = False
    assert watched.look() == ["WATCHDOG=1"], "ready is said once"


@pytest.mark.parametrize("address", [None, "/nowhere/at/all", "@nobody-listens-here", "x" * 300])
def test_without_a_listening_systemd_all_goes_on(address: str | None) -> None:
    Notifier(address).tell("READY=1")


def test_what_systemd_did_not_hear_is_said_again(path_socket: Systemd) -> None:
    watched = Watched(path_socket)
    with capture_logs():
        while Notifier(path_socket.address).tell("X=1"):
            pass
        watched.watchdog.look()
    assert "READY=1" not in path_socket.heard()
    assert watched.look() == ["READY=1", "WATCHDOG=1", "STATUS=Ready"]


def test_a_queue_that_nobody_empties_does_not_hang_the_teller(path_socket: Systemd) -> None:
    with capture_logs() as logs:
        for _ in range(500):
            Notifier(path_socket.address).tell("WATCHDOG=1")
    assert 0 < len(path_socket.heard()) < 500
    assert {line["event"] for line in logs} == {"systemd_not_told"}


@pytest.mark.parametrize(
    ("environment", "every_s"),
    [
        ({}, INTERVAL_MAX_S),
        ({"WATCHDOG_USEC": "4000000"}, 1.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "77"}, 1.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "78"}, INTERVAL_MAX_S),
        ({"WATCHDOG_USEC": "900000000"}, INTERVAL_MAX_S),
        ({"WATCHDOG_USEC": "1"}, 0.05),
        ({"WATCHDOG_USEC": "soon"}, INTERVAL_MAX_S),
        ({"WATCHDOG_USEC": "³"}, INTERVAL_MAX_S),
    ],
)
def test_the_watchdog_is_fed_four_times_within_its_time(
    environment: dict[str, str], every_s: float
) -> None:
    assert interval_s(environment, 77) == every_s


def test_a_look_that_fails_feeds_nothing_and_the_next_one_does(path_socket: Systemd) -> None:
    looks = iter([RuntimeError("no sign"), {"till": Sign(1)}])

    def signs() -> dict[str, Sign]:
        found = next(looks, {"till": Sign(2)})
        if isinstance(found, RuntimeError):
            raise found
        return found

    watchdog = Watchdog.of_systemd(
        {"NOTIFY_SOCKET": path_socket.address, "WATCHDOG_USEC": "200000"},
        signs,
        is_ready=lambda: True,
        say=lambda: "Ready",
        clock=monotonic,
    )
    watchdog.start()
    heard = until_heard(path_socket, "WATCHDOG=1")
    watchdog.close()
    assert heard[0] == "READY=1"


def until_heard(systemd: Systemd, line: str) -> list[str]:
    heard: list[str] = []
    deadline = monotonic() + 60
    while line not in heard and monotonic() < deadline:
        heard += systemd.heard()
        sleep(0.01)
    assert line in heard
    return heard


@dataclass
class HangingPart:
    """Lamp, buzzer, printer and scanner; its lamp hangs when `hangs` is set."""

    hangs: threading.Event = field(default_factory=threading.Event)
    is_hanging: threading.Event = field(default_factory=threading.Event)
    mended: threading.Event = field(default_factory=threading.Event)
    shown: Light = Light.DARK

    def show(self, light: Light) -> None:
        if self.hangs.is_set():
            self.is_hanging.set()
            self.mended.wait(60)
        self.shown = light

    def play(self, sound: Sound) -> None:
        """Sounds like nothing."""

    def print(self, slip: Slip) -> None:
        """Prints nothing."""

    def look(self, looking: bool) -> None:
        """Sees nothing."""


@dataclass
class Stall:
    """What `Parts` asks for."""

    lamp: HangingPart
    buzzer: HangingPart
    printer: HangingPart
    scanner: HangingPart


class NoWire:
    def publish(self, payload: bytes, expiry_s: int | None = None) -> bool:
        del payload, expiry_s
        return False

    def drop(self) -> None:
        """Nothing is up."""


def watch(systemd: Systemd, part: str, sign: Callable[[], Sign], limit_s: float) -> Watchdog:
    watchdog = Watchdog(
        Notifier(systemd.address),
        lambda: {part: sign()},
        is_ready=lambda: True,
        say=lambda: "Ready",
        clock=monotonic,
        every_s=0.05,
        limits_s={part: limit_s},
    )
    watchdog.start()
    return watchdog


def until_starved(systemd: Systemd, part: str) -> None:
    """Until the status says that a part is stuck; and then no more food comes."""
    deadline = monotonic() + 60
    heard: list[str] = []
    while not any(line.startswith(f"STATUS={part} stuck") for line in heard):
        assert monotonic() < deadline, f"{part} never counted as stuck"
        heard += systemd.heard()
        sleep(0.01)
    assert "WATCHDOG=1" not in systemd.heard()


def test_an_idle_till_is_fed_and_a_hung_one_is_not(
    state: Path, path_socket: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device.runtime.BEAT_S", 0.05)
    part, inbox = HangingPart(), Inbox()
    journal = Journal(state, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: EPOCH_MS)
    runtime = Runtime(
        inbox,
        Stall(part, part, part, part),
        journal,
        NoWire(),
        Notary(load(state)),
        firmware="1",
        wall_ms=lambda: EPOCH_MS,
    )

    def loop() -> None:
        runtime.run(lambda: None)
        journal.close()

    thread = threading.Thread(target=loop)
    thread.start()
    watchdog = watch(path_socket, "till", lambda: Sign(runtime.beats), limit_s=2.0)
    try:
        idle_from = runtime.beats
        deadline = monotonic() + 30
        while runtime.beats < idle_from + 20 and monotonic() < deadline:
            sleep(0.02)
        assert runtime.beats >= idle_from + 20, "an idle loop comes round by itself"
        assert not [line for line in path_socket.heard() if "stuck" in line]
        part.hangs.set()
        inbox.put(PolicyBytes(sign_policy(a_policy(), POLICY_KEY, "policy-1").encode()))
        assert part.is_hanging.wait(30)
        until_starved(path_socket, "till")
        part.hangs.clear()
        part.mended.set()
        until_heard(path_socket, "WATCHDOG=1")
    finally:
        part.mended.set()
        watchdog.close()
        inbox.put(Stop())
        thread.join(30)
    assert not thread.is_alive()


def test_a_link_without_a_broker_is_fed_and_a_hung_one_is_not(
    state: Path, path_socket: Systemd
) -> None:
    credentials = load(state)
    mended, hangs, hung = threading.Event(), threading.Event(), threading.Event()

    def chance() -> float:
        if hangs.is_set():
            hung.set()
            mended.wait(60)
        return 0.0

    told: list[Incoming] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        link = Link(
            "127.0.0.1",
            closed.getsockname()[1],
            credentials.device_id,
            credentials.tls_context(),
            told.append,
            firmware="1",
            clock=monotonic,
            chance=chance,
        )
        link.start()
        watchdog = watch(path_socket, "link", lambda: Sign(link.beats), limit_s=8.0)
        try:
            until_heard(path_socket, "WATCHDOG=1")
            deadline = monotonic() + 30
            while link.beats < 2 and monotonic() < deadline:
                sleep(0.02)
            assert link.beats >= 2, "a refused connection is progress"
            hangs.set()
            assert hung.wait(30)
            until_starved(path_socket, "link")
        finally:
            mended.set()
            watchdog.close()
            link.close()
    assert told == []


READING = """
import os, socket, sys, time
from device.hardware import reports
death, line = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
if os.path.exists(death):
    sys.exit("the camera is gone")
reports.send(line, reports.Ready())
look = reports.receive_look(line)
while look is not None and not look.is_looking:
    look = reports.receive_look(line)
while look is not None and not os.path.exists(death):
    now = time.monotonic()
    reports.send(line, reports.Looked(look.number, now, now, None))
    time.sleep(0.05)
"""
"""A reading process that sees nothing but lives, until a file says that its camera died."""


def nobody_asks(text: str, captured_at: float, decoded_at: float) -> None:
    """Codes are not what these tests look at."""


def test_a_scanner_that_sees_is_fed_and_one_whose_camera_died_is_not(
    path_socket: Systemd, tmp_path: Path
) -> None:
    death = tmp_path / "death"
    command = ReaderCommand((sys.executable, "-P", "-c", READING, str(death)))
    scanner = Scanner(command, nobody_asks)

    def sign() -> Sign:
        health = scanner.health()
        return Sign(health.frames, rests=not health.is_looking)

    watchdog = watch(path_socket, "scanner", sign, limit_s=4.0)
    try:
        scanner.look(True)
        deadline = monotonic() + 60
        while scanner.health().frames < 3 and monotonic() < deadline:
            sleep(0.02)
        assert scanner.health().frames >= 3
        until_heard(path_socket, "WATCHDOG=1")
        death.touch()
        until_starved(path_socket, "scanner")
        assert scanner.health().restarts > 0, "it was started anew, in vain"
        scanner.look(False)
        until_heard(path_socket, "WATCHDOG=1")
    finally:
        watchdog.close()
        scanner.close()


def test_the_program_itself_is_ready_fed_and_says_that_it_stops(
    state: Path, path_socket: Systemd, tmp_path: Path
) -> None:
    config = tmp_path / "pos.toml"
    config.write_text(
        f"""
        [broker]
        host = "localhost"
        port = 1
        [state]
        directory = "{state}"
        [hardware]
        kind = "simulated"
        socket = "{tmp_path / "edge"}"
        """
    )
    told = {"NOTIFY_SOCKET": path_socket.address, "WATCHDOG_USEC": "400000"}
    argv = [sys.executable, "-m", "device", "run", "--config", config]
    with Program("railtix-pos", argv, tmp_path / "pos.log", env=told) as program:
        heard = until_heard(path_socket, "READY=1")
        heard += until_heard(path_socket, "WATCHDOG=1")
        # Fed from its first moment on, it may say so before the till has opened its journal.
        deadline = monotonic() + 60
        while not any(line.startswith("STATUS=WaitingForPolicy, link down") for line in heard):
            assert monotonic() < deadline, heard
            heard += path_socket.heard()
            sleep(0.01)
        assert not any("stuck" in line for line in heard)
        assert program.stop() == 0
    until_heard(path_socket, "STOPPING=1")


def test_a_scanner_whose_camera_may_take_long_to_start_is_not_stuck_before_it_has_tried() -> None:
    assert limits_for(0.0) == LIMITS_S
    assert limits_for(150.0) == {**LIMITS_S, "scanner": STARTS * 150.0}
