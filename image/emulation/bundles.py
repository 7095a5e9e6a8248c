"""Bundles for the test: the slot of the image as another version, with a fault, by a stranger."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.build import bundle, keys
from image.build.keys import SigningKeys
from image.build.layout import LAYOUT
from image.build.tools import Tools
from image.emulation.console import GuestError
from image.emulation.slots import Root, root_at
from image.emulation.tree import Built

COMPATIBLE: Final = "railtix-pos-debian"
OS_RELEASE: Final = "/usr/lib/os-release"
CRASHING: Final = {
    "/usr/lib/systemd/system/railtix-pos.service.d/crash.conf": (
        "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -SEGV $$$$'\n"
    ),
    "/usr/lib/systemd/system/railtix-slots.service.d/soon.conf": (
        "[Service]\nExecStart=\nExecStart=/opt/railtix/bin/railtix-slots serve --unconfirmed 60\n"
    ),
}
"""A firmware that never says it is ready, given a minute and not thirty.

Of `$$$$` systemd leaves two, and they are the shell's own process.
"""


@dataclass(frozen=True)
class Made:
    """A bundle, and what its manifest says."""

    path: Path
    version: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Bundles:
    """All that the tests' machine has on its disk of bundles."""

    own: Path
    """The image's own."""
    good: Made
    """The same system as a later version."""
    bad: Made
    """A version after that, whose firmware crashes."""
    foreign: Made
    roots: frozenset[Root]
    """What lies in a slot that took the image or one of these whole."""
    disk: tuple[str, ...]
    """In QEMU's words."""


class BundleMaker:
    """Makes bundles in `folder` with the tools and the keys that made the image."""

    def __init__(self, built: Built, folder: Path, *, epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._built = built
        self.folder = folder
        self._epoch = epoch
        self._keys = keys.development(built.keys)
        self.roots: set[Root] = set()
        """What lies in a slot that took one of these whole."""

    def altered(self, name: str, version: str, files: Mapping[str, str]) -> Made:
        """The image's slot as this version, with these files in it."""
        work = self.folder / f"work-{name}"
        work.mkdir()
        root = work / "root.ext4"
        self._copy_slot(root)
        said = self._debugfs(root, f"cat {OS_RELEASE}")
        release = "".join(
            f'IMAGE_VERSION="{version}"\n' if line.startswith("IMAGE_VERSION=") else line
            for line in said.splitlines(keepends=True)
        )
        self._put(root, {OS_RELEASE: release, **files})
        self.roots.add(root_at(root))
        return self._sign(work, name, version, self._keys)

    def foreign(self, name: str, version: str) -> Made:
        """Signed by somebody whom no image of ours believes; small, since nobody reads on."""
        work = self.folder / f"work-{name}"
        work.mkdir()
        (work / "root.ext4").write_bytes(os.urandom(1 << 20))
        return self._sign(work, name, version, keys.development(self.folder / "strangers"))

    def _copy_slot(self, to: Path) -> None:
        at = LAYOUT.boot_at + LAYOUT.boot_size
        with self._built.image.open("rb") as image, to.open("wb") as slot:
            image.seek(at)
            left = LAYOUT.slot_size
            while left:
                some = image.read(min(1 << 22, left))
                left -= len(some)
                if some.strip(b"\0"):
                    slot.write(some)
                else:
                    slot.seek(len(some), 1)
            slot.truncate(LAYOUT.slot_size)

    def _put(self, root: Path, files: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory(prefix="railtix-files-") as folder:
            orders: list[str] = []
            for number, (path, content) in enumerate(files.items()):
                source = Path(folder) / str(number)
                source.write_text(content, "utf-8")
                parts = Path(path).parts
                orders += [f"mkdir {'/'.join(parts[:n])[1:]}" for n in range(2, len(parts))]
                orders += [f"rm {path}", f"write {source} {path}", f"sif {path} mode 0100644"]
            script = Path(folder) / "orders"
            script.write_text("\n".join(orders) + "\n", "utf-8")
            # What is there already is refused, and meant to be.
            self._debugfs(root, "-w", script=script)
        for path, content in files.items():
            if self._debugfs(root, f"cat {path}") != content:
                raise GuestError(f"{path} could not be put into the slot")

    def _debugfs(self, root: Path, order: str, *, script: Path | None = None) -> str:
        words = ("-R", order) if script is None else (order, "-f", str(script))
        ended = subprocess.run(
            [*self._built.program("debugfs"), *words, str(root)],
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stdout

    def _sign(self, work: Path, name: str, version: str, signer: SigningKeys) -> Made:
        tools = Tools(self._built.tools.resolve(), self.folder / "bundles.log")
        text = bundle.manifest(COMPATIBLE, version, "a bundle for the test")
        made = bundle.make(work, f"{name}.raucb", text, signer, tools, epoch=self._epoch, level=1)
        at = self.folder / made.name
        made.replace(at)
        shutil.rmtree(work)
        with at.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Made(at, version, digest, at.stat().st_size)
