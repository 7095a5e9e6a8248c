import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 -- waiting for a process is in real time

import pytest
import structlog

from device.hardware.reader_process import ReaderCommand, lean, reader_of_pi, reader_of_stage
from device.hardware.scanner import Scanner, ScannerHealth
from device.hardware.settings import CameraSettings
from device.hardware.simulated_camera import Scene, Stage

SCRIPT = Path(__file__).parent / "scripted_reader.py"


def until(is_so: Callable[[], bool], what: str, limit_s: float = 60) -> None:
    deadline = monotonic() + limit_s
    while not is_so():
        assert monotonic() < deadline, f"{what}: not within {limit_s} s"
        sleep(0.005)


def ignore_qr(text: str, captured_at: float, decoded_at: float) -> None: ...


def command_of(stage: Stage) -> ReaderCommand:
    words = (str(each) for each in stage.descriptors)
    return ReaderCommand((sys.executable, "-P", str(SCRIPT), *words), stage.descriptors)


def is_gone(pid: int) -> bool:
    """Whether a process is no more; one that nobody has buried yet is as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def readers() -> list[int]:
    """Our reading processes that live."""
    tasks = Path("/proc/self/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in children if not is_gone(pid) and SCRIPT.name in _words(pid)]


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@dataclass
class Bench:
    """A scanner whose reading process obeys the pictures put before it."""

    stage: Stage
    scanner: Scanner
    seen: list[tuple[str, float, float]] = field(default_factory=list)

    def put(self, order: str | None) -> None:
        picture = None if order is None else order.encode().ljust(64 * 48, b"\0")
        self.stage.put(None if picture is None else Scene(64, 48, picture))

    @property
    def health(self) -> ScannerHealth:
        return self.scanner.health()

    @property
    def texts(self) -> list[str]:
        return [text for text, _, _ in self.seen]

    def wait_for_frames(self, more: int = 1) -> None:
        frames = self.health.frames
        until(lambda: self.health.frames >= frames + more, "frames")

    def wait_for(self, text: str, times: int = 1) -> None:
        until(lambda: self.texts.count(text) >= times, f"{text!r} to be read")

    def look_until_ready(self) -> int:
        """The reading process's id, once it has seen something."""
        self.scanner.look(True)
        self.wait_for_frames()
        pid = self.health.reader_pid
        assert pid is not None
        return pid


@pytest.fixture
def bench() -> Iterator[Bench]:
    stage, seen = Stage(), list[tuple[str, float, float]]()
    scanner = Scanner(command_of(stage), lambda text, at, read_at: seen.append((text, at, read_at)))
    yield Bench(stage, scanner, seen)
    scanner.close()
    stage.close()


def test_the_process_is_there_before_anybody_looks(bench: Bench) -> None:
    until(lambda: bench.health.faults == 1, "the decoder that is missing to be told")
    assert readers() == [bench.health.reader_pid]
    assert (bench.health.frames, bench.health.last_frame_at) == (0, None)
    assert (bench.health.is_looking, bench.health.looking_since) == (False, None)


def test_a_code_in_view_is_told_once_and_again_when_it_has_left(bench: Bench) -> None:
    began_at = monotonic()
    bench.scanner.look(True)
    bench.put("read one")
    bench.wait_for("one")
    bench.wait_for_frames(3)
    bench.put(None)
    misses = bench.health.misses
    until(lambda: bench.health.misses >= misses + 6, "the code to leave")
    bench.put("read one")
    bench.wait_for("one", times=2)
    bench.put("read two")
    bench.wait_for("two")
    assert bench.texts == ["one", "one", "two"]
    health = bench.health
    assert health.last_frame_at is not None
    assert health.looking_since is not None
    for _, captured_at, decoded_at in bench.seen:
        assert began_at < captured_at <= decoded_at <= monotonic()
    assert (health.restarts, health.is_looking) == (0, True)


def test_resting_it_takes_no_frame_and_no_turn_of_the_processor(bench: Bench) -> None:
    pid = bench.look_until_ready()
    bench.scanner.look(False)

    def wakes() -> tuple[int, str]:
        told = status(pid)
        return bench.health.frames, told["voluntary_ctxt_switches"]

    before = wakes()
    deadline = monotonic() + 30
    while True:  # the last frame may still be on its way
        sleep(0.3)
        after = wakes()
        if after == before:
            break
        assert monotonic() < deadline, "it wakes again and again"
        before = after
    bench.put("read unasked")  # a scene that nobody looks at wakes nobody
    sleep(0.3)
    assert wakes() == before
    assert bench.texts == []


def test_looking_anew_tells_what_is_still_in_view(bench: Bench) -> None:
    bench.look_until_ready()
    bench.put("read one")
    bench.wait_for("one")
    bench.scanner.look(False)
    bench.scanner.look(True)
    bench.wait_for("one", times=2)


def test_a_frame_from_before_the_switch_is_not_told(bench: Bench) -> None:
    bench.look_until_ready()
    bench.put("slowly late")
    captured: list[float] = []
    until(lambda: bool(captured.extend(bench.stage.first_captures()) or captured), "a capture")
    bench.scanner.look(False)
    bench.put(None)
    bench.wait_for_frames()
    bench.scanner.look(True)
    bench.put("read news")
    bench.wait_for("news")
    assert bench.texts == ["news"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_process_that_dies_is_replaced_and_reads_on(bench: Bench, number: signal.Signals) -> None:
    pid = bench.look_until_ready()
    bench.put("read one")
    bench.wait_for("one")
    with structlog.testing.capture_logs() as logs:
        os.kill(pid, number)
        until(lambda: bench.health.restarts == 1, "a restart")
        bench.put("read two")
        bench.wait_for("two")
    assert bench.health.reader_pid != pid
    assert is_gone(pid)
    assert readers() == [bench.health.reader_pid]
    told = [log for log in logs if log["event"] == "reader_ended"]
    assert [(log["why"], log["how"], log["in_a_row"]) for log in told] == [("died", number.name, 1)]


@pytest.mark.parametrize("poison", ["signal 6", "free-twice", "exit 3"])
def test_a_picture_that_kills_again_and_again_costs_itself_alone(bench: Bench, poison: str) -> None:
    bench.look_until_ready()
    with structlog.testing.capture_logs() as logs:
        bench.put(poison)
        until(lambda: bench.health.restarts >= 3, "three deaths")
        bench.put("read after all")
        bench.wait_for("after all")
    told = [log["in_a_row"] for log in logs if log["event"] == "reader_ended"]
    assert told == list(range(1, len(told) + 1))
    assert bench.health.restarts == len(told)
    assert bench.texts == ["after all"]


@pytest.mark.parametrize("how", ["stopped", "hang"])
def test_a_process_that_hangs_is_killed_before_another_is_started(bench: Bench, how: str) -> None:
    pid = bench.look_until_ready()
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    else:
        bench.put("hang")
    at_once: set[int] = set()
    deadline = monotonic() + 60
    while bench.health.restarts == 0:
        at_once.add(len(readers()))
        assert monotonic() < deadline
        sleep(0.005)
    assert is_gone(pid)
    bench.put("read on")
    until(lambda: bool(at_once.add(len(readers())) or bench.texts), "a code to be read")
    assert bench.texts == ["on"]
    assert at_once <= {0, 1}


@pytest.mark.parametrize("poison", ["raise", "devour"])
def test_an_exception_costs_one_frame_and_says_nothing_of_the_picture(
    bench: Bench, poison: str
) -> None:
    pid = bench.look_until_ready()
    with structlog.testing.capture_logs() as logs:
        faults = bench.health.faults
        bench.put(poison)
        until(lambda: bench.health.faults >= faults + 3, "three lost frames")
        bench.put("read two")
        bench.wait_for("two")
    assert (bench.health.restarts, bench.health.reader_pid) == (0, pid)
    kind = {"raise": "RuntimeError", "devour": "MemoryError"}[poison]
    assert [(log["event"], log["what"]) for log in logs] == [("frame_lost", kind)]


@pytest.mark.parametrize("lie", ["babble", "foresee", "remember", "presume", "flood"])
def test_what_no_camera_would_say_is_not_believed(bench: Bench, lie: str) -> None:
    bench.look_until_ready()
    with structlog.testing.capture_logs() as logs:
        bench.put(lie)
        until(lambda: bench.health.restarts >= 1, "a restart")
        bench.put("read two")
        bench.wait_for("two")
    assert bench.texts == ["two"]
    assert "nonsense" in {log.get("why") for log in logs}


@pytest.mark.parametrize("oddity", ["shout", "stammer"])
def test_a_text_that_no_code_holds_is_no_reading(bench: Bench, oddity: str) -> None:
    bench.look_until_ready()
    bench.put(oddity)
    bench.wait_for_frames(3)
    assert bench.texts == []
    assert bench.health.restarts == 0


def test_signals_that_are_meant_for_the_appliance_leave_it_reading(bench: Bench) -> None:
    pid = bench.look_until_ready()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    bench.put("read on")
    bench.wait_for("on")
    assert (bench.health.restarts, bench.health.reader_pid) == (0, pid)


def test_it_holds_nothing_that_it_does_not_need(bench: Bench, tmp_path: Path) -> None:
    with (tmp_path / "key").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        pid = bench.look_until_ready()
        os.kill(pid, signal.SIGKILL)  # so that another is started while the file is open
        until(lambda: bench.health.reader_pid not in {pid, None}, "another process")
        bench.wait_for_frames()
        child = bench.health.reader_pid
        assert child is not None
        held = {str(each.readlink()) for each in Path(f"/proc/{child}/fd").iterdir()}
    assert str(tmp_path / "key") not in held
    assert len([each for each in held if each.startswith("socket:")]) == 2  # line, and stage
    assert status(child)["NoNewPrivs"] == "1"
    assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "500"
    limits = Path(f"/proc/{child}/limits").read_text().splitlines()
    assert next(each for each in limits if "core" in each).split()[4:6] == ["0", "0"]
    assert Path(f"/proc/{child}/cwd").readlink() == Path("/")


def test_the_environment_is_not_handed_on() -> None:
    environment = {"PATH": "/bin", "LC_ALL": "C", "RAILTIX_DATABASE": "secret", "AWS": "secret"}
    assert lean(environment) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "MALLOC_ARENA_MAX": "2",
        "OPENBLAS_NUM_THREADS": "1",
    }


PARENT = """
import sys, time, structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from device.hardware.reader_process import ReaderCommand
from device.hardware.scanner import Scanner
from device.hardware.simulated_camera import Stage
stage = Stage()
words = [str(each) for each in stage.descriptors]
command = ReaderCommand((sys.executable, "-P", sys.argv[1], *words), stage.descriptors)
scanner = Scanner(command, lambda *_: None)
scanner.look(True)
while scanner.health().frames < 3:
    time.sleep(0.01)
print(scanner.health().reader_pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("is_hung", [False, True])
def test_no_process_outlives_the_appliance(is_hung: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(SCRIPT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if is_hung:
            os.kill(pid, signal.SIGSTOP)
        assert not is_gone(pid)
    finally:
        parent.kill()
        parent.communicate()
    until(lambda: is_gone(pid), "the reading process to be gone")


def test_closing_leaves_no_process_and_may_be_done_twice() -> None:
    stage = Stage()
    scanner = Scanner(command_of(stage), ignore_qr)
    until(lambda: scanner.health().reader_pid is not None, "a process")
    scanner.close()
    scanner.close()
    scanner.look(True)
    assert readers() == []
    assert (scanner.health().is_looking, scanner.health().reader_pid) == (False, None)
    stage.close()


def test_a_hung_process_is_killed_at_the_close(bench: Bench) -> None:
    pid = bench.look_until_ready()
    os.kill(pid, signal.SIGSTOP)
    bench.scanner.close()
    assert is_gone(pid)
    assert bench.health.restarts == 0


@pytest.mark.parametrize(
    "command",
    [
        ReaderCommand(("/nowhere/python",)),
        reader_of_pi(CameraSettings()),  # there is no picamera2 here
        ReaderCommand((sys.executable, "-c", "pass")),
    ],
    ids=["no-program", "no-camera", "ends-at-once"],
)
def test_an_appliance_without_a_camera_goes_on_trying(command: ReaderCommand) -> None:
    with structlog.testing.capture_logs() as logs:
        scanner = Scanner(command, ignore_qr)
        scanner.look(True)
        until(lambda: scanner.health().restarts >= 2, "two attempts")
        scanner.close()
    assert scanner.health().frames == 0
    assert scanner.health().faults >= 2
    assert [log["in_a_row"] for log in logs if log["event"] == "reader_ended"][:2] == [1, 2]


LEAN = """
import sys, tempfile, time, structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from pathlib import Path
from device import service
from device.hardware.build import open_hardware
from device.hardware.settings import HardwareSettings, PrinterSettings
folder = Path(tempfile.mkdtemp())
hardware = open_hardware(
    HardwareSettings(
        kind="simulated", socket=str(folder / "edge"), printer=PrinterSettings(kind="none")
    ),
    on_key=lambda *_: None, on_qr=lambda *_: None, image_marker=folder / "none",
)
hardware.scanner.look(True)
while hardware.scanner.health().frames < 3:
    time.sleep(0.01)
child = hardware.scanner.health().reader_pid
print(*sorted({"numpy", "zxingcpp", "pyzbar", "PIL", "picamera2"} & set(sys.modules)), sep=",")
print("numpy" in Path(f"/proc/{child}/maps").read_text())
print("zxingcpp" in Path(f"/proc/{child}/maps").read_text())
hardware.close()
"""


def test_only_the_process_holds_the_decoders_and_numpy_nobody() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LEAN], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.stdout.split("\n")[:3] == ["", "False", "True"], ran.stderr


def test_the_simulated_camera_is_read_by_the_shipped_process() -> None:
    stage = Stage()
    argv = reader_of_stage(stage.descriptors).argv
    assert argv[1:4] == ("-P", "-m", "device.hardware.reader")
    assert reader_of_pi(CameraSettings()).argv[:5] == (*argv[:4], "pi")
    stage.close()


def test_a_process_that_is_never_ready_is_started_anew_after_the_time_it_was_given() -> None:
    sleeper = ReaderCommand((sys.executable, "-c", "import time; time.sleep(600)"))
    scanner = Scanner(sleeper, ignore_qr, start_s=0.2)
    until(lambda: scanner.health().restarts > 1, "another process")
    scanner.close()
    patient = Scanner(sleeper, ignore_qr, start_s=600)
    until(lambda: patient.health().reader_pid is not None, "a process")
    sleep(0.5)
    assert patient.health().restarts == 0
    patient.close()
