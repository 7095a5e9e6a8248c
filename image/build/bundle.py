"""Bundles: a slot's new content, signed, as RAUC installs it."""

import shutil
from pathlib import Path
from typing import Final

from image.build import keeping
from image.build.keys import SigningKeys
from image.build.tools import Tools

LEVEL: Final = 6
"""Where zstd still keeps two cores busy for seconds only."""
_SQUASHFS: Final = "-comp zstd -Xcompression-level {} -all-root -no-progress -processors 2"

_BUNDLE = """
set -e
cd /build
rm -f bundle.raucb
rauc bundle --cert="$CERTIFICATE" --key="$KEY" --mksquashfs-args="@SQUASHFS@" \\
  bundle bundle.raucb >&2
rauc --keyring=/keys/keyring.pem info bundle.raucb
"""


def manifest(compatible: str, version: str, description: str) -> str:
    """RAUC's manifest; the image's size and checksum are added by rauc."""
    return f"""\
[update]
compatible={compatible}
version={version}
description={description}

[bundle]
format=plain

[image.rootfs]
filename=root.ext4
"""


def make(
    work: Path,
    name: str,
    manifest_text: str,
    keys: SigningKeys,
    tools: Tools,
    *,
    epoch: int,
    level: int = LEVEL,
) -> Path:
    """The bundle of `work/root.ext4`; only whoever holds the key can make one."""
    folder = work / "bundle"
    keeping.remove(folder)
    folder.mkdir()
    (folder / "manifest.raucm").write_text(manifest_text)
    (folder / "root.ext4").hardlink_to(work / "root.ext4")
    handed = work / "keys"
    keeping.remove(handed)
    handed.mkdir(mode=0o700)
    shutil.copyfile(keys.keyring, handed / "keyring.pem")
    places: dict[str, str] = {}
    for variable, source in (("KEY", keys.key), ("CERTIFICATE", keys.certificate)):
        if source.startswith("pkcs11:"):
            places[variable] = source
        else:
            shutil.copyfile(source, handed / variable.lower())
            places[variable] = f"/keys/{variable.lower()}"
    try:
        tools.run(
            ["sh", "-c", _BUNDLE.replace("@SQUASHFS@", _SQUASHFS.format(level))],
            what="the bundle",
            binds={work: "/build", handed: "/keys"},
            environment={"SOURCE_DATE_EPOCH": str(epoch), **places},
        )
    finally:
        keeping.remove(handed)
        keeping.remove(folder)
    made = work / name
    (work / "bundle.raucb").replace(made)
    return made
