"""Whether two builds of one commit are the same image, place by place; what differs is named."""

import argparse
import fnmatch
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

from image.papers.bundle_parts import NotABundleError, parts_of
from image.papers.disk import NotAnImageError, Region, differing_bytes, regions_of
from image.papers.programs import Programs, programs_of
from image.papers.trees import Difference, compared

JUSTIFIED: Final = Path(__file__).with_name("justified.toml")
_ARTEFACT: Final = re.compile(
    r"railtix-[a-z]+-\d[\w.+]*?(?P<kind>-sbom\.cdx\.json|-notes\.md|\.raucb|\.img(\.\w+)?)"
)
_SHOWN_AT_MOST: Final = 60


@dataclass(frozen=True)
class Judged:
    difference: Difference
    reason: str | None  # None: nothing says that this may differ


@dataclass(frozen=True)
class Justified:
    place: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        # A name with brackets in it is no character class here.
        return fnmatch.fnmatchcase(difference.place, self.place.replace("[", "[[]"))


def justified(path: Path = JUSTIFIED) -> list[Justified]:
    listed = tomllib.loads(path.read_text("utf-8"))["justified"]
    return [Justified(each["place"], each["reason"]) for each in listed]


def judge(found: Sequence[Difference], allowed: Sequence[Justified]) -> list[Judged]:
    return [
        Judged(each, next((one.reason for one in allowed if one.covers(each)), None))
        for each in found
    ]


def folders(one: Path, other: Path, programs: Programs) -> Iterator[Difference]:
    """Every file that a build leaves for people, by its kind."""
    left, right = _artefacts(one), _artefacts(other)
    if not left or not right:
        yield Difference("folder:(artefacts)", "no image in one of them")
    for kind in sorted(left.keys() | right.keys()):
        if kind not in left or kind not in right:
            yield Difference(f"folder:{kind}", "in one alone")
        elif left[kind].name != right[kind].name:
            yield Difference(f"folder:{kind}", f"called {left[kind].name} and {right[kind].name}")
        else:
            yield from files(left[kind], right[kind], programs)


def files(one: Path, other: Path, programs: Programs) -> Iterator[Difference]:
    """Two files of one kind. Raises NotAnImageError, NotABundleError."""
    if _equal(one, other):
        return
    match one.suffix:
        case ".img":
            yield from images(one, other, programs)
        case ".raucb":
            yield from bundles(one, other, programs)
        case _:
            yield from _lines(one, other)


def images(one: Path, other: Path, programs: Programs) -> Iterator[Difference]:
    left, right = regions_of(one), regions_of(other)
    if left != right:
        yield Difference("image:table", f"partitions lie elsewhere: {left} and {right}")
        there = {region.name: region for region in right}
        for region in left:
            if region.name in there:
                yield from _files(one, other, region, there[region.name], programs)
        return
    for region in left:
        count, first = differing_bytes(one, other, region)
        if count:
            yield from _files(one, other, region, region, programs)
            yield Difference(
                f"{region.name}:(bytes)", f"{count} of {region.size}, the first at {first}"
            )


def _files(
    one: Path, other: Path, region: Region, there: Region, programs: Programs
) -> Iterator[Difference]:
    """Which files of a partition differ; none, where it is the file system's own layout."""
    if region.name not in {"boot", "root-a", "root-b"}:
        return
    with tempfile.TemporaryDirectory(dir=one.parent, prefix="compare-") as scratch:
        trees: list[Path] = []
        for number, (image, where) in enumerate(((one, region), (other, there))):
            tree = Path(scratch) / str(number)
            tree.mkdir()
            if region.name == "boot":
                at = f"{image}@@{where.start}"
                _run([*programs("mcopy"), "-s", "-m", "-n", "-Q", "-i", at, "::/", str(tree)])
            else:
                part = Path(scratch) / f"{number}.ext4"
                _cut(image, where, part)
                _run([*programs("debugfs"), "-R", f"rdump / {tree}", str(part)])
            trees.append(tree)
        yield from compared(trees[0], trees[1], called=region.name)


def bundles(one: Path, other: Path, programs: Programs) -> Iterator[Difference]:
    left, right = parts_of(one), parts_of(other)
    if left.payload != right.payload:
        with tempfile.TemporaryDirectory(dir=one.parent, prefix="compare-") as scratch:
            trees = [Path(scratch) / "0", Path(scratch) / "1"]
            for tree, bundle in zip(trees, (one, other), strict=True):
                _run([*programs("unsquashfs"), "-no-progress", "-d", str(tree), str(bundle)])
            yield from compared(trees[0], trees[1], called="bundle")
        yield Difference("bundle:(payload)", "its squashfs")
    if left.signature != right.signature:
        yield Difference("bundle:(signature)", "CMS")


def _lines(one: Path, other: Path) -> Iterator[Difference]:
    """By the artefact that a line names, else by its number."""
    called = _kind(one)
    texts = (path.read_text("utf-8").splitlines() for path in (one, other))
    for number, (before, after) in enumerate(zip_longest(*texts, fillvalue=""), 1):
        if before != after:
            named = _ARTEFACT.search(before)
            where = named["kind"] if named else f"line {number}"
            yield Difference(f"{called}:{where}", f"{before.strip()!r} and {after.strip()!r}")


def _kind(path: Path) -> str:
    kinds = {"SHA256SUMS": "sums", ".md": "notes", ".json": "sbom"}
    return kinds.get(path.name) or kinds.get(path.suffix) or path.name


def _artefacts(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        named = _ARTEFACT.fullmatch(path.name)
        if named is not None and path.is_file():
            found[named["kind"]] = path
        elif path.name == "SHA256SUMS":
            found["SHA256SUMS"] = path
    return found


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    return differing_bytes(one, other, Region("whole", 0, one.stat().st_size))[0] == 0


def _cut(image: Path, region: Region, to: Path) -> None:
    with image.open("rb") as file, to.open("wb") as part:
        file.seek(region.start)
        left = region.size
        while left and (chunk := file.read(min(left, 1 << 20))):
            part.write(chunk)
            left -= len(chunk)


def _run(words: Sequence[str]) -> None:
    ended = subprocess.run(words, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise ChildProcessError(f"{words[0]}: {ended.stderr.strip() or ended.stdout.strip()}")


def report(judged: Sequence[Judged], say: Callable[[str], object]) -> bool:
    """True where nothing differs but what may."""
    wrong = [each for each in judged if each.reason is None]
    for each in judged:
        if each.reason is not None:
            say(f"differs, and may: {each.difference.place} ({each.difference.what})")
            say(f"    {each.reason}")
    for each in wrong[:_SHOWN_AT_MOST]:
        say(f"DIFFERS: {each.difference.place} ({each.difference.what})")
    if len(wrong) > _SHOWN_AT_MOST:
        say(f"... and {len(wrong) - _SHOWN_AT_MOST} places more")
    if wrong:
        say(f"not the same: {len(wrong)} places that nothing justifies")
    else:
        say(f"the same, but for {len(judged)} places that may differ" if judged else "the same")
    return not wrong


def main(arguments: list[str]) -> int:
    """`python -m image compare`."""
    asked = argparse.ArgumentParser(prog="image compare", description=__doc__)
    asked.add_argument("one", type=Path, help="a build's folder, or one of its files")
    asked.add_argument("other", type=Path)
    asked.add_argument("--tools", type=Path, help="the tools tree (default: beside the first)")
    given = asked.parse_args(arguments)
    one, other = given.one.resolve(), given.other.resolve()
    folder = one if one.is_dir() else one.parent
    programs = programs_of(given.tools or folder / "tools")
    compare = folders if one.is_dir() else files
    try:
        found = list(compare(one, other, programs))
    except (OSError, NotAnImageError, NotABundleError) as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    return 0 if report(judge(found, justified()), print) else 1
