"""Where the built image is, and how a program of the tools tree is run without entering it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "RAILTIX_IMAGE_FOLDER"
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"


class NotBuiltError(Exception):
    """There is no image: `make image` makes one."""


@dataclass(frozen=True)
class Built:
    """One profile's newest image, its bundle, and the tools that made it."""

    image: Path
    bundle: Path
    tools: Path
    keys: Path

    def program(self, name: str) -> tuple[str, ...]:
        """The words that run a program of the tools tree, with the tree's own libraries."""
        libraries = ":".join(str(self.tools / each) for each in _LIBRARIES)
        found = next(
            path
            for folder in ("usr/bin", "usr/sbin")
            if (path := self.tools / folder / name).exists()
        )
        return (str(self.tools / _LOADER), "--library-path", libraries, str(found))

    @property
    def version(self) -> str:
        return self.image.stem.split("-", 2)[2]


def find_built(profile: str = "debian", folder: Path | None = None) -> Built:
    """What `make image` left. Raises NotBuiltError."""
    root = folder or Path(os.environ.get(FOLDER_VARIABLE, "build/image"))
    root = root.resolve()
    images = sorted(root.glob(f"railtix-{profile}-*.img"), key=lambda path: path.stat().st_mtime)
    if not images:
        raise NotBuiltError(f"no railtix-{profile}-*.img in {root}: run `make image`")
    image = images[-1]
    bundle = image.with_suffix(".raucb")
    tools = root / "tools"
    for path in (bundle, tools):
        if not path.exists():
            raise NotBuiltError(f"there is no {path}: run `make image`")
    return Built(image, bundle, tools, root / "keys")
