"""The two slots as the guest tells of them, and as their bytes lie on its disk."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.build.layout import LAYOUT
from image.emulation.labelled_disks import BUNDLES_LABEL
from image.emulation.stage import Stage

_AT: Final = {
    "A": LAYOUT.boot_at + LAYOUT.boot_size,
    "B": LAYOUT.boot_at + LAYOUT.boot_size + LAYOUT.slot_size,
}
CHUNK: Final = 1 << 22
_SUPERBLOCK_AT: Final = 1024
_SUPERBLOCK: Final = struct.Struct("<4xI16xI28xH")
"""Of ext4's: blocks, the logarithm of a block's KiB, the magic (Documentation/filesystems/ext4)."""
_EXT4: Final = 0xEF53
_SHIFT_MAX: Final = 6
OTHER: Final = {"A": "B", "B": "A"}
SPOILT: Final = 1 << 16
SPOILT_EVERY: Final = 1 << 23
RAUC_S: Final = 120.0
UPDATES: Final = "/var/lib/railtix/update"
BY_HAND: Final = "/data/by-hand"
"""Where bundles lie that the firmware did not fetch, and knows nothing of."""
COPY_S: Final = 600.0
_BUNDLES: Final = "/run/railtix-test/bundles"
_MOUNT: Final = (
    f"mkdir -p {_BUNDLES} && {{ mountpoint -q {_BUNDLES}"
    f" || mount -o ro /dev/disk/by-label/{BUNDLES_LABEL} {_BUNDLES}; }}"
)


@dataclass(frozen=True)
class Root:
    """A root file system as a bundle holds it."""

    size: int
    sha256: str


def root_in(disk: Path, slot: str) -> Root:
    """What lies in a slot, of a raw disk that is switched off."""
    return root_at(disk, _AT[slot])


def root_at(file: Path, at: int = 0) -> Root:
    """An ext4 file system that begins there, as far as it says that it goes.

    A bundle's is smaller than the slot, and what lies behind it is nobody's. Where there is none,
    the whole slot.
    """
    digest = hashlib.sha256()
    with file.open("rb") as source:
        source.seek(at + _SUPERBLOCK_AT)
        head = source.read(_SUPERBLOCK.size).ljust(_SUPERBLOCK.size, b"\0")
        blocks, shift, magic = _SUPERBLOCK.unpack(head)
        size = blocks << (10 + shift) if magic == _EXT4 and shift <= _SHIFT_MAX else 0
        if not 0 < size <= LAYOUT.slot_size:
            size = LAYOUT.slot_size
        source.seek(at)
        left = size
        while left and (some := source.read(min(CHUNK, left))):
            digest.update(some)
            left -= len(some)
    return Root(size, digest.hexdigest())


def running(stage: Stage) -> str:
    """The slot that runs: A or B."""
    words = stage.say("cat /proc/cmdline").split()
    return next(word.removeprefix("rauc.slot=") for word in words if word.startswith("rauc.slot="))


def version(stage: Stage) -> str:
    said = stage.say(". /etc/os-release; echo $IMAGE_VERSION")
    return said.strip()


def at_hand(stage: Stage, name: str) -> str:
    """A bundle on the disk of bundles, where it may be read; its path there."""
    stage.say(_MOUNT)
    return f"{_BUNDLES}/{name}"


def carry(stage: Stage, name: str) -> str:
    """Copy a bundle from the disk of bundles to where it may be changed; its path there."""
    path = f"{BY_HAND}/{name}"
    stage.say(f"{_MOUNT} && mkdir -p {BY_HAND} && cp {_BUNDLES}/{name} {path} && sync", COPY_S)
    return path


def carry_part(stage: Stage, name: str, sha256: str, size: int) -> None:
    """So many bytes of a bundle, as a fetch leaves them that was cut off."""
    part = f"{UPDATES}/{sha256}.part"
    stage.say(
        f"{_MOUNT} && install -d -m 700 -o railtix -g railtix {UPDATES}"
        f" && head -c {size} {_BUNDLES}/{name} > {part}"
        f" && chown railtix:railtix {part} && chmod 600 {part} && sync",
        COPY_S,
    )


def spoil_the_other(stage: Stage) -> None:
    """Not to be started, and of no use: what is written over it halfway cannot pass for whole.

    The next bundle may hold nearly the bytes that lie there already.
    """
    device = f"/dev/railtix/root-{OTHER[running(stage)].lower()}"
    # RAUC does one thing at a time, and the firmware may just be asking for another.
    for words in ("mark-good booted", "mark-bad other"):
        stage.wait_for(
            lambda words=words: stage.run(f"rauc status {words}").code == 0 or None,
            f"rauc status {words}",
            RAUC_S,
        )
    program = (
        "import os, sys;"
        "disk = os.open(sys.argv[1], os.O_WRONLY);"
        f"[os.pwrite(disk, os.urandom({SPOILT}), at)"
        f" for at in range(0, {LAYOUT.slot_size}, {SPOILT_EVERY})];"
        "os.fsync(disk)"
    )
    stage.say(f'python3 -c "{program}" {device}')


def turn_a_bit(stage: Stage, path: str, at: float) -> None:
    """Of a file in the guest, at this part of its length; done twice it is as it was."""
    program = (
        "import os, sys;"
        "file = open(sys.argv[1], 'r+b', buffering=0);"
        "place = int(os.fstat(file.fileno()).st_size * float(sys.argv[2]));"
        "byte = os.pread(file.fileno(), 1, place)[0];"
        "os.pwrite(file.fileno(), bytes([byte ^ 0x10]), place);"
        "os.fsync(file.fileno())"
    )
    stage.say(f'python3 -c "{program}" {path} {at}')
