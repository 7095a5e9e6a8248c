"""Which disk, among all that are plugged in."""

from pathlib import Path

import pytest

from device.storage.finding import TRIES, Place, find

CMDLINE = "console=tty1 root=PARTUUID=52545801-02 rootfstype=ext4 ro rauc.slot=A panic=10"


class Board:
    """/dev and /sys, as the kernel and udev fill them."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder / "dev"
        self.sys_block = folder / "sys" / "class" / "block"
        (self.dev / "disk" / "by-partuuid").mkdir(parents=True)
        self.sys_block.mkdir(parents=True)

    def plug_in(self, disk: str, signature: str, *, separator: str = "p", parts: int = 4) -> None:
        home = self.sys_block.parents[1] / "devices" / "block" / disk
        home.mkdir(parents=True)
        (home / "size").write_text("62333952\n")
        (self.dev / disk).touch()
        (self.sys_block / disk).symlink_to(home)
        for number in range(1, parts + 1):
            name = f"{disk}{separator}{number}"
            (home / name).mkdir()
            (home / name / "partition").write_text(f"{number}\n")
            (self.dev / name).touch()
            (self.sys_block / name).symlink_to(home / name)
            (self.dev / "disk" / "by-partuuid" / f"{signature}-{number:02}").symlink_to(
                self.dev / name
            )

    def find(self, cmdline: str = CMDLINE) -> Place | None:
        return find(cmdline, lambda: None, self.dev, self.sys_block)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_it_is_on_the_disk_that_the_root_was_started_from(board: Board) -> None:
    board.plug_in("sda", "11111111", separator="")
    board.plug_in("mmcblk0", "52545801")
    assert board.find() == Place(board.dev / "mmcblk0", 62333952, board.dev / "mmcblk0p4")
    assert board.find(CMDLINE.replace("-02", "-03")) == board.find(), "from the other slot too"


def test_the_last_root_counts_as_it_does_for_the_kernel(board: Board) -> None:
    board.plug_in("mmcblk0", "52545801")
    assert board.find(f"root=/dev/sda2 {CMDLINE}") is not None
    assert board.find(f"root=/dev/sda2 {CMDLINE}\n") is not None


def test_a_root_named_by_its_node_is_found_too(board: Board) -> None:
    board.plug_in("vda", "52545801", separator="")
    assert board.find(f"root={board.dev}/vda2") is None, "only what lies in /dev is believed"
    assert board.find("ro quiet") is None
    assert board.find("xroot=PARTUUID=52545801-02") is None


def test_a_disk_without_a_fourth_partition_or_that_never_comes_is_none(board: Board) -> None:
    board.plug_in("mmcblk0", "52545801", parts=3)
    assert board.find() is None
    waits: list[None] = []
    assert find(CMDLINE, lambda: waits.append(None), board.dev / "none", board.sys_block) is None
    assert len(waits) == TRIES


def test_a_card_that_comes_late_is_waited_for(board: Board) -> None:
    waits: list[None] = []

    def pause() -> None:
        waits.append(None)
        if len(waits) == 3:
            board.plug_in("mmcblk0", "52545801")

    assert find(CMDLINE, pause, board.dev, board.sys_block) is not None
    assert len(waits) == 3
