"""The few files of a root file system that say what is in it, read from a folder or a tar."""

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# dpkg's list, each package's copyright, what each Python distribution says of itself.
_TOLD: Final = re.compile(
    r"var/lib/dpkg/status"
    r"|usr/share/doc/[^/]+(/copyright)?"
    r"|(etc|usr/lib)/os-release"
    r"|opt/[^/]+/lib/python3[^/]*/site-packages/[^/]+\.dist-info/METADATA"
)
_SEARCHED: Final = (
    "var/lib/dpkg/status",
    "usr/share/doc/*",
    "usr/share/doc/*/copyright",
    "etc/os-release",
    "usr/lib/os-release",
    "opt/*/lib/python3*/site-packages/*.dist-info/METADATA",
)
_LINKS_AT_MOST: Final = 8


@dataclass(frozen=True)
class RootFiles:
    """Paths without a leading slash; a link is followed inside the root, never out of it."""

    texts: dict[str, str]
    links: dict[str, str] = field(default_factory=dict[str, str])

    def text(self, path: str) -> str | None:
        for _ in range(_LINKS_AT_MOST):
            if path in self.texts:
                return self.texts[path]
            linked = self._through_a_link(path)
            if linked is None:
                return None
            path = linked
        return None

    def matching(self, pattern: str) -> Iterator[str]:
        wanted = re.compile(pattern)
        return (path for path in sorted(self.texts) if wanted.fullmatch(path))

    def _through_a_link(self, path: str) -> str | None:
        parts = path.split("/")
        for upto in range(len(parts), 0, -1):
            head = "/".join(parts[:upto])
            if head in self.links:
                target = posixpath.join("/", posixpath.dirname(head), self.links[head])
                return posixpath.normpath(posixpath.join(target, *parts[upto:])).lstrip("/")
        return None


def read_root(root: Path) -> RootFiles:
    """Of the root in this folder, or in this tar, compressed or not.

    Raises FileNotFoundError where there is none, and tarfile.TarError for what is no tar.
    """
    return _of_a_folder(root) if root.is_dir() else _of_a_tar(root)


def _of_a_folder(root: Path) -> RootFiles:
    texts: dict[str, str] = {}
    links: dict[str, str] = {}
    for pattern in _SEARCHED:
        for found in sorted(root.glob(pattern)):
            path = found.relative_to(root).as_posix()
            if found.is_symlink():
                links[path] = str(found.readlink())
            elif found.is_file() and not found.parent.is_symlink():
                texts[path] = found.read_text("utf-8", errors="replace")
    return RootFiles(texts, links)


def _of_a_tar(archive: Path) -> RootFiles:
    texts: dict[str, str] = {}
    links: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.removeprefix("./").lstrip("/")
            if not _TOLD.fullmatch(path):
                continue
            if member.issym():
                links[path] = member.linkname
            elif member.islnk():
                links[path] = "/" + member.linkname.removeprefix("./").lstrip("/")
            elif (held := tar.extractfile(member)) is not None:
                texts[path] = held.read().decode("utf-8", errors="replace")
    return RootFiles(texts, links)
