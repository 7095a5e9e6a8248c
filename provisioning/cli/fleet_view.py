"""railtix-ops device list, show and watch: the fleet, one appliance, the fleet as it changes."""

import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.markup import escape

from provisioning.cli.cloud import (
    DEFAULT_URL,
    AsJson,
    Cloud,
    Document,
    TokenFile,
    Url,
    find_access,
    show_json,
)
from provisioning.cli.fleet_feed import Away, Feed, Query
from provisioning.cli.fleet_table import (
    Device,
    age,
    days_left,
    duration,
    money_of,
    summary,
    table_of,
    worst_first,
)
from provisioning.cli.fleet_watch import watch_lines, watch_table
from provisioning.cli.speaking import out, refuse, the_time

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The appliance's name.")]
Event = Annotated[str | None, typer.Option(help="Only those at this event.")]
Stall = Annotated[str | None, typer.Option(help="Only those at this stall.")]
Status = Annotated[
    str | None, typer.Option(help="Only `active`, `quarantined`, `revoked` or `decommissioned`.")
]
Online = Annotated[
    bool | None, typer.Option("--online/--offline", help="Only those that are there, or not.")
]
Trouble = Annotated[bool, typer.Option("--trouble", help="Only those somebody should see to.")]
Problem = Annotated[
    list[str] | None,
    typer.Option(help="Only those with this trouble; may be said again.", metavar="NAME"),
]
Expiring = Annotated[
    int | None,
    typer.Option(help="Only those whose certificate ends within so many days.", metavar="DAYS"),
]
Behind = Annotated[
    bool, typer.Option("--behind", help="Only those that have not got their newest policy.")
]
Firmware = Annotated[str | None, typer.Option(help="Only those whose firmware begins like this.")]
Every = Annotated[float, typer.Option(min=1.0, max=3600.0, help="Seconds from look to look.")]


def list_devices(
    *,
    event: Event = None,
    stall: Stall = None,
    status: Status = None,
    online: Online = None,
    trouble: Trouble = False,
    problem: Problem = None,
    expiring: Expiring = None,
    behind: Behind = False,
    firmware: Firmware = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Every appliance, those in trouble first (`!`): last sale, queue, clock, certificate, policy.

    `Queue` is messages that wait and what of it was sold offline; `6<7` means that the appliance
    has policy 6 and 7 is the newest.
    """
    asked = {"event": event, "stall": stall, "status": status, "firmware": firmware}
    flags = {"online": online, "trouble": trouble or None, "behind": behind or None}
    query = _query(asked, flags, problem, expiring)
    told = Feed(find_access(url, token_file), query).ask()
    if isinstance(told, Away):
        refuse(f"the cloud does not answer ({told.why}); is it running?")
    if as_json:
        show_json(told.devices)
        return
    out.print(table_of(worst_first(told.devices), told.at, out.width))
    out.print(summary(told.devices), style="dim")


def watch(
    *,
    event: Event = None,
    stall: Stall = None,
    status: Status = None,
    online: Online = None,
    trouble: Trouble = False,
    problem: Problem = None,
    expiring: Expiring = None,
    behind: Behind = False,
    firmware: Firmware = None,
    every: Every = 3.0,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
) -> None:
    """The fleet as it changes, until Ctrl-C: `!` is trouble, `*` has just changed.

    Where there is no terminal: a line for each appliance, and then one for each that changed.
    """
    asked = {"event": event, "stall": stall, "status": status, "firmware": firmware}
    flags = {"online": online, "trouble": trouble or None, "behind": behind or None}
    query = _query(asked, flags, problem, expiring)
    feed = Feed(find_access(url, token_file), query)
    # Also where whoever started us ignores it, as a shell does with what it runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if out.is_terminal:
            watch_table(out, feed, every)
        else:
            watch_lines(feed, every, typer.echo)
    except KeyboardInterrupt:
        return


def show(
    device_id: DeviceId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """One appliance: where it stands, how it is, what is wrong, and what was done to it."""
    cloud = Cloud(url, token_file)
    device = cloud.get(f"/devices/{device_id}")
    deeds = cloud.get(f"/devices/{device_id}/deeds")
    if as_json:
        show_json(device | {"deeds": deeds})
        return
    now = the_time()
    out.print(f"[bold]{escape(device['device_id'])}[/]: {escape(_standing(device))}")
    for problem in device["problems"]:
        out.print(f"  [red]! {_WORDS.get(problem, problem)}[/]")
    for name, said in _lines(device, now):
        out.print(f"  {name:<13}{escape(said)}")
    if deeds:
        out.print("  done to it, newest first (UTC):")
    for deed in deeds:
        out.print(f"    {escape(_deed(deed))}")


_WORDS: Final = {
    "quarantined": "quarantined: its journal is not believed (docs/offline.md)",
    "still_connected": "it has left, and the broker still has a connection of it",
    "offline": "offline: the broker lost it",
    "silent": "silent: not heard for three minutes",
    "money_waits": "it sold offline, and the cloud has no word of it yet: do not switch it off",
    "clock": "it has its time from nobody: no offline sales",
    "certificate": "its certificate ends soon, and its renewal did not come through",
    "policy": "it has not acknowledged its newest policy",
    "printer": "its printer needs somebody",
    "hot": "it is too hot: it slows down",
    "update": "it refused the version it is to have, or went back from it (docs/updates.md)",
}
_CLOCKS: Final = {"cloud": "the cloud's", "network": "the network's (NTP)", "unset": "nobody's"}
_CAUSES: Final = {
    "journal_went_back": "its journal is shorter, or less settled, than it said before",
    "journal_forked": "its journal has other entries than it said before",
    "journal_returned": "it went back to a journal that it had left for a new one",
    "journal_entry_twice": "two sales say that they are the same entry of its journal",
    "journal_entry_unseen": "a sale from before what it said was settled, never seen till now",
}


def _standing(device: Device) -> str:
    online = {True: "online", False: "offline", None: "nobody knows whether it is online"}
    said = f"{device['status']}, {online[device['online']]}"
    if device["online_at"] is not None and device["online"] is not None:
        said += f" since {minute(device['online_at'])} UTC"
    return said


def _lines(device: Device, now: datetime) -> list[tuple[str, str]]:
    lines = [("stands", place_of(device) or "at no stall yet")]
    if device["quarantined_at"] is not None:
        cause = _CAUSES.get(device["quarantine_cause"], str(device["quarantine_cause"]))
        lines.append(("quarantined", f"{minute(device['quarantined_at'])} UTC: {cause}"))
    if device["revoked_at"] is not None:
        why = f": {device['retired_reason']}" if device["retired_reason"] else ""
        lines.append(("left", f"{minute(device['revoked_at'])} UTC{why}"))
    if device["replaced_by"]:
        lines.append(("replaced by", device["replaced_by"]))
    acked, newest = device["policy_acked"], device["policy_version"]
    lines.append(("policy", f"{acked} of {newest}"))
    days = days_left(device["certificate_expires_at"], now)
    if days is not None:
        until = minute(device["certificate_expires_at"])
        lines.append(("certificate", f"valid until {until} UTC: {days} days"))
    if device["last_seen_at"] is None:
        return [*lines, ("heard", "never yet")]
    lines.append(("heard", f"{age(device['last_seen_at'], now)} ago"))
    sale = device["last_sale_at"]
    if sale is not None:
        lines.append(("last sale", f"{minute(sale)} UTC, {age(sale, now)} ago"))
    lines.append(("queue", _queue(device)))
    lines.append(("firmware", device["firmware"]))
    lines += _image(device)
    if device["uptime_s"] is not None:
        lines.append(("running for", duration(device["uptime_s"])))
    lines.append(("printer", device["printer"]))
    if device["clock"] is not None:
        lines.append(("clock", _CLOCKS.get(device["clock"], str(device["clock"]))))
    if device["temperature_c"] is not None:
        lines.append(("temperature", f"{device['temperature_c']} °C"))
    return lines


def _image(device: Device) -> list[tuple[str, str]]:
    """Of the system it runs, where that is one of ours; an older cloud says nothing of it."""
    if not device.get("image"):
        return []
    slot = f", slot {device['slot']}" if device["slot"] else ", from no slot"
    lines = [("image", f"{device['image']}{slot}, channel {device['channel']}")]
    update: Device | None = device["update"]
    if update is not None:
        why = f": {update['why']}" if update["why"] else ""
        since = minute(update["since"])
        lines.append(
            ("update", f"{update['version']}: {progress_of(update)} since {since} UTC{why}")
        )
    told = device["announced_version"]
    if told not in {None, device["image"]} and (update is None or told != update["version"]):
        lines.append(("is to have", str(told)))
    return lines


def progress_of(update: Device) -> str:
    """`fetching 40 %`, `rolled back`."""
    said = str(update["state"]).replace("_", " ")
    is_under_way = said in {"fetching", "installing"}
    return f"{said} {update['percent']} %" if is_under_way else said


def _queue(device: Device) -> str:
    said = f"{device['queue']} messages wait to be answered"
    cents = device["queue_in_cents"]
    if not cents:
        return said
    return f"{said}, with {money_of(cents, device['currency'])} sold offline"


def _deed(deed: Document) -> str:
    detail: Document = deed["detail"] or {}
    reason = detail.get("reason")
    about = f" {deed['subject']}" if deed["subject"] else ""
    why = f" ({reason})" if reason else ""
    return f"{minute(deed['at'])}  {deed['action']}{about}, by {deed['actor']}{why}"


def place_of(device: Device) -> str:
    return f"{device['stall_id']} at {device['event_id']}" if device["stall_id"] else ""


def minute(moment: str | None) -> str:
    """`2026-06-01T12:34:56Z` as `2026-06-01 12:34` (UTC)."""
    return "never" if moment is None else moment[:16].replace("T", " ")


def _query(
    asked: Mapping[str, str | None],
    flags: Mapping[str, bool | None],
    problems: list[str] | None,
    expiring: int | None,
) -> Query:
    said = [(name, value) for name, value in asked.items() if value is not None]
    said += [(name, str(value).lower()) for name, value in flags.items() if value is not None]
    said += [("problem", each) for each in problems or ()]
    return said if expiring is None else [*said, ("expiring_within_days", str(expiring))]
