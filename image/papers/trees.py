"""Two folders compared entry by entry: kind, mode, owner, time, content."""

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Difference:
    """A place, such as `root-a:/etc/machine-id`, and in what it differs."""

    place: str
    what: str


@dataclass(frozen=True)
class Entry:
    kind: str
    mode: str
    owner: str
    modified_s: int
    content: str  # a file's size and SHA-256, a link's target, a device's number


def entries_of(root: Path) -> dict[str, Entry]:
    """Every entry below the folder, by its path with a leading slash; the folder's own is `/`."""
    paths = [root, *sorted(root.rglob("*"))]
    return {_name(root, path): _entry(path) for path in paths}


def _name(root: Path, path: Path) -> str:
    return "/" if path == root else "/" + path.relative_to(root).as_posix()


def _entry(path: Path) -> Entry:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        content = f"-> {path.readlink()}"
    elif stat.S_ISREG(found.st_mode):
        content = f"{found.st_size} bytes, SHA-256 {_sha256(path)}"
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        content = f"device {found.st_rdev}"
    else:
        content = ""
    return Entry(
        kind=stat.filemode(found.st_mode)[0],
        mode=f"{stat.S_IMODE(found.st_mode):04o}",
        owner=f"{found.st_uid}:{found.st_gid}",
        # debugfs gives a link that it takes out the time of now: the bytes are compared for those.
        modified_s=0 if stat.S_ISLNK(found.st_mode) else int(found.st_mtime),
        content=content,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def compared(one: Path, other: Path, *, called: str) -> Iterator[Difference]:
    """Each entry that differs, as `called:/path`."""
    left, right = entries_of(one), entries_of(other)
    for path in sorted(left.keys() | right.keys()):
        place = f"{called}:{path}"
        if path not in right:
            yield Difference(place, "in the first alone")
        elif path not in left:
            yield Difference(place, "in the second alone")
        elif left[path] != right[path]:
            yield Difference(place, ", ".join(_words(left[path], right[path])))


def _words(left: Entry, right: Entry) -> Iterator[str]:
    if left.kind != right.kind:
        yield f"is {left.kind} and {right.kind}"
    for name, before, after in (
        ("mode", left.mode, right.mode),
        ("owner", left.owner, right.owner),
        ("time", left.modified_s, right.modified_s),
    ):
        if before != after:
            yield f"{name} {before} and {after}"
    if left.content != right.content:
        yield "content"
