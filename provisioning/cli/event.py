"""railtix-ops event: an event as one file, applied whole."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.offline import money, print_rules, warn
from provisioning.cli.speaking import out, refuse

app = typer.Typer(
    no_args_is_help=True,
    help="""An event as one file (TOML or JSON): stalls, price lists, limits, staff.

    Applying it twice changes nothing; a change gives every appliance a new signed policy.""",
)

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="As in `id` in the event's file.")]


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="The event's file: .toml or .json.")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the event what the file says."""
    document = _read(file)
    event_id = document.pop("id", None)
    if not isinstance(event_id, str):
        refuse(f"{file}: the event needs an `id`, like `harbour-festival`")
    offline: Any = document.get("offline")
    if not as_json and isinstance(offline, dict) and "allowed" in offline and offline["allowed"]:
        _warn_before_offline(event_id, document, url, token_file)
    answer = Cloud(url, token_file).put(f"/events/{event_id}", document)
    if as_json:
        show_json(answer)
        return
    if not answer["has_changed"]:
        out.print(f"{event_id}: nothing to change")
        return
    out.print(f"{event_id}: {'created' if answer['is_new'] else 'changed'}")
    for device_id, version in answer["policies"].items():
        out.print(f"  {device_id} gets policy {version}")


def _warn_before_offline(
    event_id: str, document: Document, url: str, token_file: Path | None
) -> None:
    """In money, unless offline sales are on already."""
    events = {each["event_id"] for each in Cloud(url, token_file).get("/events")}
    if event_id in events:
        terms = Cloud(url, token_file).get(f"/events/{event_id}/offline")
        if terms["rules"]["allowed"]:
            return
        warn(document, terms["loss"]["appliances"])
    else:
        warn(document, 1)


@app.command("show")
def show(
    event_id: EventId,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The event as it stands; `--json` prints a file that `apply` takes."""
    document = Cloud(url, token_file).get(f"/events/{event_id}")
    if as_json:
        show_json({"id": event_id, **document})
        return
    currency = document["currency"]
    out.print(
        f"[bold]{escape(document['name'])}[/] ({event_id}), {currency}, {document['timezone']}"
    )
    out.print(f"A sale at most {money(document['sale_max_in_cents'], currency)}")
    allowed = document["offline"]["allowed"]
    out.print(f"Offline sales: {'allowed' if allowed else 'not allowed'}")
    if allowed:
        print_rules(document["offline"], currency)
    for stall in document["stalls"]:
        table = Table(
            "No.", "Product", f"{currency}", title=f"{escape(stall['name'])} ({stall['id']})"
        )
        table.columns[2].justify = "right"
        for product in stall["products"]:
            price = _cents(product["price_in_cents"])
            table.add_row(str(product["number"]), escape(product["name"]), price)
        out.print(table)
    staff = Table("Staff", "Name", "Stalls")
    for member in document["staff"]:
        places = ", ".join(member["stalls"] or ["every stall"])
        staff.add_row(member["id"], escape(member["name"]), places)
    out.print(staff)


@app.command("list")
def list_events(
    url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Every event."""
    events = Cloud(url, token_file).get("/events")
    if as_json:
        show_json(events)
        return
    table = Table("Event", "Name", "Currency")
    for event in events:
        table.add_row(event["event_id"], escape(event["name"]), event["currency"])
    out.print(table)


def _read(file: Path) -> Document:
    text = file.read_text(encoding="utf-8")
    try:
        document: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as fault:
        refuse(f"{file}: {fault}")
    if not isinstance(document, dict):
        refuse(f"{file}: an event is a table of names and values")
    # TOML's dates become the strings that JSON carries.
    return json.loads(json.dumps(document, default=str))


def _cents(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
