"""railtix-ops policy: what appliances were told, and who has acknowledged it."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.editing import WAIT_FOR, EventId, Wait, WaitFor
from provisioning.cli.offline import print_loss, print_rules
from provisioning.cli.speaking import out, refuse
from provisioning.cli.waiting import await_acknowledged, minute

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""The signed policies of appliances: made from the event, published, acknowledged.

    `policy status harbour`: who runs which version. To change what they say: `event set`,
    `product`, `stall`.""",
)


@app.command("status")
def status(
    event_id: EventId,
    *,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Who runs which version, and who lags behind: `policy status harbour --wait`."""
    cloud = Cloud(url, token_file)
    standings: list[Document] = cloud.get(f"/events/{event_id}/policies")
    if as_json:
        show_json(standings)
    else:
        _print_status(event_id, standings)
    if wait and standings:
        newest = {each["device_id"]: each["version"] for each in standings}
        await_acknowledged(cloud, event_id, newest, wait_for, is_quiet=as_json)


@app.command("history")
def history(
    device_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Every policy an appliance was given, the newest first."""
    found = Cloud(url, token_file).get(f"/devices/{device_id}/policies?limit={limit}")
    if as_json:
        show_json(found)
        return
    table = Table("Policy", "Event", "Issued (UTC)", "Sent", "Counts until", "")
    table.columns[0].justify = table.columns[1].justify = "right"
    is_first_acked = True
    for each in found:
        note = ""
        if each["is_acked"] and is_first_acked:
            note, is_first_acked = "[green]acknowledged[/]", False
        elif not each["is_acked"]:
            note = "[yellow]not acknowledged[/]"
        table.add_row(
            str(each["version"]),
            str(each["event_version"] or "-"),
            minute(each["issued_at"]),
            "not yet" if each["published_at"] is None else "yes",
            minute(each["expires_at"]),
            note,
        )
    out.print(table)


@app.command("show")
def show(
    device_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    *,
    event: Annotated[
        str | None,
        typer.Option(help="An event's offline rules instead, and what they may cost at worst."),
    ] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The newest policy of an appliance, and whether a worker has published it; or, with --event,
    what offline sales may cost there, before you switch them on."""
    if (device_id is None) == (event is None):
        refuse("name an appliance, or an event with --event")
    if event is not None:
        _show_offline(Cloud(url, token_file).get(f"/events/{event}/offline"), as_json=as_json)
        return
    policy = Cloud(url, token_file).get(f"/devices/{device_id}/policy")
    if as_json:
        show_json(policy)
        return
    content = policy["content"]
    sent = "published" if policy["is_published"] else "not published yet"
    out.print(f"[bold]{device_id}[/]: policy {policy['version']}, {sent}")
    out.print(escape(f"  {content['stall_name']} at {content['event_name']}"))
    out.print(f"  {len(content['products'])} products, {content['currency']}")
    offline = content["offline"]
    out.print(f"  offline sales: {'allowed' if offline['allowed'] else 'not allowed'}")
    if offline["allowed"]:
        print_rules(offline, content["currency"])
    expires = datetime.fromtimestamp(content["expires_at_ms"] / 1000, UTC)
    out.print(f"  counts until {expires:%Y-%m-%d %H:%M} UTC")


def _show_offline(terms: Document, *, as_json: bool) -> None:
    if as_json:
        show_json(terms)
        return
    is_allowed = terms["rules"]["allowed"]
    state = "[yellow bold]allowed[/]" if is_allowed else "not allowed"
    out.print(f"[bold]{terms['event_id']}[/]: offline sales are {state}")
    if not is_allowed:
        out.print("If they were allowed:")
    print_rules(terms["rules"], terms["currency"])
    print_loss(terms["loss_if_allowed"], terms["currency"])
    out.print("  how that is counted, and what it assumes: docs/offline.md")


@app.command("key")
def key(url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """The public key that appliances check their policies with (JSON), for enrolling one."""
    show_json(Cloud(url, token_file).get("/policy-key"))


def _print_status(event_id: str, standings: list[Document]) -> None:
    if not standings:
        out.print(f"No appliance stands at {event_id} yet")
        return
    table = Table("Appliance", "Stall", "Policy", "Event", "Acknowledged (UTC)", "")
    for each in standings:
        runs, made_from = each["acked_event_version"], each["event_version"]
        table.add_row(
            escape(each["device_id"]),
            escape(each["stall_id"]),
            _of(each["acked_version"], each["version"]),
            _of(runs, made_from) if each["acked_version"] else _of(0, made_from),
            minute(each["acked_at"]),
            _state(each),
        )
    out.print(table)
    behind = [each["device_id"] for each in standings if each["is_behind"]]
    if behind:
        out.print(f"[yellow]{len(behind)} of {len(standings)} lag behind[/]")
    else:
        out.print("[green]Every appliance runs the newest[/]")


def _of(runs: int | None, newest: int | None) -> str:
    """`3`; where an older one runs, `2 of 3`; where none does, `- of 3`."""
    return str(newest or "-") if runs == newest else f"{runs or '-'} of {newest or '-'}"


def _state(standing: Document) -> str:
    if not standing["is_behind"]:
        return "[green]up to date[/]"
    if not standing["is_published"]:
        return "[yellow]not published yet[/]"
    return f"[yellow]behind[/], last heard {minute(standing['last_seen_at'])}"
