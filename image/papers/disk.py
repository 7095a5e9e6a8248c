"""Where an image's partitions lie (MBR), and which bytes of two images differ."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

SECTOR: Final = 512
_CHUNK: Final = 1 << 20
_TABLE_AT: Final = 446
_NAMES: Final = ("boot", "root-a", "root-b", "data")


@dataclass(frozen=True)
class Region:
    """A stretch of an image: a partition, or what lies before, between and after them."""

    name: str
    start: int
    size: int


class NotAnImageError(ValueError):
    """A file without a partition table."""


def regions_of(image: Path) -> list[Region]:
    """In order, and without holes. Raises NotAnImageError."""
    with image.open("rb") as file:
        first = file.read(SECTOR)
    if first[510:512] != b"\x55\xaa":
        raise NotAnImageError(f"{image.name} has no partition table")
    found: list[Region] = []
    at = 0
    for number, name in enumerate(_NAMES):
        entry = first[_TABLE_AT + 16 * number : _TABLE_AT + 16 * (number + 1)]
        start, sectors = struct.unpack("<II", entry[8:16])
        if sectors == 0:
            continue
        if start * SECTOR > at:
            found.append(Region("table" if at == 0 else "gap", at, start * SECTOR - at))
        found.append(Region(name, start * SECTOR, sectors * SECTOR))
        at = (start + sectors) * SECTOR
    # Partitions may go on behind the file's end: the last one is made at the first boot.
    size = image.stat().st_size
    if size > at:
        found.append(Region("end", at, size - at))
    return [
        Region(each.name, each.start, min(each.size, size - each.start))
        for each in found
        if each.start < size
    ]


def differing_bytes(one: Path, other: Path, region: Region) -> tuple[int, int]:
    """How many of the region's bytes differ, and where in it the first is (-1: none does).

    Behind a file's end there are zeros.
    """
    count, first = 0, -1
    with one.open("rb") as a, other.open("rb") as b:
        a.seek(region.start)
        b.seek(region.start)
        for at in range(0, region.size, _CHUNK):
            wanted = min(_CHUNK, region.size - at)
            left, right = (file.read(wanted).ljust(wanted, b"\0") for file in (a, b))
            if left == right:
                continue
            places = np.flatnonzero(np.frombuffer(left, np.uint8) != np.frombuffer(right, np.uint8))
            first = at + int(places[0]) if first < 0 else first
            count += len(places)
    return count, first
