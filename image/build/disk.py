"""The disk: a root file system as ext4, a boot partition, and the one file that is flashed."""

import os
import shutil
from pathlib import Path

from image.build import keeping
from image.build.faults import BuildFault
from image.build.layout import BOOT, LAYOUT, boot_state, genimage, u_boot_environment
from image.build.profile import Profile
from image.build.tools import FIRMWARE as UNPACKED
from image.build.tools import Tools

ROOT_UUID = "52545801-0000-4000-8000-00000000000a"
HASH_SEED = "52545801-0000-4000-8000-00000000000b"
VOLUME_ID = "52545801"

# What the Pi's firmware says to the kernel of its own; U-Boot's script adds the rest.
CMDLINE = "console=tty1\n"

# U-Boot reads this ext4: without the features that it does not know. Nothing ever writes it, so it
# has no journal and no room; a slot is larger than what is in it today.
_ROOT = """
set -e
tar -C /root-tree -cf /build/root.tar --sort=name --format=posix --numeric-owner \\
  --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \\
  --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --xattrs --xattrs-include='*' .
blocks=$(( ($(stat -c %s /build/root.tar) / 4096) * 108 / 100 + 8192 ))
rm -f /build/root.ext4
mke2fs -q -t ext4 -d /build/root.tar -L railtix-root -U @UUID@ -E hash_seed=@SEED@,root_owner=0:0 \\
  -O ^has_journal,^metadata_csum_seed,^orphan_file -m 0 -b 4096 /build/root.ext4 "$blocks"
e2fsck -fn /build/root.ext4 >&2
"""

_BOOT = """
set -e
rm -f /build/boot.vfat
truncate -s @SIZE@ /build/boot.vfat
mkfs.vfat --invariant -F 32 -n RAILTIXBOOT -i @VOLUME@ /build/boot.vfat >/dev/null
cd /build/boot
mkimage -A arm64 -O linux -T script -C none -n railtix -d /build/boot.cmd boot.scr >/dev/null
find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
find . -mindepth 1 -maxdepth 1 | sort | while read -r name; do
  mcopy -i /build/boot.vfat -s -m -Q "$name" ::/
done
"""

_DISK = """
set -e
cd /build
rm -rf genimage.tmp empty && mkdir genimage.tmp empty
genimage --rootpath empty --tmppath genimage.tmp --inputpath /build --outputpath /build \\
  --config genimage.cfg >&2
rm -rf genimage.tmp empty
"""


def make_root(work: Path, tools: Tools, epoch: int) -> Path:
    """`work/tree` as ext4 (and as the tar it was made from, which the papers read)."""
    script = _ROOT.replace("@UUID@", ROOT_UUID).replace("@SEED@", HASH_SEED)
    tools.run(
        ["sh", "-c", script],
        what="the root's ext4",
        binds={work: "/build", work / "tree": "/root-tree"},
        environment={"SOURCE_DATE_EPOCH": str(epoch), "E2FSPROGS_FAKE_TIME": str(epoch)},
    )
    made = work / "root.ext4"
    _check_size(made)
    return made


def _check_size(root: Path) -> None:
    if root.stat().st_size > LAYOUT.slot_size:
        raise BuildFault(
            f"the root file system ({root.stat().st_size >> 20} MiB) is larger than a slot"
            f" ({LAYOUT.slot_size >> 20} MiB)",
            "Take packages out of image/profiles, or make the slots larger in"
            " image/build/layout.py (appliances in the field keep the slots they have).",
        )


def boot_files(profile: Profile, tree: Path, tools_tree: Path) -> dict[str, Path | bytes]:
    """What lies on the boot partition: the Pi's own firmware, U-Boot, device trees, our script."""
    files: dict[str, Path | bytes] = {}
    own = tree / "usr/lib/raspi-firmware"
    firmware = own if own.is_dir() else tools_tree / UNPACKED / "usr/lib/raspi-firmware"
    for path in sorted(firmware.iterdir()):
        if path.suffix in {".bin", ".dat", ".elf"} and not path.stem.endswith(("db", "x", "cd")):
            files[path.name] = path
    trees = sorted(tree.glob("usr/lib/linux-image-*/broadcom/bcm*-rpi-*.dtb"))
    for path in trees:
        files[path.name] = path
    for path in sorted(tree.glob("usr/lib/linux-image-*/overlays/*")):
        files[f"overlays/{path.name}"] = path
    if not any(name.startswith("overlays/") for name in files):
        for name in ("disable-bt.dtbo", "miniuart-bt.dtbo"):
            overlay = firmware / "overlays" / name
            if overlay.is_file():
                files[f"overlays/{name}"] = overlay
    u_boot = tools_tree / UNPACKED / "usr/lib/u-boot/rpi_arm64/u-boot.bin"
    files["u-boot.bin"] = u_boot
    files["uboot.env"] = u_boot_environment(u_boot.read_bytes())
    files["config.txt"] = ("\n".join(profile.config_txt) + "\n").encode()
    files["cmdline.txt"] = CMDLINE.encode()
    partition = BOOT.parent / "boot-partition"
    if partition.is_dir():
        for path in sorted(partition.iterdir()):
            files[path.name] = path
    return files


def boot_script(profile: Profile) -> str:
    return LAYOUT.template("boot.cmd", ARGUMENTS=" ".join(profile.arguments))


def make_boot(work: Path, profile: Profile, tools: Tools, epoch: int) -> Path:
    folder = work / "boot"
    keeping.remove(folder)
    folder.mkdir()
    for name, content in boot_files(profile, work / "tree", tools.tree).items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            shutil.copyfile(content, target)
    (work / "boot.cmd").write_text(boot_script(profile))
    script = _BOOT.replace("@SIZE@", str(LAYOUT.boot_size)).replace("@VOLUME@", VOLUME_ID)
    tools.run(
        ["sh", "-c", script],
        what="the boot partition",
        binds={work: "/build"},
        environment={"SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC"},
    )
    return work / "boot.vfat"


def make_disk(work: Path, name: str, tools: Tools) -> Path:
    """The one file, of `root.ext4` and `boot.vfat` in the work folder."""
    for copy, content in zip(("one", "two"), boot_state(LAYOUT), strict=True):
        (work / f"state-{copy}.bin").write_bytes(content)
    (work / "genimage.cfg").write_text(genimage(LAYOUT, root="root.ext4", image="disk.img"))
    tools.run(["sh", "-c", _DISK], what="the disk", binds={work: "/build"})
    made = work / name
    os.replace(work / "disk.img", made)  # noqa: PTH105 -- as atomic as the file system makes it
    return made
