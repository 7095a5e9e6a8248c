"""A program under strace: a fault at its n-th system call, and the proof that it came."""

import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from venue.programs import Program

FLUSHES: Final = ("fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync")
"""Every way to ask that bytes be on the disk."""

_STARTED: Final = re.compile(
    r"(?P<thread>\d+) +(?P<name>\w+)\((?:\d+<(?P<path>[^>]*)>)?(?P<arguments>.*)"
)
_RESUMED: Final = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)")
_RESULT: Final = re.compile(r"(?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?P<note>.*)")
_EXTENT: Final = re.compile(r", (?P<size>\d+), (?P<offset>\d+)$")


@dataclass(frozen=True)
class Call:
    """One system call, as strace wrote it down."""

    thread: int
    name: str
    path: str
    arguments: str
    result: int | None = None
    """None where it never returned."""
    is_injected: bool = False

    @property
    def is_flush(self) -> bool:
        return self.name in FLUSHES

    @property
    def ends_at(self) -> int:
        """Where in its file a pwrite64 ends."""
        extent = _EXTENT.search(self.arguments)
        assert extent is not None, f"not a pwrite64: {self}"
        return int(extent["offset"]) + int(extent["size"])


class Attached:
    """strace at a program that runs already: calls are counted from here on."""

    def __init__(self, program: Program, trace: Path, *options: str, paths: Sequence[Path]) -> None:
        """Only calls about `paths` are seen. Never with --seccomp-bpf, which cannot be attached."""
        assert all(path.is_absolute() for path in paths), "a relative path matches nothing"
        self._trace = trace
        log = trace.with_suffix(".log")
        for each in (trace, log):
            each.unlink(missing_ok=True)
        self._strace = Program(
            "strace",
            [
                *("strace", "--follow-forks", "--decode-fds=path", "--string-limit=0"),
                *("--output", trace, "--trace", ",".join((*FLUSHES, "pwrite64"))),
                *(part for path in paths for part in ("--trace-path", path)),
                *(*options, f"--attach={program.pid}"),
            ],
            log,
            ready=lambda: "attached" in log.read_text("utf-8", errors="replace"),
        ).start()

    def detach(self) -> None:
        """The program runs on; where it has died, strace has ended with it."""
        self._strace.stop(within_s=60)

    def calls(self) -> list[Call]:
        """Everything seen so far, oldest first."""
        return read_calls(self._trace.read_text("utf-8", errors="replace"))


class Traced(Program):
    """The same program under strace, with its flushes and writes on record.

    strace numbers calls by thread and name: `when=3` is a thread's third fdatasync, say.
    """

    def __init__(
        self, program: Program, trace: Path, *options: str, paths: Sequence[Path] = ()
    ) -> None:
        """`options` go to strace; with `paths` only calls about these files are seen at all."""
        strace = shutil.which("strace")
        assert strace is not None, "strace is among the test packages"
        assert all(path.is_absolute() for path in paths), "a relative path matches nothing"
        self._trace = trace
        super().__init__(
            program.name,
            [
                *(strace, "--follow-forks", "--decode-fds=path", "--quiet=attach"),
                *("--string-limit=0", "--output", trace),
                *("--trace", ",".join((*FLUSHES, "pwrite64"))),
                *(part for path in paths for part in ("--trace-path", path)),
                *(*options, *program.argv),
            ],
            program.log,
            ready=program._ready,
        )

    def start(self) -> "Traced":
        self._trace.unlink(missing_ok=True)
        super().start()
        return self

    def kill(self) -> None:
        # strace ends after what it traces: killed first, it would leave that dying on its own.
        if self.running:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
            for child in children.split():
                os.kill(int(child), signal.SIGKILL)
            self.wait(within_s=60)
        super().kill()

    def calls(self) -> list[Call]:
        """Everything seen so far, oldest first."""
        return read_calls(self._trace.read_text("utf-8", errors="replace"))


def read_calls(trace: str) -> list[Call]:
    calls: list[Call] = []
    unfinished: dict[int, int] = {}
    for line in trace.splitlines():
        if started := _STARTED.fullmatch(line):
            thread = int(started["thread"])
            call = Call(thread, started["name"], started["path"] or "", started["arguments"])
            unfinished[thread] = len(calls)
            calls.append(_finished(call, call.arguments))
        elif resumed := _RESUMED.fullmatch(line):
            number = unfinished.pop(int(resumed["thread"]))
            before = calls[number].arguments.removesuffix(" <unfinished ...>")
            calls[number] = _finished(calls[number], before + resumed["rest"])
    return calls


def killing(name: str, number: int) -> tuple[str, ...]:
    """SIGKILL at the moment this call is made: it is not carried out any more.

    Never with --seccomp-bpf: the kernel drops a signal injected at a seccomp stop.
    """
    return ("--inject", f"{name}:signal=KILL:when={number}")


def failing(name: str, error: str, when: str, *, attached: bool = False) -> tuple[str, ...]:
    """`when`: `3` the third alone, `3+` the third and all after it."""
    quick = () if attached else ("--seccomp-bpf",)
    return (*quick, "--inject", f"{name}:error={error}:when={when}")


def _finished(call: Call, said: str) -> Call:
    result = _RESULT.fullmatch(said)
    if result is None:
        return call
    return replace(
        call,
        arguments=result["arguments"],
        result=None if result["result"] == "?" else int(result["result"]),
        is_injected="(INJECTED)" in result["note"],
    )
