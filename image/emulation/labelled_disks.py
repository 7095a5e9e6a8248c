"""Disks that only an emulated machine has: the test overlay's, and one of bundles."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from image.emulation.console import GuestError
from image.emulation.tree import Built
from venue.phone import empty_counter

OVERLAY: Final = Path(__file__).with_name("overlay")
OVERLAY_LABEL: Final = "RAILTIX-TEST"
BUNDLES_LABEL: Final = "RAILTIX-BUNDLES"
_OVERLAY_MIB: Final = 8
_MIB: Final = 1 << 20


def make_overlay_disk(built: Built, path: Path) -> None:
    """The test overlay: a unit in the guest finds it by its label."""
    with tempfile.TemporaryDirectory(prefix="railtix-overlay-") as folder:
        root = Path(folder) / "root"
        shutil.copytree(OVERLAY, root)
        nothing = Image.fromarray(empty_counter(np.random.default_rng(1)))
        nothing.convert("RGB").save(root / "nothing.jpg", quality=60)
        for each in (root, *root.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        _make(built, root, OVERLAY_LABEL, path, _OVERLAY_MIB)


def make_bundle_disk(built: Built, bundles: Sequence[Path], path: Path) -> tuple[str, ...]:
    """The bundles by their names; QEMU's words for a machine that is to have it."""
    size_mib = sum(each.stat().st_size for each in bundles) // _MIB * 11 // 10 + 32
    with tempfile.TemporaryDirectory(prefix="railtix-bundles-", dir=path.parent) as folder:
        for each in bundles:
            shutil.copyfile(each, Path(folder) / each.name)
        _make(built, Path(folder), BUNDLES_LABEL, path, size_mib)
    file = f"file.driver=file,file.filename={path}"
    return (
        *("-blockdev", f"raw,node-name=bundles,read-only=on,{file}"),
        *("-device", "virtio-blk-pci,drive=bundles"),
    )


def run(*words: str) -> str:
    """A program of this machine to its end. Raises GuestError with what it said."""
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise GuestError(f"{words[0]}: {ended.stderr.strip()[-400:]}")
    return ended.stdout


def _make(built: Built, folder: Path, label: str, path: Path, size_mib: int) -> None:
    path.unlink(missing_ok=True)
    words = ("-q", "-t", "ext4", "-L", label, "-d", str(folder), str(path), f"{size_mib}M")
    run(*built.program("mke2fs"), *words)
