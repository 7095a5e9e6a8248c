"""How railtix-ops speaks: results on stdout, refusals in one sentence on stderr, never a trace."""

from datetime import UTC, datetime
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from provisioning.authority.refusals import Refusal

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Result = TypeVar("Result")


def refuse(why: object) -> NoReturn:
    """End the command with exit code 1 and the reason."""
    err.print(f"[red]Refused:[/] {escape(str(why))}")
    raise typer.Exit(1)


def granted(outcome: Result | Refusal) -> Result:
    """The result; a refusal ends the command."""
    if isinstance(outcome, Refusal):
        refuse(outcome)
    return outcome


def the_time() -> datetime:
    """The clock of the machine the command runs on: the one place that reads it."""
    return datetime.now(UTC)  # noqa: TID251 - a command is an edge
