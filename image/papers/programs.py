"""A program of the tools tree, or of this machine where there is no tree."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

Programs = Callable[[str], tuple[str, ...]]
"""The words that a command line begins with, by the program's name."""

_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"


def programs_of(tree: Path) -> Programs:
    """By the tree's own loader and libraries: no chroot, so that every path is this machine's.

    Raises FileNotFoundError where neither has it.
    """

    def words(name: str) -> tuple[str, ...]:
        for folder in ("usr/bin", "usr/sbin"):
            found = tree / folder / name
            if found.exists() and (tree / _LOADER).exists():
                libraries = ":".join(str(tree / each) for each in _LIBRARIES)
                return (str(tree / _LOADER), "--library-path", libraries, str(found))
        installed = shutil.which(name)
        if installed is None:
            raise FileNotFoundError(f"{name} is neither in {tree} nor on this machine")
        return (installed,)

    return words
