"""docs/specification.md names the tests that show what was asked for: they are there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")


def test_pytest_collects_every_test_that_the_specification_names() -> None:
    named = sorted(set(NAMED.findall((ROOT / "docs/specification.md").read_text("utf-8"))))
    assert len(named) > 30
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:randomly", *named],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    # A name that is not there ends it with "not found" and another code than 0.
    assert collected.returncode == 0, f"{collected.stdout[-3000:]}{collected.stderr[-1000:]}"


def test_every_sentence_of_the_specification_has_a_test() -> None:
    tables = (ROOT / "docs/specification.md").read_text("utf-8").splitlines()
    rows = [
        line
        for line in tables
        if line.startswith("|") and not re.match(r"\|(-|---| what| question)", line)
    ]
    assert len(rows) > 35
    assert [row for row in rows if not NAMED.search(row)] == []
