"""Where the data partition is: on the disk that the root was started from, and on no other."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device.storage.tools import NUMBER

_ROOT: Final = re.compile(r"(?<!\S)root=(PARTUUID=[0-9A-Fa-f]{8}-\d\d|/dev/\S+)(?!\S)")

TRIES: Final = 30
"""One a second: a card reader may come late."""


@dataclass(frozen=True)
class Place:
    """A disk, its size as the kernel knows it, and the node of its data partition."""

    disk: Path
    disk_sectors: int
    node: Path


def find(
    cmdline: str,
    pause: Callable[[], None],
    dev: Path = Path("/dev"),
    sys_block: Path = Path("/sys/class/block"),
) -> Place | None:
    """None where the command line names no root of ours, or its disk has no fourth partition.

    A label would do too, until somebody plugs in a second card that has the same.
    """
    named = _ROOT.findall(cmdline)
    if not named:
        return None
    # The last one counts, to the kernel too.
    _, is_uuid, uuid = named[-1].partition("PARTUUID=")
    root = dev / "disk" / "by-partuuid" / uuid.lower() if is_uuid else Path(named[-1])
    for _ in range(TRIES):
        place = _look(root, dev, sys_block)
        if place is not None:
            return place
        pause()
    return None


def _look(root: Path, dev: Path, sys_block: Path) -> Place | None:
    try:
        # /sys/class/block/mmcblk0p2 leads to .../block/mmcblk0/mmcblk0p2.
        disk = (sys_block / root.resolve(strict=True).name).resolve(strict=True).parent
        sectors = int((disk / "size").read_text("ascii"))
        (node,) = (
            dev / each.parent.name
            for each in disk.glob("*/partition")
            if each.read_text("ascii").strip() == str(NUMBER)
        )
    except (OSError, ValueError):
        return None
    return Place(dev / disk.name, sectors, node) if node.exists() else None
