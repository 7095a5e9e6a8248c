"""The root file system as Debian's packages make it: nothing of ours is in it yet."""

import shutil
from pathlib import Path

from image.build import keeping
from image.build.profile import Mirrors, Profile, preferences, source_lines
from image.build.tools import SUITE, Tools, apt_settings

# The initramfs is made once, at the end, with our own script in it (see initramfs).
_NO_INITRAMFS = {"INITRD": "No"}

# No file is younger than this (2026-10-01): the same packages make the same root on any day.
EPOCH = 1790812800

# Programs that do for every architecture what the tools tree's own do, at full speed.
_QUICK = Path(__file__).parent / "quick.sh"

# Python's own library is compiled by the tools tree's Python: the same version, at full speed. A
# compiled file says nothing about when, and is believed without a look at its source. Not with -j:
# a worker that compiled other files before it writes other bytes.
_COMPILE = (
    'find "$1/usr/lib" -name __pycache__ -prune -exec rm -rf {} + && '
    "python3 -m compileall -q --invalidation-mode unchecked-hash"
    ' -s "$1" -p / "$1/usr/lib/python3" "$1/usr/lib/python3.13"'
)


def key(profile: Profile, mirrors: Mirrors) -> str:
    """The root is made anew when its packages change, not when its version does."""
    return keeping.key(
        *mmdebstrap(profile, mirrors, []),
        preferences(profile),
        Path(__file__).read_bytes(),
        _QUICK.read_bytes(),
    )


def mmdebstrap(profile: Profile, mirrors: Mirrors, acquire: list[str]) -> list[str]:
    """The command that makes it, run in the tools tree with /build bound to this build's folder."""
    packages = [*profile.packages, profile.kernel]
    hook = (
        'mkdir -p "$1/etc/apt/preferences.d"'
        ' && cp /build/preferences "$1/etc/apt/preferences.d/railtix"'
    )
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=arm64"),
        *("--format=tar", '--aptopt=APT::Install-Recommends "false"'),
        '--aptopt=Acquire::Retries "3"',
        # For quick.sh: apt gives dpkg a path of its own.
        '--aptopt=DPkg::Path "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"',
        *(f"--aptopt={line}" for line in acquire),
        *("--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in profile.excluded),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--setup-hook={hook}",
        '--setup-hook=sh -e /build/quick.sh put "$1"',
        '--customize-hook=sh -e /build/quick.sh away "$1"',
        # How this host reaches the mirrors is no business of an appliance.
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        f"--include={','.join(packages)}",
        f"--customize-hook={_COMPILE}",
        *(SUITE, "/build/root.tar"),
        *source_lines(profile, mirrors),
    ]


def make(
    made: Path, profile: Profile, mirrors: Mirrors, tools: Tools, *, scratch: Path, log: Path
) -> None:
    folder = scratch / "root"
    keeping.remove(folder)
    folder.mkdir(parents=True)
    shutil.copy(_QUICK, folder)
    (folder / "preferences").write_text(preferences(profile))
    if mirrors.archive_keyring:
        shutil.copy(mirrors.archive_keyring, folder / "archive-keyring")
        inside = "/build/archive-keyring"
        mirrors = Mirrors(mirrors.debian, mirrors.security, mirrors.archive, inside)
    tools.run(
        mmdebstrap(profile, mirrors, apt_settings(log)),
        what="the root file system",
        binds={folder: "/build"},
        environment={
            "DEBIAN_FRONTEND": "noninteractive",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            **_NO_INITRAMFS,
        },
        emulate=True,
    )
    (folder / "root.tar").rename(made)
    keeping.remove(folder)
