"""Waiting, in sight, until each appliance has acknowledged its new policy."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import Cloud, Document
from provisioning.cli.speaking import err, out

POLL_S: Final = 1.0
NOT_ALL: Final = 3
"""The exit code where the time was over before all had."""


def await_acknowledged(
    cloud: Cloud,
    event_id: str,
    policies: Mapping[str, int],
    at_most: timedelta,
    *,
    is_quiet: bool = False,
) -> None:
    """Ends the command with exit code 3 where some appliance has not by then; they are named."""
    deadline = time.monotonic() + at_most.total_seconds()  # noqa: TID251  # a command is an edge
    told: set[str] = set()
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            standings: list[Document] = cloud.get(f"/events/{event_id}/policies")
            missing = _missing(standings, policies)
            if out.is_terminal and not is_quiet:
                live.update(_table(standings, policies), refresh=True)
            done = set(policies) - {each["device_id"] for each in missing}
            for device_id in sorted(done - told):
                if not out.is_terminal and not is_quiet:
                    out.print(f"  {device_id} has acknowledged policy {policies[device_id]}")
            told |= done
            if not missing or time.monotonic() >= deadline:  # noqa: TID251
                break
            time.sleep(POLL_S)
    if out.is_terminal and not is_quiet:
        out.print(_table(standings, policies))
    if not missing:
        if not is_quiet:
            out.print("[green]Every appliance has acknowledged it[/]")
        return
    for each in missing:
        seen = each["last_seen_at"]
        heard = "never heard of" if seen is None else f"last heard {minute(seen)} UTC"
        where = escape(f"{each['device_id']} at {each['stall_id']}")
        err.print(f"[yellow]Not yet:[/] {where}, {heard}")
    err.print("  They get it as soon as they are connected: `policy status` shows it.")
    raise typer.Exit(NOT_ALL)


def minute(moment: str | None) -> str:
    """`2026-06-01T12:34:56Z` as `2026-06-01 12:34` (UTC)."""
    return "never" if moment is None else moment[:16].replace("T", " ")


def _missing(standings: Sequence[Document], policies: Mapping[str, int]) -> list[Document]:
    """One that was moved away or revoked meanwhile is waited for no more."""
    return [
        each
        for each in standings
        if each["device_id"] in policies and each["acked_version"] < policies[each["device_id"]]
    ]


def _table(standings: Sequence[Document], policies: Mapping[str, int]) -> Table:
    table = Table("Appliance", "Stall", "Policy", "Acknowledged", "")
    for each in standings:
        wanted = policies.get(each["device_id"])
        if wanted is None:
            continue
        is_done = each["acked_version"] >= wanted
        state = "[green]acknowledged[/]" if is_done else "[yellow]waiting[/]"
        if not is_done and not each["is_published"]:
            state = "[yellow]not published yet[/]"
        table.add_row(
            escape(each["device_id"]),
            escape(each["stall_id"]),
            str(each["version"]),
            str(each["acked_version"] or "-"),
            state,
        )
    return table
