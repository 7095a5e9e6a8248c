"""Every command that a refusal names as the next step is one that can be typed."""

import re
from pathlib import Path
from typing import Any

import typer.main

from provisioning.cli.app import app

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for room in ("cloud", "provisioning", "device") for path in (ROOT / room).rglob("*.py")
)


def test_each_command_of_railtix_ops_that_a_message_names_is_there() -> None:
    root: Any = typer.main.get_command(app)
    groups = {name: each.commands for name, each in root.commands.items() if _has_commands(each)}
    named = re.compile(rf"`(?:railtix-ops )?({'|'.join(groups)}) ([a-z][a-z-]*)")
    found = [
        (path.name, group, command)
        for path in SOURCES
        for group, command in named.findall(path.read_text("utf-8"))
    ]
    assert len(found) > 20, "the pattern sees them"
    assert [each for each in found if each[2] not in groups[each[1]]] == []


def _has_commands(command: Any) -> bool:
    return hasattr(command, "commands")
