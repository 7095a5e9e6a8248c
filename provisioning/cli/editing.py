"""One edit of an event: read, change, show, put back if nobody else did, and see it arrive."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from provisioning.cli.amounts import span_option
from provisioning.cli.cloud import Changed, Cloud, Document, show_json
from provisioning.cli.differences import counted, differences, print_differences
from provisioning.cli.speaking import err, out
from provisioning.cli.waiting import await_acknowledged

CHANGED_MEANWHILE: Final = 4
"""The exit code where somebody else was quicker."""

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="As `event list` has it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Until every appliance has acknowledged it; else exit 3.")
]
WaitFor = Annotated[
    timedelta,
    typer.Option(parser=span_option, metavar="SPAN", help="How long: 45s, 2m."),
]
WAIT_FOR: Final = "2m"

Change = Callable[[Document], None]


@dataclass(frozen=True, slots=True)
class How:
    """What goes for any edit, as the command was told."""

    url: str
    token_file: Path | None
    as_json: bool
    is_dry: bool = False
    asks: bool = False
    """Whether a person confirms what it would change."""
    waits: bool = False
    wait_for: timedelta = timedelta(minutes=2)


def edit_event(event_id: str, change: Change, how: How) -> None:
    """`change` alters the document in place, or refuses by ending the command."""
    cloud = Cloud(how.url, how.token_file)
    before, etag = cloud.get_tagged(f"/events/{event_id}")
    after = copy.deepcopy(before)
    change(after)
    if not _is_wanted(event_id, before, after, how):
        return
    answer = cloud.send_if("PUT", f"/events/{event_id}", after, {"If-Match": etag})
    finish(cloud, event_id, answer, before, how)


def finish(cloud: Cloud, event_id: str, answer: Any, before: Document, how: How) -> None:
    """Say what came of it: which appliances get which policy, or who was quicker."""
    if isinstance(answer, Changed):
        _say_who(cloud, event_id, answer, before)
        raise typer.Exit(CHANGED_MEANWHILE)
    if how.as_json:
        show_json(answer)
    else:
        report(event_id, answer)
    if how.waits and answer["policies"]:
        await_acknowledged(cloud, event_id, answer["policies"], how.wait_for, is_quiet=how.as_json)


def report(event_id: str, answer: Document) -> None:
    if not answer["has_changed"]:
        out.print(f"{event_id}: nothing to change")
        return
    done = "created" if answer["is_new"] else "changed"
    out.print(f"[green]{event_id}: {done}[/], now version {answer['version']}")
    for device_id, version in answer["policies"].items():
        out.print(f"  {device_id} gets policy {version}")
    if not answer["policies"]:
        out.print("  no appliance stands there yet")


def confirmed(how: How, question: str) -> bool:
    """Ends the command where nobody answers."""
    if not how.asks:
        return True
    return typer.confirm(question)


def _is_wanted(event_id: str, before: Document, after: Document, how: How) -> bool:
    found = differences(before, after)
    if not found:
        if how.as_json:
            show_json({"event_id": event_id, "has_changed": False, "policies": {}})
        else:
            out.print(f"{event_id}: nothing to change")
        return False
    if not how.as_json:
        out.print(f"[bold]{event_id}[/]: {counted(found)}")
        print_differences(found)
    if how.is_dry:
        if how.as_json:
            changes = [
                {"where": each.where, "before": each.before, "after": each.after} for each in found
            ]
            show_json({"event_id": event_id, "has_changed": False, "would_change": changes})
        else:
            out.print("[dim]Nothing was changed (--dry-run)[/]")
        return False
    if not confirmed(how, "Apply?"):
        out.print("Nothing was changed")
        return False
    return True


def _say_who(cloud: Cloud, event_id: str, refused: Changed, before: Document) -> None:
    err.print(f"[red]Refused:[/] {escape(refused.told)}")
    now = cloud.get(f"/events/{event_id}")
    found = differences(before, now)
    if found:
        err.print("  Meanwhile:")
        for each in found[:20]:
            err.print(
                escape(f"    {each.where}: {each.before or 'new'} -> {each.after or 'removed'}")
            )
    err.print("  Nothing of yours was changed; run the command again.")
