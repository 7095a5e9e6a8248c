"""A disk of bundles, read only, that the emulated machine has from its start."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image.emulation.machine import run
from image.emulation.tree import Built

BUNDLES_LABEL: Final = "RAILTIX-BUNDLES"
_MIB: Final = 1 << 20


def make_bundle_disk(built: Built, bundles: Sequence[Path], path: Path) -> tuple[str, ...]:
    """The bundles by their names, on ext4; QEMU's words for a machine that is to have it."""
    size_mib = sum(each.stat().st_size for each in bundles) // _MIB * 11 // 10 + 32
    with tempfile.TemporaryDirectory(prefix="railtix-bundles-", dir=path.parent) as folder:
        for each in bundles:
            shutil.copyfile(each, Path(folder) / each.name)
        path.unlink(missing_ok=True)
        words = ("-q", "-t", "ext4", "-L", BUNDLES_LABEL, "-d", folder, str(path), f"{size_mib}M")
        run(*built.program("mke2fs"), *words)
    file = f"file.driver=file,file.filename={path}"
    return (
        *("-blockdev", f"raw,node-name=bundles,read-only=on,{file}"),
        *("-device", "virtio-blk-pci,drive=bundles"),
    )
