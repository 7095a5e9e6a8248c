"""`make image-power-cuts`: the long loop, its table of verdicts, and the docs' page of it.

`python -m image.emulation.power_cuts --moments 20 [--out docs/power-cuts.md]`
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.emulation.counter import office
from image.emulation.cut_installs import cut_installs
from image.emulation.cut_sales import cut_sales
from image.emulation.cutting import HEAD, Bench, Row
from image.emulation.labelled_disks import make_bundle_disk
from image.emulation.tree import Built, find_built

WHAT_IT_SHOWS: Final = """\
QEMU was killed with SIGKILL. What the guest had handed to its disk and not flushed was then, at
every second cut, kept or lost by chance, write by write, and one of the lost writes torn in its
middle (`image/emulation/volatile_disk.py`); at the others all of it was kept. Flushed writes stay:
that a real card keeps what it says it flushed is its maker's word, and nothing here can try it.
Nor does it show what a card's own controller does to sectors that nobody wrote.

What holds: afterwards it runs from a slot that is whole, and is up; the journal lost no entry, one
key is at most one deduct, green is a deduct that stands, no green is none unless staff said so when
they were asked, a receipt is of a deduct that the ledger has. No receipt is no fault: what the
printer had taken and not yet printed is lost with its power, and key `D` prints the last one again.
"""


KINDS: Final = {"install": "an installation", "sale": "a sale"}
NOTES: Final = {
    "install": (
        "By hand. The slot that is written to was spoilt beforehand, in every 8 MiB, so that a"
        " half-written one is known from a whole one, and would not start."
    ),
    "sale": "Moments are counted from the last key.",
}


@dataclass(frozen=True)
class Loop:
    """All the cuts of one kind."""

    kind: str
    version: str
    """The image's."""
    rows: list[Row]
    hours: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a verdict does not hold."""
    asked = _parser().parse_args(arguments)
    built = find_built(asked.profile)
    with tempfile.TemporaryDirectory(prefix="railtix-cuts-", dir=asked.scratch) as folder:
        loops = [
            _loop(kind, built, Path(folder) / kind, asked.moments, asked.seed)
            for kind in KINDS
            if asked.only in {None, kind}
        ]
    page = _page(loops)
    sys.stdout.write(page)
    if asked.out is not None:
        asked.out.write_text(page, "utf-8")
    is_short = any(len(loop.rows) < asked.moments for loop in loops)
    return int(is_short or any(row.faults for loop in loops for row in loop.rows))


def _loop(kind: str, built: Built, folder: Path, moments: int, seed: int) -> Loop:
    began = time.monotonic()  # noqa: TID251 -- the page says how long it took
    rows = _cut(kind, built, folder, moments, seed)
    return Loop(kind, built.version, rows, (time.monotonic() - began) / 3600)  # noqa: TID251


def _cut(kind: str, built: Built, folder: Path, moments: int, seed: int) -> list[Row]:
    folder.mkdir(parents=True)
    bench = Bench(built, folder, lambda line: _tell(f"{kind}: {line}"), seed)
    try:
        if kind == "install":
            bench.words = make_bundle_disk(built, (built.bundle,), folder / "bundles.ext4")
            return cut_installs(bench, built.bundle.name, moments)
        with office(folder / "office") as venue:
            return cut_sales(bench, venue, moments)
    finally:
        bench.close()


def _page(loops: Sequence[Loop]) -> str:
    by = "By `make image-power-cuts`, in emulation; none on a real Pi."
    lines = ["# Power cuts", "", by, "", WHAT_IT_SHOWS]
    for loop in loops:
        holds = sum(not row.faults for row in loop.rows)
        lines += [f"## During {KINDS[loop.kind]}", ""]
        took = f"image {loop.version}, {loop.hours:.1f} h"
        lines += [f"{holds} of {len(loop.rows)} hold ({took}). {NOTES[loop.kind]}", "", *HEAD]
        lines += [row.spell(number) for number, row in enumerate(loop.rows, 1)]
        lines.append("")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m image.emulation.power_cuts")
    parser.add_argument("--moments", type=int, default=20, help="of each kind")
    parser.add_argument("--only", choices=tuple(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="debian")
    parser.add_argument("--out", type=Path, help="a file for the page")
    parser.add_argument("--scratch", type=Path, help="where disks lie meanwhile: some GB")
    return parser


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
