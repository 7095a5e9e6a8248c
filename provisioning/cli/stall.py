"""railtix-ops stall: where things are sold at an event."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.editing import WAIT_FOR, DryRun, EventId, How, Wait, WaitFor, Yes, edit_event
from provisioning.cli.speaking import out, refuse

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Stalls of an event. What they sell: `product`.

    `stall add harbour bar-south --name "Bar South" --like bar-north`""",
)

StallId = Annotated[str, typer.Argument(metavar="STALL", help="As `stall list` has it.")]
Name = Annotated[str, typer.Option(help="As receipts and slips print it.")]


@app.command("list")
def list_stalls(
    event_id: EventId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Each stall, its products and its appliances."""
    cloud = Cloud(url, token_file)
    stalls: list[Document] = cloud.get(f"/events/{event_id}")["stalls"]
    if as_json:
        show_json(stalls)
        return
    standing: dict[str, list[str]] = {}
    for each in cloud.get(f"/events/{event_id}/policies"):
        standing.setdefault(each["stall_id"], []).append(each["device_id"])
    table = Table("Stall", "Name", "Products", "Appliances")
    table.columns[2].justify = "right"
    for stall in stalls:
        appliances = ", ".join(standing.get(stall["id"], []))
        table.add_row(
            stall["id"], escape(stall["name"]), str(len(stall["products"])), appliances or "-"
        )
    out.print(table)


@app.command("add")
def add(
    event_id: EventId,
    stall_id: StallId,
    *,
    name: Name,
    like: Annotated[
        str | None, typer.Option(metavar="STALL", help="Begin with this stall's price list.")
    ] = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """A new stall. Put an appliance there with `device claim` or `device move`."""

    def change(document: Document) -> None:
        if any(stall["id"] == stall_id for stall in document["stalls"]):
            refuse(f"{event_id} has a stall {stall_id} already: `stall rename` changes its name")
        products: list[Document] = (
            [] if like is None else stall_of(document, event_id, like)["products"]
        )
        document["stalls"].append({"id": stall_id, "name": name, "products": products})

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("rename")
def rename(
    event_id: EventId,
    stall_id: StallId,
    *,
    name: Name,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Another name on receipts; its id stays."""

    def change(document: Document) -> None:
        stall_of(document, event_id, stall_id)["name"] = name

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("remove")
def remove(
    event_id: EventId,
    stall_id: StallId,
    *,
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Take a stall away, with its price list. Refused while an appliance stands there."""

    def change(document: Document) -> None:
        gone = stall_of(document, event_id, stall_id)
        document["stalls"].remove(gone)
        if not document["stalls"]:
            refuse(f"{stall_id} is the only stall of {event_id}: an event has one at least")
        _take_staff_from(document, stall_id)

    how = How(
        url,
        token_file,
        as_json,
        is_dry=dry_run,
        asks=not yes and not as_json,
        waits=wait,
        wait_for=wait_for,
    )
    edit_event(event_id, change, how)


def stall_of(document: Document, event_id: str, stall_id: str) -> Document:
    """Ends the command where there is none of that name."""
    found = [stall for stall in document["stalls"] if stall["id"] == stall_id]
    if not found:
        known = ", ".join(stall["id"] for stall in document["stalls"])
        refuse(f"{event_id} has no stall {stall_id!r}; it has {known}")
    return found[0]


def _take_staff_from(document: Document, stall_id: str) -> None:
    """Who works elsewhere too goes on there; who works nowhere else is for a person to decide."""
    stranded: list[str] = []
    for member in document["staff"]:
        if member["stalls"] is None or stall_id not in member["stalls"]:
            continue
        member["stalls"] = [each for each in member["stalls"] if each != stall_id]
        if not member["stalls"]:
            stranded.append(f"{member['name']} ({member['id']})")
    if stranded:
        refuse(
            f"these work at {stall_id} and nowhere else: {', '.join(stranded)}; "
            "give them another stall, or take them from the event, first"
        )
