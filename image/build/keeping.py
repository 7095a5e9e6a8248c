"""What a build made before, found again by a hash of everything it was made from."""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from image.build.progress import Progress


def key(*parts: str | bytes) -> str:
    """A name for what these inputs make; no two lists of parts share one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def files_key(*folders: Path) -> str:
    """The same for every file below these folders: names, modes, links and contents."""
    parts: list[str | bytes] = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if "__pycache__" in path.parts:
                continue
            parts.append(str(path.relative_to(folder)))
            if path.is_symlink():
                parts.append(f"-> {path.readlink()}")
            elif path.is_file():
                parts.append(oct(path.stat().st_mode))
                parts.append(path.read_bytes())
    return key(*parts)


class Kept:
    """The folder of things made before. A thing half made never has its final name."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self._progress = progress

    def get(self, title: str, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The thing of this kind and key, made by `make(path)` where it is not there yet.

        Older ones of the same kind are removed: they are quick to make and large to keep.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{kind}-{key}"
        if path.exists():
            self._progress.kept(title)
            return path
        unfinished = self.folder / f"unfinished-{kind}"
        remove(unfinished)
        with self._progress.step(title):
            make(unfinished)
            unfinished.rename(path)
        for older in _of_kind(self.folder, kind):
            if older != path:
                remove(older)
        return path


def _of_kind(folder: Path, kind: str) -> Iterable[Path]:
    return [path for path in folder.glob(f"{kind}-*") if path.name.rpartition("-")[0] == kind]


def remove(path: Path) -> None:
    """The file or folder, if it is there; nothing below a mount is ever reached (see tools)."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
