"""What a build would do, written down without doing it: no network, no root, no packages."""

import hashlib
import shlex
from pathlib import Path

from image.build import bundle, disk, root, tools
from image.build.layout import BOOT, LAYOUT, boot_state, genimage
from image.build.plan import OVERLAY, REPOSITORY
from image.build.profile import Mirrors, Profile, preferences, source_lines
from image.build.tree import SYSTEM_FILES
from image.build.version import of_checkout
from image.build.wheels import LOCK


def render(profile: Profile, mirrors: Mirrors, folder: Path, version: str) -> None:
    """Every text that decides what an image of this profile is, in a folder of its own."""
    if profile.needs_archive:
        mirrors = Mirrors(
            mirrors.debian,
            mirrors.security,
            mirrors.archive or "https://archive.example/debian",
            mirrors.archive_keyring or "/path/to/archive-keyring.gpg",
        )
    text = version or of_checkout(REPOSITORY).text
    name = f"railtix-{profile.name}-{text}"
    files: dict[str, str | bytes] = {
        "mmdebstrap.argv": shlex.join(root.mmdebstrap(profile, mirrors, [])) + "\n",
        "tools.txt": _reasons(tools.PACKAGES),
        "sources.list": "\n".join(source_lines(profile, mirrors)) + "\n",
        "preferences": preferences(profile),
        "packages.txt": _reasons({**profile.packages, profile.kernel: "the kernel"}),
        "excluded.txt": _reasons(profile.excluded),
        "initramfs/modules": "".join(f"{module}\n" for module in profile.modules),
        "initramfs/railtix-layers": (BOOT / "railtix-layers.sh").read_text(),
        "boot/config.txt": "\n".join(profile.config_txt) + "\n",
        "boot/cmdline.txt": disk.CMDLINE,
        "boot/boot.cmd": disk.boot_script(profile),
        "genimage.cfg": genimage(LAYOUT, root="root.ext4", image=f"{name}.img"),
        "state-one.bin": boot_state(LAYOUT)[0],
        "state-two.bin": boot_state(LAYOUT)[1],
        "system.conf": LAYOUT.template("system.conf", COMPATIBLE=profile.compatible),
        "fw_env.config": LAYOUT.template("fw_env.config"),
        "60-railtix-disk.rules": LAYOUT.template("60-railtix-disk.rules"),
        "manifest.raucm": bundle.manifest(
            profile.compatible, text, f"RailTix Credits appliance, {profile.title}"
        ),
        "overlay.txt": _listing(),
        "wheels.txt": (REPOSITORY / LOCK).read_text(),
    }
    for path, content in files.items():
        at = folder / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content.encode() if isinstance(content, str) else content)


def _reasons(packages: dict[str, str]) -> str:
    return "".join(f"{name}  # {why}\n" for name, why in sorted(packages.items()))


def _listing() -> str:
    """Every file that is laid over the root: its SHA-256 (or where a link points), and its path."""
    lines: list[str] = []
    sources = {path.relative_to(OVERLAY).as_posix(): path for path in OVERLAY.rglob("*")}
    units = REPOSITORY / "device/systemd"
    sources |= {target: units / name for name, target in SYSTEM_FILES.items()}
    sources |= {
        f"usr/lib/systemd/system/{unit.name}": unit
        for unit in units.iterdir()
        if unit.suffix in {".service", ".socket", ".path", ".timer"}
    }
    for name, path in sorted(sources.items()):
        if path.is_symlink():
            lines.append(f"-> {path.readlink()}  {name}\n")
        elif path.is_file():
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
    return "".join(lines)
