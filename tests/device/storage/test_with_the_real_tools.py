"""The very tools of the image, on a card that is a file; only the kernel's part is left out."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from device.storage.boot_settings import BootSettings
from device.storage.deciding import MADE, NEVER_MADE, Encryption, Refused, Why
from device.storage.finding import Place
from device.storage.preparing import NAME, Machine, Ready, prepare
from device.storage.tools import Done, Tools, run

MIB = 1024 * 1024
CARD_MIB = 160

TABLE = b"""label: dos
label-id: 0x52545801
start=8192, size=8192, type=c
start=16384, size=8192, type=83
start=24576, size=8192, type=83
start=32768, size=16384, type=da
"""


class Bench:
    """A card's table in one file, its data partition in another, what LUKS opens in a third."""

    def __init__(self, folder: Path) -> None:
        self.card = folder / "card"
        self.node = folder / "part4"
        self.mapper = folder / "mapper"
        self.mapper.mkdir()
        for path, size in ((self.card, CARD_MIB), (self.node, 96), (folder / "inside", 96)):
            with path.open("wb") as opened:
                opened.truncate(size * MIB)
        self.inside = folder / "inside"
        assert run(("sfdisk", "--quiet", str(self.card)), TABLE).code == 0
        self.serial = "10000000deadbeef"
        self.said: list[str] = []
        self._folder = folder

    def start(self, encryption: Encryption = "none") -> Ready | Refused:
        (self.mapper / NAME).unlink(missing_ok=True)
        machine = Machine(
            tools=Tools(self._run),
            serial=lambda: self.serial,
            random=os.urandom,
            pause=lambda: None,
            say=self.said.append,
            run_folder=self._folder,
            mapper=self.mapper,
        )
        place = Place(self.card, CARD_MIB * 2048, self.node)
        return prepare(machine, place, BootSettings(encryption))

    def _run(self, argv: Sequence[str], given: bytes) -> Done:
        match list(argv):
            case ["blockdev" | "partx" | "udevadm", *_]:
                return Done(0, "", "")
            case ["cryptsetup", "open", *options, _]:
                # There may be no device-mapper here; the key is tried all the same.
                done = run(("cryptsetup", "open", "--test-passphrase", *options), given)
                if done.code == 0:
                    (self.mapper / NAME).symlink_to(self.inside)
                return done
            case ["cryptsetup", "close", _]:
                (self.mapper / NAME).unlink()
                return Done(0, "", "")
            case _:
                return run(argv, given)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _first(card: Path) -> bytes:
    with card.open("rb") as opened:
        return opened.read(MIB)


def test_sfdisk_grows_the_last_partition_and_touches_nothing_else(bench: Bench) -> None:
    tools = Tools(bench._run)
    before = _first(bench.card)
    entry = tools.entry(bench.card)
    assert entry is not None
    assert (entry.kind, entry.start, entry.sectors) == (NEVER_MADE, 32768, 16384)

    tools.grow(bench.card)
    tools.set_kind(bench.card, MADE)
    entry = tools.entry(bench.card)
    assert entry is not None
    assert (entry.kind, entry.start) == (MADE, 32768)
    assert entry.start + entry.sectors == CARD_MIB * 2048
    after = _first(bench.card)
    # Of the first sector only the fourth entry: code, signature and what is started from stay.
    assert after[:494] == before[:494]
    assert after[510:] == before[510:]


def test_a_file_system_is_made_found_checked_and_never_made_again(bench: Bench) -> None:
    assert bench.start() == Ready(bench.node, "none")
    assert run(("debugfs", "-w", "-R", "mkdir kept", str(bench.node))).code == 0
    assert bench.start() == Ready(bench.node, "none")
    assert "kept" in run(("debugfs", "-R", "ls", str(bench.node))).out
    told = run(("dumpe2fs", "-h", str(bench.node))).out
    assert "railtix-data" in told
    assert "metadata_csum" in told
    assert "Remount read-only" in told


def test_a_beginning_that_was_wiped_is_not_taken_for_a_new_card(bench: Bench) -> None:
    bench.start()
    with bench.node.open("r+b") as opened:
        opened.write(bytes(MIB))
    assert bench.start() == Refused(Why.NOTHING_THERE)
    assert run(("blkid", "-p", str(bench.node))).code == 2, "still nothing"


def test_a_spoiled_file_system_is_mended(bench: Bench) -> None:
    bench.start()
    # In use when the power went, and then the root folder itself is gone.
    for spoil in ("clri <2>", "set_super_value state 0"):
        assert run(("debugfs", "-w", "-R", spoil, str(bench.node))).code == 0
    assert bench.start() == Ready(bench.node, "none")
    assert any("is mended" in line for line in bench.said)
    assert run(("e2fsck", "-f", "-n", str(bench.node))).code == 0


def test_somebody_elses_file_system_is_left_alone(bench: Bench) -> None:
    assert run(("mke2fs", "-q", "-F", "-t", "ext4", "-L", "photos", str(bench.node))).code == 0
    outcome = bench.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.FOREIGN
    assert "photos" in run(("dumpe2fs", "-h", str(bench.node))).out


def test_luks_opens_for_this_board_and_for_no_other(bench: Bench) -> None:
    assert isinstance(bench.start("serial"), Ready)
    told = run(("cryptsetup", "luksDump", str(bench.node))).out
    assert "railtix-luks" in told
    assert "argon2id" in told
    bench.serial = "10000000cafecafe"
    assert bench.start() == Refused(Why.OTHER_BOARD)


def test_a_tool_that_is_missing_is_said(bench: Bench) -> None:
    assert run(("no-such-tool",)).code == 127
    bench.card.write_bytes(bytes(MIB))
    outcome = bench.start()
    assert isinstance(outcome, Refused)
    assert outcome.why == Why.FAILED
    assert "sfdisk" in outcome.detail
