"""railtix-ops update: a bundle released to appliances, watched, paused."""

from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from provisioning.cli.bundle import Bundle, read_bundle, upload
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.fleet_view import minute, progress_of
from provisioning.cli.speaking import err, out

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Updates of the appliances' image: `release` a bundle to a few, watch `status`, then
    `rollout` to more. `pause` stops one at once; it stops by itself where too many roll back.""",
)

Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `update status` names it.")]
OfChannel = Annotated[str | None, typer.Option("--channel", help="In this channel alone.")]
OfCompatible = Annotated[str | None, typer.Option("--compatible", help="For this hardware alone.")]
_HEAD: Final = ("Version", "Channel", "For", "Released (UTC)", "To")
_COUNTS: Final = (
    *("Told", "Run", "Fetch", "Install", "Try"),
    *("Confirmed", "Refused", "Rolled back"),
)
_TABLE_WIDTH_MIN: Final = 150
"""A version that is cut off names none: on a narrower terminal each release has two lines."""
_COLOURS: Final = {"confirmed": "green", "refused": "red", "rolled_back": "red bold"}


@app.command("release")
def release(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The .raucb file.")],
    *,
    channel: Annotated[str, typer.Option(help="`stable` or `beta`.")] = "stable",
    rollout: Annotated[
        int, typer.Option(min=0, max=100, help="To so many of a hundred appliances at first.")
    ] = 10,
    notes: Annotated[str, typer.Option(help="What is new, for those who run the event.")] = "",
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Also where a newer version runs.")
    ] = False,
    version: Annotated[str | None, typer.Option(help="Where rauc is not on this machine.")] = None,
    compatible: Annotated[str | None, typer.Option(help="The same.")] = None,
    keyring: Annotated[
        Path | None, typer.Option(help="Check its signature first, as appliances will.")
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Upload a bundle, and announce it to its channel: `update release x.raucb --rollout 10`.

    An upload that broke off goes on where it was: the same again.
    """
    bundle = read_bundle(path, version, compatible, keyring)
    cloud = Cloud(url, token_file)
    _upload(cloud, bundle)
    body: Document = {
        "sha256": bundle.sha256,
        "version": bundle.version,
        "compatible": bundle.compatible,
        "channel": channel,
        "rollout_percent": rollout,
        "notes": notes,
        "allow_downgrade": allow_downgrade,
    }
    _show(cloud.post("/updates", body), as_json=as_json)


@app.command("status")
def status(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="With each of its appliances.")
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """How far each release is: told, fetching, installing, trying, confirmed, rolled back."""
    asked = "" if version is None else f"?version={quote(version, safe='')}"
    _show(Cloud(url, token_file).get(f"/updates{asked}"), as_json=as_json)


@app.command("pause")
def pause(
    version: Version,
    *,
    reason: Annotated[str, typer.Option(help="For the audit log, and for whoever resumes it.")],
    channel: OfChannel = None,
    compatible: OfCompatible = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Announce it to nobody any more, and hand it out to nobody. Who has it keeps it."""
    body = _chosen(version, channel, compatible) | {"reason": reason}
    _show(Cloud(url, token_file).post("/updates/pause", body), as_json=as_json)


@app.command("resume")
def resume(
    version: Version,
    *,
    channel: OfChannel = None,
    compatible: OfCompatible = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Announce it again; roll-backs from before count against it no more."""
    body = _chosen(version, channel, compatible)
    _show(Cloud(url, token_file).post("/updates/resume", body), as_json=as_json)


@app.command("rollout")
def rollout(
    version: Version,
    percent: Annotated[int, typer.Argument(metavar="PERCENT", min=0, max=100)],
    *,
    channel: OfChannel = None,
    compatible: OfCompatible = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """To so many of a hundred appliances; growing it takes none out that was in."""
    body = _chosen(version, channel, compatible) | {"percent": percent}
    _show(Cloud(url, token_file).post("/updates/rollout", body), as_json=as_json)


def _chosen(version: str, channel: str | None, compatible: str | None) -> Document:
    said = {"version": version, "channel": channel, "compatible": compatible}
    return {name: value for name, value in said.items() if value is not None}


def _upload(cloud: Cloud, bundle: Bundle) -> None:
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        task = shown.add_task("upload", total=bundle.size)
        upload(cloud, bundle, lambda size: shown.update(task, completed=size))


def _show(said: Any, *, as_json: bool) -> None:
    if as_json:
        show_json(said)
        return
    if not said["releases"]:
        out.print("Nothing was released yet: `railtix-ops update release BUNDLE`")
        return
    if out.width >= _TABLE_WIDTH_MIN:
        table = Table(*_HEAD)
        for name in _COUNTS:
            table.add_column(name, justify="right")
        for each in said["releases"]:
            table.add_row(*_terms(each), *_numbers(each))
        out.print(table)
    else:
        for each in said["releases"]:
            version, channel, compatible, at, to = _terms(each)
            out.print(f"[bold]{version}[/]  {to}, {channel}, {compatible}, {at} UTC")
            numbers = zip(_COUNTS, _numbers(each), strict=True)
            out.print("  " + "  ".join(f"{name} {number}" for name, number in numbers))
    for each in said["releases"]:
        for line in _lines(each):
            out.print(line)
    if said["devices"]:
        out.print(_devices(said["devices"]))


def _terms(release: Document) -> list[str]:
    state = "[red]paused[/]" if release["paused_at"] else f"{release['rollout_percent']} %"
    return [
        escape(release["version"]),
        release["channel"],
        escape(release["compatible"]),
        minute(release["released_at"]),
        state,
    ]


def _numbers(release: Document) -> list[str]:
    counts: Document = release["counts"]
    numbers = (
        counts["fetching"] + counts["fetched"],
        counts["installing"],
        counts["trying"],
        counts["confirmed"],
        counts["refused"],
        counts["rolled_back"],
    )
    told = [str(counts["announced"]), str(counts["running"])]
    return [*told, *(str(each) if each else "-" for each in numbers)]


def _lines(release: Document) -> list[str]:
    name = f"[bold]{escape(release['version'])}[/] ({release['channel']})"
    found: list[str] = []
    if release["paused_at"]:
        found.append(
            f"{name}: [red]paused[/] {minute(release['paused_at'])} UTC: "
            f"{escape(release['paused_why'] or '')}"
        )
    if release["allow_downgrade"]:
        found.append(f"{name}: also where a newer version runs")
    if release["notes"]:
        found.append(f"{name}: {escape(release['notes'])}")
    return found


def _devices(tries: list[Document]) -> Table:
    table = Table("Appliance", "Stall", "Runs", "State", "Since (UTC)", "Why")
    for column in table.columns[:3]:
        column.no_wrap = True
    for each in tries:
        state = each["state"]
        said = "told" if each["is_announced"] else "-"
        if state is not None:
            said = progress_of(each)
        colour = _COLOURS.get(state or "", "")
        table.add_row(
            escape(each["device_id"]),
            escape(each["stall_id"] or "-"),
            escape(each["image"] or "-"),
            f"[{colour}]{said}[/]" if colour else said,
            "-" if each["since"] is None else minute(each["since"]),
            escape(each["why"] or ""),
        )
    return table
