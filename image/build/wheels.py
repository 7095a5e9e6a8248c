"""The firmware's Python packages for arm64, each of them locked by its hash."""

import re
import sys
from pathlib import Path

from image.build import keeping
from image.build.faults import BuildFault
from image.build.tools import Tools, run

PYTHON = "3.13"  # Debian 13's
LOCK = Path("locks/appliance.txt")

# Published without a wheel for this Python on arm64, so compiled here from locked sources.
COMPILED = ("lgpio", "pidng")

# Any glibc up to Debian 13's own.
_PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in (41, *range(40, 16, -1))),
    "manylinux2014_aarch64",
)

# Cross-compiling: the tools tree's compiler, and what Python on arm64 says of itself. The object
# files are linked in the order a fresh tmpfs lists them, which is always the same.
_COMPILE = """
set -e
export CC=aarch64-linux-gnu-gcc LDSHARED='aarch64-linux-gnu-gcc -shared -Wl,--build-id=none'
export CFLAGS='-g0 -O2 -ffile-prefix-map=/tmp=.'
export _PYTHON_HOST_PLATFORM=linux-aarch64
export _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__linux_aarch64-linux-gnu
export PYPI=1  # lgpio: with its C library in it
for source in /wheels/sources/*.tar.gz; do
  folder=/tmp/$(basename "$source" .tar.gz)
  mkdir "$folder"
  tar -C "$folder" --strip-components=1 -xzf "$source"
  cd "$folder"
  python3 -m pip wheel --quiet --no-deps --no-index --no-build-isolation --use-pep517 \\
    --wheel-dir /wheels .
done
"""


def requirements(lock: Path) -> tuple[str, str]:
    """The lock's text in two: what comes as a wheel, and what is compiled here."""
    blocks = re.split(r"\n(?=[a-z0-9])", lock.read_text().strip())
    compiled = [block for block in blocks if block.split("==")[0] in COMPILED]
    ready = [block for block in blocks if block not in compiled]
    return "\n".join(ready) + "\n", "\n".join(compiled) + "\n"


def key(repository: Path) -> str:
    return keeping.key((repository / LOCK).read_bytes(), _COMPILE, " ".join(_PLATFORMS))


def make(folder: Path, repository: Path, tools: Tools, log: Path) -> None:
    """A folder of wheels that pip installs from without a network."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    ready, compiled = requirements(repository / LOCK)
    (folder / "ready.txt").write_text(ready)
    (folder / "compiled.txt").write_text(compiled)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--require-hashes"]
    run(
        [
            *pip,
            *("--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"),
            *("--abi", "cp313", "--abi", "abi3", "--abi", "none"),
            *(word for platform in _PLATFORMS for word in ("--platform", platform)),
            *("--requirement", str(folder / "ready.txt"), "--dest", str(folder)),
        ],
        what="the firmware's wheels",
        log=log,
    )
    run(
        [
            *pip,
            *("--no-binary", ":all:", "--no-build-isolation"),
            *("--requirement", str(folder / "compiled.txt"), "--dest", str(sources)),
        ],
        what="the sources of lgpio and pidng",
        log=log,
    )
    tools.run(
        ["sh", "-c", _COMPILE],
        what="compiling lgpio and pidng for arm64",
        binds={folder: "/wheels"},
        environment={"SOURCE_DATE_EPOCH": "1577836800"},
    )


def make_own(folder: Path, repository: Path, epoch: int, log: Path) -> Path:
    """Our own wheel, of the checkout as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    environment = f"SOURCE_DATE_EPOCH={epoch}"
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    run(
        [
            *("env", environment, *pip, "--no-deps", "--no-index", "--no-build-isolation"),
            *("--wheel-dir", str(folder), str(repository)),
        ],
        what="our own wheel",
        log=log,
    )
    made = list(folder.glob("*.whl"))
    if len(made) != 1:
        raise BuildFault("our own wheel was not built", f"Look into {log}.")
    return made[0]


def install(target: Path, wheels: list[Path], log: Path) -> None:
    """Unpacks wheels for arm64 into a folder: no program of theirs runs."""
    target.mkdir(parents=True, exist_ok=True)
    run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-index", "--no-compile", "--root-user-action", "ignore"),
            # Debian 12's pip asks whether they suit the Python that runs it; the lock said 3.13.
            "--ignore-requires-python",
            *("--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"),
            *("--abi", "cp313", "--abi", "abi3", "--abi", "none"),
            *(word for name in (*_PLATFORMS, "linux_aarch64") for word in ("--platform", name)),
            *("--target", str(target), *map(str, wheels)),
        ],
        what="unpacking the firmware's packages",
        log=log,
    )
    # pip notes where a wheel lay on this machine: the appliance has no use for it.
    for note in target.glob("*.dist-info/direct_url.json"):
        note.unlink()
        record = note.with_name("RECORD")
        rows = record.read_text().splitlines(keepends=True)
        record.write_text("".join(row for row in rows if "/direct_url.json," not in row))
    keeping.remove(target / "bin")


def keep_only(site_packages: Path, dist: str, packages: tuple[str, ...]) -> None:
    """Takes out of an installed distribution what is not of these packages, and says so."""
    info = next(site_packages.glob(f"{dist}-*.dist-info"))
    record = info / "RECORD"
    kept: list[str] = []
    for row in record.read_text().splitlines():
        name = row.split(",")[0]
        first = name.split("/")[0]
        if name.endswith("direct_url.json") or first in {"..", "bin"}:
            continue
        if first == info.name or first in packages:
            kept.append(row)
        else:
            (site_packages / name).unlink(missing_ok=True)
            keeping.remove(site_packages / first)
    record.write_text("\n".join(kept) + "\n")
    entries = info / "entry_points.txt"
    lines = [
        line
        for line in entries.read_text().splitlines()
        if "=" not in line or line.split("=")[1].strip().split(".")[0] in packages
    ]
    entries.write_text("\n".join(lines) + "\n")
