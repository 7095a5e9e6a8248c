"""The appliance's root: Debian's packages, the firmware, and what image/overlay lays over them."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image.build import keeping, wheels
from image.build.layout import BOOT, LAYOUT
from image.build.profile import Profile
from image.build.tools import Tools, run

FIRMWARE = Path("opt/railtix")
SITE_PACKAGES = FIRMWARE / "lib/python3.13/site-packages"

# An appliance runs these two of our packages; the cloud's code has no business on a counter.
OWN_PACKAGES = ("device", "protocol")

# Where files lie that belong to the firmware and to the system alike.
SYSTEM_FILES = {
    "railtix.sysusers": "usr/lib/sysusers.d/railtix.conf",
    "railtix.tmpfiles": "usr/lib/tmpfiles.d/railtix.conf",
    "99-railtix.rules": "usr/lib/udev/rules.d/99-railtix.rules",
    "journald-railtix.conf": "usr/lib/systemd/journald.conf.d/railtix.conf",
    "50-railtix-wifi.rules": "usr/share/polkit-1/rules.d/50-railtix-wifi.rules",
}

# Mount points and empty folders that a read-only root must hold.
FOLDERS = {
    "data": 0o755,
    "boot/firmware": 0o755,
    "var/log/journal": 0o755,
    "var/lib/railtix": 0o700,
    "etc/NetworkManager/system-connections": 0o700,
    "etc/rauc": 0o755,
}

# What packages leave behind that differs from build to build, or that nobody needs.
LEFT_BEHIND = (
    "var/cache/apt/*", "var/lib/apt/lists/*", "var/cache/ldconfig/aux-cache",
    "var/cache/debconf/*", "var/log/*.log", "var/log/apt", "var/lib/dpkg/*-old", "etc/*-",
    "etc/.pwd.lock", "var/backups/*",
    "etc/ssh/*_key*", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
    "var/lib/dbus/machine-id", "vmlinuz*", "initrd.img*", "tmp/*", "run/*",
)  # fmt: skip

# One process compiles: what a worker compiled before shows in what it writes next.
_ENABLE = """
set -e
systemd-sysusers --root=/root-tree >/dev/null
systemctl --root=/root-tree preset-all --preset-mode=full 2>&1
python3 -m compileall -q --invalidation-mode unchecked-hash -s /root-tree -p / \\
  /root-tree/opt/railtix/lib/python3.13/site-packages/device \\
  /root-tree/opt/railtix/lib/python3.13/site-packages/protocol
"""

_LIBRARIES = """
set -e
python3 -m compileall -q --invalidation-mode unchecked-hash -s /site-packages \\
  -p /opt/railtix/lib/python3.13/site-packages /site-packages
"""


@dataclass(frozen=True)
class Parts:
    """Files that the tree is put together from."""

    root: Path
    initramfs: Path
    libraries: Path
    own_wheel: Path
    keyring: Path
    overlays: Sequence[Path]


def libraries_key(lock_key: str) -> str:
    return keeping.key(lock_key, _LIBRARIES, "pip", Path(wheels.__file__).read_bytes())


def make_libraries(folder: Path, wheel_folder: Path, tools: Tools, log: Path) -> None:
    """The site-packages of the firmware without our own code, compiled."""
    wheels.install(folder, sorted(wheel_folder.glob("*.whl")), log)
    tools.run(
        ["sh", "-c", _LIBRARIES],
        what="compiling the firmware's packages",
        binds={folder: "/site-packages"},
    )


def put_together(
    tree: Path,
    parts: Parts,
    profile: Profile,
    tools: Tools,
    *,
    version: str,
    repository: Path,
    epoch: int,
    log: Path,
) -> None:
    keeping.remove(tree)
    tree.mkdir(parents=True)
    tree.chmod(0o755)
    run(
        [
            *("tar", "-C", str(tree), "-xpf", str(parts.root), "--numeric-owner"),
            *("--xattrs", "--xattrs-include=*"),
        ],
        what="unpacking the root file system",
        log=log,
    )
    for pattern in LEFT_BEHIND:
        for path in tree.glob(pattern):
            keeping.remove(path)
    for name, mode in FOLDERS.items():
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name).chmod(mode)

    _firmware(tree, parts, log)
    _system(tree, parts, profile, version, repository)
    for overlay in parts.overlays:
        lay_over(tree, overlay)
    tools.run(["sh", "-c", _ENABLE], what="users and units", binds={tree: "/root-tree"})
    # systemd would write it at the first boot; the initramfs does, the same for every boot.
    (tree / "etc/machine-id").write_text("")
    (tree / "usr/lib/clock-epoch").touch()
    # /etc and /var are as old as /usr: else systemd would rebuild its caches at every boot.
    for name in ("etc", "var"):
        (tree / name / ".updated").write_text("")
    for name in ("usr/lib/clock-epoch", "etc/.updated", "var/.updated", "usr"):
        os.utime(tree / name, (epoch, epoch))
    # Unpacked wheels bear the time of their unpacking, which may be long ago (see keeping).
    for path in (tree / FIRMWARE).rglob("*"):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _firmware(tree: Path, parts: Parts, log: Path) -> None:
    site_packages = tree / SITE_PACKAGES
    shutil.copytree(parts.libraries, site_packages, symlinks=True)
    wheels.install(site_packages, [parts.own_wheel], log)
    wheels.keep_only(site_packages, "railtix_credits", OWN_PACKAGES)
    # A virtual environment, written down: no program of the image need run to make one.
    programs = tree / FIRMWARE / "bin"
    programs.mkdir(mode=0o755)
    for name in ("python3", "python"):
        (programs / name).symlink_to("/usr/bin/python3.13")
    (tree / FIRMWARE / "pyvenv.cfg").write_text(
        "home = /usr/bin\n"
        # libcamera's Python binding and python-prctl are Debian's.
        "include-system-site-packages = true\n"
        "version = 3.13\n"
        "executable = /usr/bin/python3.13\n"
    )
    entries = next(site_packages.glob("railtix_credits-*.dist-info")) / "entry_points.txt"
    for line in entries.read_text().splitlines():
        name, equals, target = (word.strip() for word in line.partition("="))
        if not equals:
            continue
        module, _, function = target.partition(":")
        program = programs / name
        program.write_text(
            f"#!/opt/railtix/bin/python3\nimport sys\n\nfrom {module} import {function}\n\n"
            f"sys.exit({function}())\n"
        )
        program.chmod(0o755)


def _system(tree: Path, parts: Parts, profile: Profile, version: str, repository: Path) -> None:
    units = repository / "device/systemd"
    for name, target in SYSTEM_FILES.items():
        _place(tree / target, (units / name).read_bytes())
    for unit in sorted(units.iterdir()):
        if unit.suffix in {".service", ".socket", ".path", ".timer"}:
            _place(tree / "usr/lib/systemd/system" / unit.name, unit.read_bytes())

    templates = {
        "system.conf": "etc/rauc/system.conf",
        "fw_env.config": "etc/fw_env.config",
        "60-railtix-disk.rules": "usr/lib/udev/rules.d/60-railtix-disk.rules",
    }
    for name, target in templates.items():
        _place(tree / target, LAYOUT.template(name, COMPATIBLE=profile.compatible).encode())
    _place(tree / "etc/rauc/keyring.pem", parts.keyring.read_bytes())
    release = tree / "usr/lib/os-release"
    release.write_text(
        "".join(
            line
            for line in release.read_text().splitlines(keepends=True)
            if not line.startswith("IMAGE_")
        )
        + f'IMAGE_ID=railtix-pos\nIMAGE_VERSION="{version}"\n'
    )

    kernel = next((tree / "boot").glob("vmlinuz-*"))
    (tree / "boot/vmlinuz").symlink_to(kernel.name)
    _place(tree / "boot/initrd.img", parts.initramfs.read_bytes())
    script = tree / "etc/initramfs-tools/scripts/init-bottom/railtix-layers"
    _place(script, (BOOT / "railtix-layers.sh").read_bytes(), mode=0o755)


def lay_over(tree: Path, overlay: Path) -> None:
    """Copies a folder over the tree as root's own: links stay links, programs stay programs.

    A file replaces a link and a link a file; a folder of the overlay that is a link in the tree
    (such as /lib) is followed inside the tree.
    """
    for source in sorted(overlay.rglob("*")):
        if "__pycache__" in source.parts or source.name == ".gitkeep":
            continue
        target = tree / source.relative_to(overlay)
        if source.is_symlink():
            keeping.remove(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            is_program = source.stat().st_mode & 0o100
            _place(target, source.read_bytes(), mode=0o755 if is_program else 0o644)


def _place(target: Path, content: bytes, *, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    target.write_bytes(content)
    target.chmod(mode)
