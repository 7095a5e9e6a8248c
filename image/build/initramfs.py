"""The initramfs: made once by Debian's own initramfs-tools, run as the arm64 program it is."""

from pathlib import Path

from image.build import keeping
from image.build.layout import BOOT
from image.build.profile import Profile
from image.build.root import EPOCH
from image.build.tools import Tools

SCRIPT = "railtix-layers.sh"

_MAKE = """
set -e
tar -C /root-tree -xpf /kept/root --numeric-owner --exclude='./usr/share/doc/*' --exclude='*.pyc'
cp /build/railtix-layers.sh /root-tree/etc/initramfs-tools/scripts/init-bottom/railtix-layers
chmod 755 /root-tree/etc/initramfs-tools/scripts/init-bottom/railtix-layers
cp /build/modules /root-tree/etc/initramfs-tools/modules
printf '%s\\n' MODULES=list BUSYBOX=y COMPRESS=zstd COMPRESSLEVEL=12 RESUME=none FSTYPE=ext4 \\
  > /root-tree/etc/initramfs-tools/conf.d/railtix
mount -t proc proc /root-tree/proc
mount -t tmpfs tmpfs /root-tree/tmp
version=$(cd /root-tree/lib/modules && echo *)
chroot /root-tree mkinitramfs -o /boot/initrd "$version"
cp /root-tree/boot/initrd /build/initrd
"""


def key(profile: Profile, root_key: str) -> str:
    return keeping.key(root_key, *profile.modules, (BOOT / SCRIPT).read_bytes(), _MAKE, str(EPOCH))


def make(made: Path, profile: Profile, root: Path, tools: Tools, scratch: Path) -> None:
    folder = scratch / "initramfs"
    keeping.remove(folder)
    (folder / "tree").mkdir(parents=True)
    (folder / SCRIPT).write_bytes((BOOT / SCRIPT).read_bytes())
    (folder / "modules").write_text("".join(f"{module}\n" for module in profile.modules))
    tools.run(
        ["sh", "-c", _MAKE.replace("/kept/root", f"/kept/{root.name}")],
        what="the initramfs",
        binds={folder: "/build", folder / "tree": "/root-tree", root.parent: "/kept"},
        environment={"SOURCE_DATE_EPOCH": str(EPOCH)},
        emulate=True,
    )
    (folder / "initrd").rename(made)
    keeping.remove(folder)
