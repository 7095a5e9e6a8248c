"""Programs started, awaited and ended: none of them outlives the one that started it."""

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

POLL_S: Final = 0.01
LOG_TAIL_LINES: Final = 20
PORTS: Final = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections."""

_LEASH: Final = Path(__file__).with_name("leash.py")
# The program starts only once the leash holds it: if we die before, `read` meets the end.
_HELD_START: Final = 'read -r go && exec "$0" "$@" </dev/null'


class ProgramError(Exception):
    """A program did not start, or ended when it should not have; says so with its log's end."""


class Program:
    """A child process in a session of its own, with its output in a log file.

    It ends by `stop`, `kill`, the end of a `with` block, the end of this process, and the death of
    this process, SIGKILL included. It can be started again after it ended.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
        ready_within_s: float = 120.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        crash_signal: signal.Signals = signal.SIGKILL,
        user: str | None = None,
    ) -> None:
        """`env` adds to our environment; `ready` is asked until it says yes (default: at once).

        `crash_signal` is what the program gets should we die; `user` whom it runs as (root only).
        """
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self._env = dict(env or {})
        self._ready = ready
        self._ready_within_s = ready_within_s
        self._stop_signal = stop_signal
        self._crash_signal = crash_signal
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, also its group's; the program must have been started."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended(self._process)

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal; None until `wait`, `stop` or `kill` saw the end."""
        return self._process.returncode if self._process is not None else None

    def start(self) -> Self:
        """Start, and return once it is ready. Raises ProgramError, and leaves nothing running."""
        assert not self.running, f"{self.name} is running already"
        if shutil.which(self.argv[0]) is None:
            msg = f"{self.name}: no program {self.argv[0]}"
            raise ProgramError(msg)
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - argv comes from our own code
                ["/bin/sh", "-c", _HELD_START, *self.argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                cwd=None if self._user is None else "/",  # ours may be closed to that user
            )
        self._process = process
        try:
            _leash.hold(process.pid, self._crash_signal)
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.close()
            self._await_ready(process)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, within_s: float = 45.0) -> int | None:
        """Ask it to end, make it end after `within_s`, and return its exit code, if it ever ran."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            if not self._ended(process):
                os.kill(process.pid, self._stop_signal)
            self._await_end(process, within_s)
            self._reap(process)
        return process.returncode

    def kill(self) -> None:
        """SIGKILL to it and to all it started in its group, as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._reap(self._process)

    def wait(self, within_s: float) -> int:
        """Its exit code, once it ends on its own. Raises ProgramError when it does not."""
        assert self._process is not None, f"{self.name} was never started"
        if self._process.returncode is None:
            if not self._await_end(self._process, within_s):
                raise self._failed(f"still runs after {within_s:g} s")
            self._reap(self._process)
        code = self._process.returncode
        assert code is not None, "a reaped process has an exit code"
        return code

    def output(self) -> str:
        """Everything it has written to its log so far."""
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        if self._ready is None:
            return
        deadline = _clock() + self._ready_within_s
        while not self._ready():
            if self._ended(process):
                raise self._failed("ended before it was ready")
            if _clock() > deadline:
                raise self._failed(f"not ready within {self._ready_within_s:g} s")
            time.sleep(POLL_S)

    def _ended(self, process: subprocess.Popen[bytes]) -> bool:
        # Looked at without reaping: until then the kernel gives its group's number to nobody else.
        if process.returncode is not None:
            return True
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _await_end(self, process: subprocess.Popen[bytes], within_s: float) -> bool:
        deadline = _clock() + within_s
        while not self._ended(process):
            if _clock() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        _leash.release(process.pid)

    def _failed(self, what: str) -> ProgramError:
        tail = "\n".join(self.output().splitlines()[-LOG_TAIL_LINES:])
        return ProgramError(f"{self.name} {what}; its log ends:\n{tail}")


def run_to_end(
    argv: Sequence[str | Path], *, within_s: float = 150.0, user: str | None = None
) -> str:
    """Run a short program and return its output. Raises ProgramError when it fails."""
    command = [str(part) for part in argv]
    try:
        ended = subprocess.run(  # noqa: S603 - argv comes from our own code
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within_s,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            cwd=None if user is None else "/",
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        msg = f"{command[0]}: {fault}"
        raise ProgramError(msg) from fault
    output = ended.stdout.decode(errors="replace")
    if ended.returncode != 0:
        msg = f"{' '.join(command[:4])} ended with {ended.returncode}:\n{output}"
        raise ProgramError(msg)
    return output


def free_port() -> int:
    """A loopback TCP port that nobody listens at, and that no other caller on this machine gets.

    The reservation is an abstract Unix socket, held until this process ends.
    """
    for _ in range(1000):
        port = PORTS[secrets.randbelow(len(PORTS))]
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0railtix-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        reservation.detach()
        return port
    msg = "no free port"
    raise ProgramError(msg)


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether anybody accepts connections at a TCP port: a program's usual sign of being ready."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


class _Leash:
    """Our end of the process that ends our programs should we die (venue/leash.py)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def hold(self, group: int, crash_signal: signal.Signals) -> None:
        self._say(f"+{group} {crash_signal:d}\n")

    def release(self, group: int) -> None:
        self._say(f"-{group}\n")

    def close(self) -> None:
        """Let go: whatever is still held ends now."""
        if self._process is not None and self._owner == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _say(self, line: str) -> None:
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._owner = os.getpid()
                self._process = subprocess.Popen(  # noqa: S603 - our own file
                    [sys.executable, "-S", "-E", _LEASH, str(self._owner)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
                atexit.register(self.close)
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


_leash: Final = _Leash()


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 - starting programs is an edge
