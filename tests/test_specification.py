"""docs/specification.md and the threat model name the tests that show it: they are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")


def test_every_test_that_the_specification_names_is_there() -> None:
    named = sorted(set(NAMED.findall((ROOT / "docs/specification.md").read_text("utf-8"))))
    assert len(named) > 30
    missing = [each for each in named if each.partition("::")[2] not in _tests_of(each)]
    assert missing == []


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = sorted(set(NAMED.findall((ROOT / "docs/threat-model.md").read_text("utf-8"))))
    assert len(named) > 30
    assert [each for each in named if each.partition("::")[2] not in _tests_of(each)] == []


def _tests_of(named: str) -> set[str]:
    """The test functions of the named one's file: pytest collects those and no others."""
    path = ROOT / named.partition("::")[0]
    if not path.is_file():
        return set()
    body = ast.parse(path.read_text("utf-8")).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef)}


def test_every_sentence_of_the_specification_has_a_test() -> None:
    tables = (ROOT / "docs/specification.md").read_text("utf-8").splitlines()
    rows = [
        line
        for line in tables
        if line.startswith("|") and not re.match(r"\|(-|---| what| question)", line)
    ]
    assert len(rows) > 35
    assert [row for row in rows if not NAMED.search(row)] == []
