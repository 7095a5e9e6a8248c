"""A disk that loses what it was not told to keep: a power cut's worst case, and its usual one.

QEMU's `blklogwrites` notes every write and every flush. After a cut the disk is made anew: all
that was flushed, and of what came after it a part by chance, one write of it torn. That is more
than killing QEMU shows, since this machine keeps what the guest had handed over.
"""

import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from device.storage.deciding import FILE_SYSTEM
from image.build.layout import LAYOUT
from image.emulation.labelled_disks import run
from image.emulation.tree import Built

DISK_GIB: Final = 8
"""Larger than the image: /data has to grow."""
SECTOR: Final = 512
OF_A_FORMER_LIFE: Final = "of-a-former-life"
"""A file on a used card's data partition."""
_SUPER: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")
_MAGIC: Final = 0x6A736677736872
_FLUSH, _FUA, _DISCARD = 1, 2, 4
_UNFLUSHED: Final = "cache.no-flush=on"
"""The guest's flushes are noted, and not asked of this machine's disk: its power stays on."""


@dataclass(frozen=True)
class Write:
    """Some sectors, and where the log holds what was written to them; a flush has none."""

    sector: int
    sectors: int
    flags: int
    at: int


@dataclass(frozen=True)
class Loss:
    """What a cut took: writes after the last flush, how many of them reached the disk all the same.

    `torn`: one of those reached it in part.
    """

    writes: int
    after_flush: int
    kept: int
    torn: bool


class VolatileDisk:
    """A raw file, and a log of what one run of the machine writes over it."""

    def __init__(self, built: Built, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._built = built
        self.raw: Final = folder / "disk.raw"
        self._over: Final = folder / "run.qcow2"
        self._log: Final = folder / "run.log"

    def make(self) -> None:
        """A copy of the image, as large as a card."""
        run("cp", "--sparse=always", str(self._built.image), str(self.raw))
        os.truncate(self.raw, DISK_GIB << 30)

    def make_on_a_used_card(self) -> None:
        """The image flashed over a card that was an appliance's: beyond its end that one's data."""
        self.make()
        at, size = LAYOUT.data_at, (DISK_GIB << 30) - LAYOUT.data_at
        with tempfile.TemporaryDirectory(prefix="railtix-used-") as folder:
            (Path(folder) / OF_A_FORMER_LIFE).touch()
            run(
                *self._built.program("mke2fs"),
                *("-q", "-F", "-t", "ext4", "-L", FILE_SYSTEM, "-E", f"offset={at}"),
                *("-d", folder, str(self.raw), f"{size >> 10}k"),
            )
        with self._built.image.open("rb") as image, self.raw.open("r+b") as card:
            image.seek(at)
            card.seek(at)
            card.write(image.read())

    def prepared(self) -> str:
        """For one run, in QEMU's words: what it writes goes into files of its own."""
        make_overlay(self._over, self.raw)
        self._log.write_bytes(b"")
        over = (
            f"file.driver=qcow2,file.{_UNFLUSHED},"
            f"file.file.driver=file,file.file.{_UNFLUSHED},file.file.filename={self._over}"
        )
        log = f"log.driver=file,log.{_UNFLUSHED},log.filename={self._log},log-sector-size={SECTOR}"
        return f"blklogwrites,node-name=disk,{over},{log}"

    def settle(self, chance: np.random.Generator, *, loses: bool) -> Loss:
        """After the run: what it wrote is brought to the disk, or what a power cut leaves of it."""
        with self._log.open("rb") as log, self.raw.open("r+b") as disk:
            writes = list(_writes(log))
            flushes = [at for at, each in enumerate(writes) if each.flags & _FLUSH]
            first = flushes[-1] + 1 if flushes else 0
            after = writes[first:]
            kept = [
                each for each in after if not loses or each.flags & _FUA or chance.random() < 0.5
            ]
            for each in (*writes[:first], *kept):
                _put(log, disk, each, each.sectors)
            lost = [each for each in after if each not in kept and each.sectors > 1]
            if lost:
                each = lost[int(chance.integers(len(lost)))]
                _put(log, disk, each, int(chance.integers(1, each.sectors)))
        return Loss(len(writes), len(after), len(kept), bool(lost))


def _writes(log: BinaryIO) -> Iterator[Write]:
    """Whatever the log holds, beyond its own count too: that is brought up to date by flushes."""
    magic, version, _, sector_size = _SUPER.unpack(log.read(_SUPER.size).ljust(_SUPER.size, b"\0"))
    # Until the first flush there is no head.
    assert not magic or (magic, version, sector_size) == (_MAGIC, 1, SECTOR), "a log of QEMU's"
    size = log.seek(0, os.SEEK_END)
    at = SECTOR
    while at + SECTOR <= size:
        log.seek(at)
        sector, sectors, flags, _ = _ENTRY.unpack(log.read(_ENTRY.size))
        if not sectors and not flags:
            return  # this entry was never finished
        at += SECTOR
        has_data = not flags & _DISCARD
        if has_data and at + sectors * SECTOR > size:
            return
        yield Write(sector, sectors, flags, at)
        at += sectors * SECTOR if has_data else 0


def _put(log: BinaryIO, disk: BinaryIO, write: Write, sectors: int) -> None:
    if write.flags & _DISCARD or not sectors:
        return  # what was thrown away may as well stay
    log.seek(write.at)
    disk.seek(write.sector * SECTOR)
    disk.write(log.read(sectors * SECTOR))


def make_overlay(path: Path, base: Path) -> None:
    """An empty qcow2 file over a raw one, which no run changes (QEMU's docs/interop/qcow2.rst)."""
    size, cluster = base.stat().st_size, 1 << 16
    tables = -(-size // (cluster * (cluster // 8)))
    extension = struct.pack(">II8s", 0xE2792ACA, 3, b"raw") + bytes(8)
    name = str(base).encode()
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 104 + len(extension), len(name), 16, size, 0, tables),
        *(3 * cluster, cluster, 1, 0, 0, 0, 0, 0, 4, 104),
    )
    with path.open("wb") as file:
        file.write(head + extension + name)
        file.seek(cluster)
        file.write((2 * cluster).to_bytes(8, "big"))
        file.seek(2 * cluster)
        file.write(struct.pack(">4H", 1, 1, 1, 1))
        file.truncate(4 * cluster)
