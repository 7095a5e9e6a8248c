"""An image's version, and the time that stands in it, from the commit it is built from."""

import re
import subprocess
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from image.build.faults import BuildFault

# RAUC, file names and the cloud all take it as it is.
_FORM = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}")


@dataclass(frozen=True)
class Version:
    """`epoch` is the commit's time: no file in an image is younger."""

    text: str
    epoch: int


def of_checkout(repository: Path, wanted: str = "") -> Version:
    """Such as 0.1.0+202611230205, with `.dirty` where files differ from the commit.

    Raises:
        BuildFault: this is no checkout, or the wanted version is no version.
    """
    if wanted and not _FORM.fullmatch(wanted):
        raise BuildFault(
            f"{wanted!r} is no version",
            "Use letters, digits and . + ~ _ -, such as VERSION=0.2.0+202611230205.",
        )
    epoch = int(_git(repository, "log", "-1", "--format=%ct"))
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    release = str(project["project"]["version"])
    at = datetime.fromtimestamp(epoch, UTC)
    dirty = ".dirty" if _git(repository, "status", "--porcelain", "--untracked-files=no") else ""
    return Version(wanted or f"{release}+{at:%Y%m%d%H%M}{dirty}", epoch)


def _git(repository: Path, *words: str) -> str:
    safe = ("-c", f"safe.directory={repository}")
    done = subprocess.run(
        ["git", *safe, "-C", str(repository), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildFault(
            "the checkout's commit could not be read", f"git said: {done.stderr.strip()}"
        )
    return done.stdout.strip()
