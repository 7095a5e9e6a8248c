"""The tools tree: Debian 13's own programs in a folder, so that every host builds alike."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from image.build import faults, keeping
from image.build.faults import BuildFault, StepFailed
from image.build.profile import Mirrors

SUITE = "trixie"
_APART = ("unshare", "--mount", "--propagation", "private")

# What runs in the tree, and why.
PACKAGES = {
    "mmdebstrap": "makes the root file system",
    "arch-test": "tells it that arm64 programs run here",
    "qemu-user": "runs them: the packages' own scripts",
    "genimage": "puts partitions into one file",
    "e2fsprogs": "makes ext4 from a tar",
    "libarchive13t64": "reads it that tar",
    "dosfstools": "makes the boot partition",
    "mtools": "fills it without mounting",
    "fdisk": "reads partition tables",
    "qemu-utils": "its disks",
    "squashfs-tools": "packs bundles",
    "rauc": "signs bundles",
    "u-boot-tools": "makes U-Boot's script",
    "u-boot-qemu": "U-Boot for an emulated machine",
    "qemu-system-arm": "the emulated machine",
    "ipxe-qemu": "its network card's ROM",
    "systemd": "enables units and makes users in a folder",
    "gcc-aarch64-linux-gnu": "compiles the two wheels that nobody publishes",
    "libpython3.13-dev:arm64": "what they compile against",
    "swig": "one of them wants it",
    "python3": "compiles our Python ahead of time",
    "python3-pip": "builds those two wheels",
    "python3-setuptools": "the same",
    "python3-wheel": "the same",
    "ca-certificates": "for mirrors that speak HTTPS",
    "cpio": "looks into the initramfs",
    "kmod": "the same",
    "zstd": "the same",
    "xz-utils": "packs the image",
    "openssl": "looks at signatures",
}

# Unpacked and not installed: their scripts would look for a Pi. Kept as .deb files for the papers.
UNPACKED = ("u-boot-rpi:arm64", "raspi-firmware")
FIRMWARE = "opt/firmware"
FIRMWARE_DEBS = "opt/firmware-debs"

# Everything is mounted in a mount namespace of its own: however a build ends, nothing stays
# mounted, and no program it started lives on.
_ENTER = """
set -e
tree=$1; emulate=$2; shift 2
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o size=80% tmpfs "$tree/tmp"
for file in resolv.conf hosts; do
  if [ -e "/etc/$file" ]; then
    rm -f "$tree/etc/$file"; : > "$tree/etc/$file"; mount --bind "/etc/$file" "$tree/etc/$file"
  fi
done
while [ "$1" != -- ]; do
  mkdir -p "$tree$2"
  mount --bind "$1" "$tree$2"
  shift 2
done
shift
if [ "$emulate" = no ]; then exec chroot "$tree" "$@"; fi
# The kernel knows an arm64 program by its ELF header (binfmt_misc). F: it opens qemu now, so that
# it is found inside any other root as well. For this run alone, unless another run registered it.
known="$tree/proc/sys/fs/binfmt_misc"
mount -t binfmt_misc binfmt_misc "$known" || { echo "can't run arm64: binfmt_misc" >&2; exit 1; }
ours=""
if [ ! -e "$known/railtix-arm64" ]; then
  cat <<'END' | chroot "$tree" sh -c 'head -c -1 > /proc/sys/fs/binfmt_misc/register'
:railtix-arm64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/usr/bin/qemu-aarch64:OCF
END
  ours=yes
fi
status=0
chroot "$tree" "$@" || status=$?
if [ -n "$ours" ]; then echo -1 > "$known/railtix-arm64"; fi
exit $status
"""


class Tools:
    """The tree, and programs run in it with folders of the host bound into it."""

    def __init__(self, tree: Path, log: Path) -> None:
        self.tree = tree
        self._log = log

    def run(
        self,
        arguments: Sequence[str],
        *,
        what: str,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        emulate: bool = False,
    ) -> str:
        """What the program wrote; all it says goes to the log. `emulate`: it starts arm64 programs.

        Raises:
            StepFailed: it ended with an error.
        """
        bound = [word for at, inside in (binds or {}).items() for word in (str(at), inside)]
        clean = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "TMPDIR": "/tmp",  # noqa: S108 -- a tmpfs of this run's own
            **(environment or {}),
        }
        command = [
            *(*_APART, "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _ENTER, "sh", str(self.tree), "yes" if emulate else "no", *bound, "--"),
            *("env", "-i", *(f"{name}={value}" for name, value in clean.items()), *arguments),
        ]
        return run(command, what=what, log=self._log)


def run(command: Sequence[str], *, what: str, log: Path) -> str:
    """Runs one program of the host; its output goes to the log, and its standard output back."""
    with log.open("ab") as out:
        out.write(f"\n$ {what}\n".encode())
        out.flush()
        begins_at = out.tell()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,
        ) as process:
            try:
                written, _ = process.communicate()
            except BaseException:
                # With all that it started; a program's own end would leave those running.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        out.write(written)
    if process.returncode:
        said = log.read_bytes()[begins_at:].decode(errors="replace")
        last = "\n".join(said.strip().splitlines()[-12:])
        raise StepFailed(
            f"{what} failed (the whole of it is in {log})", last, faults.remedy_for(said)
        )
    return written.decode(errors="replace")


def check_host() -> None:
    """That a build can begin here at all.

    Raises:
        BuildFault: it cannot, and why.
    """
    if os.geteuid() != 0:
        raise BuildFault(
            "the image is built by root: it holds files of many users, and programs run in it",
            "Run it again as root: sudo make image",
        )
    machine = os.uname().machine
    if machine != "x86_64":
        raise BuildFault(
            f"the image is built on an x86 machine, and this one is {machine}",
            "Build it on an amd64 Debian 12 or 13.",
        )
    for program, package in (("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            raise BuildFault(f"{program} is not installed", f"Run: apt-get install -y {package}")
    tried = subprocess.run(
        [*_APART, "true"], capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False
    )
    if tried.returncode:
        raise BuildFault(
            f"nothing can be mounted here without the machine's seeing it ({tried.stderr.strip()})",
            "In a chroot: leave it, make its folder a mount point (mount --bind FOLDER FOLDER) and"
            " enter it again. In a container: it needs the right to mount.",
        )


def check_room(folder: Path, *, gigabytes: int) -> None:
    """That the disk has room for a build."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise BuildFault(
            f"{folder} has {free:.1f} GB left, and a build wants {gigabytes}",
            "Free some room, or name another folder with RAILTIX_IMAGE_FOLDER.",
        )


def apt_settings(log: Path) -> list[str]:
    """What this host's apt says of proxies and of whom to believe: a build goes the same way."""
    if shutil.which("apt-config") is None:
        return []
    said = run(["apt-config", "dump", "Acquire"], what="apt's settings", log=log)
    kept: list[str] = []
    for line in said.splitlines():
        name, _, value = line.partition(" ")
        words = name.lower()
        wanted = any(
            sign in words for sign in ("proxy", "cainfo", "capath", "verify-", "::sslcert")
        )
        if wanted and value.strip('";'):
            kept.append(line)
    return kept


def key(mirrors: Mirrors) -> str:
    return keeping.key(SUITE, mirrors.debian, mirrors.security, *PACKAGES, *UNPACKED, FIRMWARE, "2")


def make(tree: Path, mirrors: Mirrors, log: Path) -> None:
    """Debian 13 for this machine, by the mmdebstrap that this machine has."""
    fetch = (
        f'mkdir -p "$1/{FIRMWARE}" "$1/{FIRMWARE_DEBS}" && chroot "$1" sh -ec "'
        f"cd /{FIRMWARE_DEBS} && apt-get download {' '.join(UNPACKED)}"
        f' && for deb in *.deb; do dpkg -x \\$deb /{FIRMWARE}; done"'
    )
    command = [
        # What it mounts in the tree is gone with it, whatever ended it.
        *(*_APART, "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory"),
        *("--architectures=amd64,arm64", "--components=main,non-free-firmware"),
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--aptopt={line}" for line in apt_settings(log)),
        *("--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"),
        *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"),
        f"--include={','.join(PACKAGES)}",
        f"--customize-hook={fetch}",
        *(SUITE, str(tree)),
        f"deb {mirrors.debian} {SUITE} main non-free-firmware",
        f"deb {mirrors.debian} {SUITE}-updates main non-free-firmware",
        f"deb {mirrors.security} {SUITE}-security main non-free-firmware",
    ]
    run(command, what="the tools tree", log=log)
