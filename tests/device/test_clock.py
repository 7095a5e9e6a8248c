import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import device
from device.clock import STA_UNSYNC, WallClock, kernel_status

SYNCED = 0x2001  # STA_PLL | STA_NANO
UNSYNCED = SYNCED | STA_UNSYNC


def fails() -> int:
    raise OSError(38, "adjtimex")


@pytest.mark.parametrize(
    ("status", "has_marker", "is_set"),
    [
        (lambda: UNSYNCED, False, False),
        (lambda: SYNCED, False, True),
        (lambda: UNSYNCED, True, True),
        (fails, False, False),
        (fails, True, True),
    ],
    ids=["neither", "chrony or timesyncd", "timesyncd, hours ago", "no answer", "marker alone"],
)
def test_the_clock_is_believed_only_where_ntp_has_set_it(
    tmp_path: Path, status: Callable[[], int], has_marker: bool, is_set: bool
) -> None:
    marker = tmp_path / "synchronized"
    if has_marker:
        marker.touch()
    assert WallClock(status, marker).is_set() is is_set


def test_a_marker_that_cannot_be_looked_at_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not WallClock(fails, tmp_path / "file" / "synchronized").is_set()
    assert not WallClock(fails, tmp_path / ("x" * 300)).is_set()


def test_once_set_it_stays_set_when_the_kernel_forgets(tmp_path: Path) -> None:
    answers = [UNSYNCED, SYNCED, UNSYNCED]
    clock = WallClock(lambda: answers.pop(0), tmp_path / "none")
    assert [clock.is_set(), clock.is_set(), clock.is_set()] == [False, True, True]
    assert answers == [UNSYNCED], "a yes is not asked for again"


def test_this_machines_kernel_answers() -> None:
    assert kernel_status() >= 0


def test_time_outs_never_hang_on_the_wall_clock() -> None:
    """The wall clock is read where a time is written down, and nowhere else."""
    reads_the_wall = {"time", "time_ns", "gmtime", "localtime", "ctime"}
    readers: dict[str, set[str]] = {}
    folder = Path(device.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.ImportFrom(module="time", names=names):
                    found = {name.name for name in names} & reads_the_wall
                case ast.Attribute(value=ast.Name(id="time"), attr=attr):
                    found = {attr} & reads_the_wall
                case _:
                    continue
            if found:
                readers.setdefault(str(path.relative_to(folder)), set()).update(found)
    writes_down = {"runtime.py", "service.py", "upload.py"}
    """Hand it inwards as `wall_ms`: what entries and requests are stamped with."""
    tells_a_person = {"condition/status.py", "selftest/walk.py"}
    """How old things are, and whether the clock itself is right."""
    assert readers.keys() <= writes_down | tells_a_person
    assert set().union(*readers.values()) == {"time_ns"}
