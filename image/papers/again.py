"""Builds the same commit once more, elsewhere and unlike the first time, and compares the two.

make image-reproducible
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image.papers.compare import folders, judge, justified, report
from image.papers.programs import programs_of

REPOSITORY: Final = Path(__file__).resolve().parents[2]
FOLDER_VARIABLE: Final = "RAILTIX_IMAGE_FOLDER"
# What a build must not depend on: host name, mask, zone, order of hashes, caches, who asks for it.
_ELSEWHERE: Final = 'hostname elsewhere; exec "$@"'
_MASK: Final = 0o027
_UNLIKE: Final = {
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "4711",
    "PIP_NO_CACHE_DIR": "1",
    "USER": "somebody",
    "LOGNAME": "somebody",
    "COLUMNS": "61",
}


class NotComparableError(Exception):
    """There is nothing that a second build could be the same as."""


def first_build(folder: Path) -> str:
    """The name of what was built. Raises NotComparableError."""
    latest = folder / "LATEST"
    if not latest.is_file():
        raise NotComparableError(f"nothing was built in {folder}: run `make image` first")
    name = latest.read_text("utf-8").strip()
    if ".dirty" in name:
        raise NotComparableError(
            f"{name} was built of what nobody committed: commit it, and build again"
        )
    return name


def build_again(first: Path, folder: Path, commit: str, more: Sequence[str]) -> float:
    """Into a new folder, of a new clone, with nothing kept; seconds. Raises CalledProcessError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clone = folder / "checkout"
    git = ["git", "-c", "safe.directory=*"]
    for words in (
        ["clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(clone)],
        ["-C", str(clone), "checkout", "--quiet", "--detach", commit],
    ):
        subprocess.run([*git, *words], check=True, umask=_MASK)
    if (first / "keys").is_dir():
        # An image holds the authority that it believes: another one is another image.
        shutil.copytree(first / "keys", folder / "keys")
    began = time.monotonic()  # noqa: TID251 -- a command says how long it took
    subprocess.run(
        [
            *("unshare", "--uts", "sh", "-c", _ELSEWHERE, "sh"),
            *(sys.executable, "-m", "image", "build", *more),
        ],
        check=True,
        cwd=clone,
        env=os.environ | _UNLIKE | {FOLDER_VARIABLE: str(folder)},
        umask=_MASK,
    )
    return time.monotonic() - began  # noqa: TID251 -- as above


def main(arguments: list[str]) -> int:
    asked = argparse.ArgumentParser(prog="image.papers.again", description=__doc__)
    asked.add_argument("--folder", type=Path, help="of the second build (8 GB)")
    asked.add_argument("--commit", default="HEAD", help="what the first was built of")
    asked.add_argument("--keep", action="store_true", help="leave the second build there")
    given, more = asked.parse_known_args(arguments)
    first = Path(os.environ.get(FOLDER_VARIABLE) or REPOSITORY / "build/image").resolve()
    second = (given.folder or first.with_name(f"{first.name}-again")).resolve()
    try:
        print(f"Once more: {first_build(first)}")
        took_s = build_again(first, second, given.commit, more)
        print(f"Built again in {took_s:.0f} s, in {second}; comparing")
        found = list(folders(first, second, programs_of(first / "tools")))
    except NotComparableError as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    except subprocess.CalledProcessError as failed:
        sys.stderr.write(f"the second build failed: {failed}\n")
        return 2
    same = report(judge(found, justified()), print)
    if same and not given.keep:
        shutil.rmtree(second)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
