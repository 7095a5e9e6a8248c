import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from venue.programs import Program, ProgramError, free_port, is_listening, run_to_end

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
LEASH = Path(__file__).parents[2] / "venue" / "leash.py"

# Ignores TERM, has a child, and names both in a file.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""

PARENT = """
import signal, sys, time
from pathlib import Path
# A run in a shell's background hands down an ignored SIGINT.
signal.signal(signal.SIGINT, signal.SIG_DFL)
from venue.programs import Program
pids = Path(sys.argv[1])
program = Program("stubborn", [sys.executable, "-c", sys.argv[2], pids], Path(sys.argv[3]),
                  ready=pids.exists)
program.start()
print("started", flush=True)
{then}
"""


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    for _ in range(int(within_s / 0.02)):
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def start_parent(tmp_path: Path, then: str) -> tuple[subprocess.Popen[bytes], Path]:
    pids = tmp_path / "pids"
    parent = subprocess.Popen(
        [
            *(sys.executable, "-c", textwrap.dedent(PARENT.format(then=then))),
            *(pids, STUBBORN, tmp_path / "log"),
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    return parent, pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_the_violent_death_of_the_parent(
    tmp_path: Path, number: signal.Signals
) -> None:
    parent, pids = start_parent(tmp_path, "time.sleep(600)")
    with parent:
        program, child = map(int, pids.read_text().split())
        assert is_alive(program)
        assert is_alive(child)
        parent.send_signal(number)
        parent.wait()
        assert eventually(lambda: not is_alive(program) and not is_alive(child))


def test_nothing_survives_a_parent_that_forgets_to_stop_it(tmp_path: Path) -> None:
    parent, pids = start_parent(tmp_path, "sys.exit(3)")
    with parent:
        program, child = map(int, pids.read_text().split())
        assert parent.wait() == 3
        assert eventually(lambda: not is_alive(program) and not is_alive(child))


def test_nothing_survives_although_a_fork_of_the_parent_lives_on(tmp_path: Path) -> None:
    then = "import os; fork = os.fork(); time.sleep(3 if fork == 0 else 600)"
    parent, pids = start_parent(tmp_path, then)
    with parent:
        program, child = map(int, pids.read_text().split())
        assert eventually(lambda: len(psutil.Process(parent.pid).children()) >= 3)
        parent.kill()
        parent.wait()
        assert eventually(lambda: not is_alive(program) and not is_alive(child))


def test_nothing_survives_a_parent_that_died_before_its_leash_was_awake() -> None:
    nobody = "0"
    said, saying = os.pipe()
    with subprocess.Popen(SLEEPER, start_new_session=True) as sleeper:
        os.write(saying, b"+%d %d\n" % (sleeper.pid, signal.SIGTERM))
        # Our end stays open, as a fork of that parent would keep it.
        subprocess.run([sys.executable, LEASH, nobody], stdin=said, timeout=60, check=True)
        ended = eventually(lambda: not is_alive(sleeper.pid))
        sleeper.kill()
    os.close(said)
    os.close(saying)
    assert ended


def test_stop_ends_a_program_that_ignores_the_request_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = Program(
        "stubborn",
        [sys.executable, "-c", STUBBORN, pids],
        tmp_path / "log",
        ready=pids.exists,
    )
    with program:
        own, child = map(int, pids.read_text().split())
        assert own == program.pid
        assert program.stop(within_s=0.1) == -signal.SIGKILL
    assert not program.running
    assert eventually(lambda: not is_alive(own) and not is_alive(child))


def test_stop_asks_first_and_reports_the_exit_code(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    program = Program(
        "polite",
        [sys.executable, "-c", polite],
        tmp_path / "log",
        ready=lambda: "up" in program.output(),
    )
    with program:
        assert program.running
    assert program.exit_code == 7
    assert program.stop() == 7


def test_a_killed_program_can_be_started_again(tmp_path: Path) -> None:
    with Program("sleeper", SLEEPER, tmp_path / "log") as program:
        first = program.pid
        program.kill()
        assert program.exit_code == -signal.SIGKILL
        assert not program.running
        program.start()
        assert program.running
        assert program.pid != first


def test_wait_gives_the_exit_code_of_a_program_that_ends_on_its_own(tmp_path: Path) -> None:
    script = "import os; print(os.environ['COLOUR']); raise SystemExit(5)"
    program = Program(
        "short", [sys.executable, "-c", script], tmp_path / "log", env={"COLOUR": "green"}
    )
    with program:
        assert program.wait(within_s=30) == 5
    assert program.output() == "green\n"


def test_wait_refuses_to_wait_for_ever(tmp_path: Path) -> None:
    with (
        Program("sleeper", SLEEPER, tmp_path / "log") as program,
        pytest.raises(ProgramError, match="sleeper still runs"),
    ):
        program.wait(within_s=0.05)


def test_a_program_that_ends_before_it_is_ready_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script = "raise SystemExit('no such stall')"
    program = Program(
        "broken", [sys.executable, "-c", script], tmp_path / "log", ready=lambda: False
    )
    with pytest.raises(ProgramError, match=r"broken ended before it was ready.*\n.*no such stall"):
        program.start()
    assert not program.running


def test_a_program_that_never_gets_ready_is_not_left_running(tmp_path: Path) -> None:
    program = Program("sleeper", SLEEPER, tmp_path / "log", ready=lambda: False, ready_within_s=0.1)
    with pytest.raises(ProgramError, match="not ready within"):
        program.start()
    assert not is_alive(program.pid)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no program /nowhere/at/all"):
        Program("ghost", ["/nowhere/at/all"], tmp_path / "log").start()


def test_free_ports_differ_and_nobody_listens_there() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(is_listening(port) for port in ports)


def test_a_reserved_port_is_free_again_once_its_process_is_gone() -> None:
    script = "from venue.programs import free_port; print(free_port())"
    port = int(run_to_end([sys.executable, "-c", script]))
    claim = (
        "import socket, sys\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(f'\\0railtix-port-{sys.argv[1]}')"
    )
    assert run_to_end([sys.executable, "-c", claim, str(port)]) == ""
    with pytest.raises(ProgramError, match="in use"):
        run_to_end([sys.executable, "-c", claim, str(free_port())])


def test_run_to_end_reports_what_the_program_said() -> None:
    with pytest.raises(ProgramError, match=r"ended with 1.*\n.*sold out"):
        run_to_end([sys.executable, "-c", "raise SystemExit('sold out')"])
    with pytest.raises(ProgramError, match="timed out"):
        run_to_end(SLEEPER, within_s=0.2)
    assert run_to_end([sys.executable, "-c", "import os; print(os.getppid())"]) == (
        f"{os.getpid()}\n"
    )
