"""Every command line that the docs show is one that can be typed: names, options, arguments."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

import cloud.__main__
import device.__main__
import provisioning.cli.app
import venue.__main__

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("docs/*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
)
PROGRAMS: Final[dict[str, Any]] = {
    "railtix-ops": provisioning.cli.app.app,
    "railtix-cloud": cloud.__main__.app,
    "railtix-pos": device.__main__.app,
    "railtix-venue": venue.__main__.app,
}

BLOCK = re.compile(r"^( *)```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CALL = re.compile(rf"(?:^|[ (/])({'|'.join(PROGRAMS)})((?: [^\n]*)?)$")
# Where a shell's word for "and then" ends the command.
END = re.compile(r" (?:&&|\|\||\||;|&|>|2>|<)(?: |$)|\)$|;$| #.*$")
# With the seconds before it, where it tells them.
SLIP = re.compile(r"(?: *\d+ s  )?slip ")

NAMES_A_UNIT = {"systemctl", "journalctl", "install"}


@dataclass(frozen=True)
class Line:
    """One command line of a page; a span may name a command without what it needs."""

    page: str
    program: str
    words: tuple[str, ...]
    whole: bool


def lines_of(page: Path) -> Iterator[Line]:
    text = page.read_text("utf-8")
    for block in BLOCK.finditer(text):
        for line in block[2].replace("\\\n", " ").splitlines():
            # A slip is as wide as its paper: a command may go on in its next line.
            yield from _calls(page, line, whole=not SLIP.match(line))
    for span in SPAN.finditer(BLOCK.sub("", text)):
        yield from _calls(page, span[1], whole=False)


def _calls(page: Path, text: str, *, whole: bool) -> Iterator[Line]:
    for part in re.split(r" (?:&&|;) ", text):
        called = CALL.search(part.rstrip())
        if called is None or part.split()[0] in NAMES_A_UNIT:
            continue
        arguments = END.split(called[2], maxsplit=1)[0]
        words = shlex.split(arguments, comments=True)
        yield Line(page.name, called[1], tuple(words), whole)


@cache
def _program(name: str) -> Any:
    return typer.main.get_command(PROGRAMS[name])


def faults(line: Line) -> Iterator[str]:
    """What would be refused if somebody typed this."""
    command = _program(line.program)
    words = [word for each in line.words if (word := each.strip("[]"))]
    said = line.program
    while words and hasattr(command, "commands"):
        first, *rest = words
        if first in {"...", "--help"}:
            return
        for other in first.split("|"):
            if other not in command.commands:
                yield f"no `{said} {other}`"
                return
        command, words, said = command.commands[first.split("|")[0]], rest, f"{said} {first}"
    if hasattr(command, "commands"):
        if words or line.whole:
            yield f"`{said}` needs a command"
        return
    yield from _parameters(command, words, said, whole=line.whole)


def _parameters(command: Any, words: list[str], said: str, *, whole: bool) -> Iterator[str]:
    options = {name: each for each in command.params for name in [*each.opts, *each.secondary_opts]}
    given: set[str] = set()
    positional = 0
    while words:
        word = words.pop(0)
        if word in {"...", "--help"}:
            return
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            positional += 1
        elif name not in options:
            yield f"no option {name} of `{said}`"
        else:
            given.add(options[name].name)
            if not options[name].is_flag and not value and not words:
                yield f"{name} of `{said}` needs a value"
            elif not options[name].is_flag and not value:
                words.pop(0)
    yield from _places(command, positional, said, whole=whole or bool(given))
    if whole:
        for each in command.params:
            if each.param_type_name == "option" and each.required and each.name not in given:
                yield f"`{said}` needs {each.opts[0]}"


def _places(command: Any, positional: int, said: str, *, whole: bool) -> Iterator[str]:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    if positional > len(arguments) and all(each.nargs != -1 for each in arguments):
        yield f"too many words for `{said}`"
    needed = [each for each in arguments if each.required]
    if (whole or positional) and positional < len(needed):
        yield f"`{said}` needs {needed[positional].name.upper()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_the_page_can_be_typed(page: Path) -> None:
    wrong = [f"{' '.join(line.words)}: {each}" for line in lines_of(page) for each in faults(line)]
    assert wrong == []


def test_the_guide_goes_through_an_event_by_commands() -> None:
    shown = [line for page in PAGES for line in lines_of(page) if page.name == "operations.md"]
    assert len(shown) > 60
    groups = {line.words[0] for line in shown if line.words and line.program == "railtix-ops"}
    assert groups >= {
        *("sign-in", "ca", "broker", "event", "stall", "product", "staff", "device", "policy"),
    }
    assert {line.program for line in shown} == {"railtix-ops", "railtix-cloud", "railtix-pos"}


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("railtix-ops device shw bar-1", "no `railtix-ops device shw`"),
        ("railtix-ops device|devcie", "no `railtix-ops devcie`"),
        ("railtix-ops device show", "needs DEVICE_ID"),
        ("railtix-ops device show bar-1 bar-2", "too many words"),
        ("railtix-ops ca show --out x", "no option --out"),
        ("railtix-ops ca reissue", "needs --root"),
        ("railtix-ops ca init --permit-dns", "needs a value"),
        ("railtix-cloud audit", "needs a command"),
    ],
)
def test_a_line_that_cannot_be_typed_is_found(typed: str, why: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Type this:\n\n```\nsudo {typed} && echo done   # and so on\n```\n")
    (line,) = lines_of(page)
    assert any(why in fault for fault in faults(line))
