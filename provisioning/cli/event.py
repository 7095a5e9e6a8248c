"""railtix-ops event: an event, its rules, and every version it ever had."""

import json
import tomllib
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from provisioning.cli.amounts import moment_option, money_option, span_option
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.differences import (
    RULES,
    counted,
    differences,
    print_differences,
    rule_in,
    show_rule,
)
from provisioning.cli.editing import (
    WAIT_FOR,
    DryRun,
    EventId,
    How,
    Wait,
    WaitFor,
    Yes,
    confirmed,
    edit_event,
    finish,
)
from provisioning.cli.offline import warn
from provisioning.cli.product import print_products
from provisioning.cli.speaking import out, refuse
from provisioning.cli.waiting import minute

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""An event: its rules (`set`), its stalls (`stall`), its prices (`product`), its staff.

    `event set harbour --sale-max 50.00 --refund-window 30m --wait`

    Each change is a version; `versions` lists them, `diff` compares, `rollback` has one back. Every
    appliance gets a new signed policy with each.""",
)

_OFFLINE = "Offline sales (docs/offline.md)"
_REFUNDS = "Refunds and top-ups"


class CashOut(StrEnum):
    NEVER = "never"
    AFTER_EVENT = "after_event"
    ALWAYS = "always"


def _money(help_text: str, panel: str | None = None) -> Any:
    return typer.Option(
        parser=money_option, metavar="AMOUNT", help=help_text, rich_help_panel=panel
    )


def _span(help_text: str, panel: str | None = None) -> Any:
    return typer.Option(parser=span_option, metavar="SPAN", help=help_text, rich_help_panel=panel)


def _moment(help_text: str, panel: str | None = None) -> Any:
    return typer.Option(
        parser=moment_option, metavar="MOMENT", help=help_text, rich_help_panel=panel
    )


@app.command("create")
def create(
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="Like harbour-festival.")],
    *,
    name: Annotated[str, typer.Option(help="As receipts print it.")],
    currency: Annotated[str, typer.Option(metavar="EUR", help="It never changes.")],
    stall: Annotated[
        list[str], typer.Option(metavar="ID=NAME", help='Like "bar-north=Bar North"; one or more.')
    ],
    timezone: Annotated[str, typer.Option(metavar="ZONE")] = "UTC",
    locale: Annotated[str, typer.Option(metavar="LOCALE")] = "en_GB",
    starts: Annotated[str | None, _moment("2026-06-20T18:00Z")] = None,
    ends: Annotated[str | None, _moment("Appliances sell until two days later.")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """A new event: `event create harbour --name "Harbour" --currency EUR --stall "bar=Bar"`."""
    stalls: list[Document] = []
    for each in stall:
        stall_id, found, stall_name = each.partition("=")
        if not found:
            refuse(f"--stall {each}: write ID=NAME, like `bar-north=Bar North`")
        stalls.append({"id": stall_id, "name": stall_name})
    document: Document = {
        "name": name,
        "currency": currency,
        "timezone": timezone,
        "locale": locale,
        "starts_at": starts,
        "ends_at": ends,
        "stalls": stalls,
    }
    cloud = Cloud(url, token_file)
    answer = cloud.send_if("PUT", f"/events/{event_id}", document, {"If-None-Match": "*"})
    finish(cloud, event_id, answer, document, How(url, token_file, as_json))


@app.command("set")
def set_rules(
    event_id: EventId,
    *,
    name: Annotated[str | None, typer.Option(help="As receipts print it.")] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE")] = None,
    locale: Annotated[str | None, typer.Option(metavar="LOCALE")] = None,
    starts: Annotated[str | None, _moment("2026-06-20T18:00Z")] = None,
    ends: Annotated[str | None, _moment("Appliances sell until two days later.")] = None,
    sale_max: Annotated[int | None, _money("One sale at most.")] = None,
    reply_timeout: Annotated[timedelta | None, _span("Before a till decides alone: 4s.")] = None,
    shift: Annotated[timedelta | None, _span("Staff sign in again after: 12h.")] = None,
    refund_window: Annotated[
        timedelta | None, _span("Staff give back by themselves within: 30m.", _REFUNDS)
    ] = None,
    refund_limit: Annotated[
        int | None, _money("Staff give back by themselves up to.", _REFUNDS)
    ] = None,
    refund_deadline: Annotated[
        str | None, _moment("Nothing is given back afterwards.", _REFUNDS)
    ] = None,
    top_up_min: Annotated[int | None, _money("A top-up at least.", _REFUNDS)] = None,
    top_up_max: Annotated[int | None, _money("A top-up at most.", _REFUNDS)] = None,
    cash_out: Annotated[
        CashOut | None,
        typer.Option(help="When unspent Credits go back.", rich_help_panel=_REFUNDS),
    ] = None,
    adjustment_limit: Annotated[
        int | None, _money("An adjustment above it needs a second person.", _REFUNDS)
    ] = None,
    offline: Annotated[
        bool | None,
        typer.Option(
            "--offline/--no-offline", help="May tills sell cut off?", rich_help_panel=_OFFLINE
        ),
    ] = None,
    offline_sale_max: Annotated[int | None, _money("A sale at most.", _OFFLINE)] = None,
    offline_wallet_max: Annotated[int | None, _money("A wallet at one till.", _OFFLINE)] = None,
    offline_wallet_sales: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Sales of a wallet.", rich_help_panel=_OFFLINE),
    ] = None,
    offline_till_max: Annotated[
        int | None, _money("A till, until the cloud has answered it all.", _OFFLINE)
    ] = None,
    offline_till_sales: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Sales of a till.", rich_help_panel=_OFFLINE),
    ] = None,
    offline_for: Annotated[
        timedelta | None, _span("Since the cloud's last word: 120m.", _OFFLINE)
    ] = None,
    offline_deny_age: Annotated[
        timedelta | None, _span("Age of the deny list: 60m.", _OFFLINE)
    ] = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Change an event's rules; what is not named stays. Money as 12.50, spans as 30m or 12h.

    `event set harbour --sale-max 50.00 --refund-window 30m --refund-limit 20.00`

    `event set harbour --offline --offline-sale-max 10.00`
    """
    wanted: dict[str, Any] = {
        "name": name,
        "timezone": timezone,
        "locale": locale,
        "starts_at": starts,
        "ends_at": ends,
        "sale_max_in_cents": sale_max,
        "reply_timeout_ms": _milliseconds(reply_timeout),
        "staff_session_s": _seconds("--shift", shift),
        "refunds.window_s": _seconds("--refund-window", refund_window),
        "refunds.staff_limit_in_cents": refund_limit,
        "refunds.deadline": refund_deadline,
        "top_up.min_in_cents": top_up_min,
        "top_up.max_in_cents": top_up_max,
        "cash_out": None if cash_out is None else cash_out.value,
        "adjustment_limit_in_cents": adjustment_limit,
        "offline.allowed": offline,
        "offline.sale_max_in_cents": offline_sale_max,
        "offline.wallet_max_in_cents": offline_wallet_max,
        "offline.wallet_sales_max": offline_wallet_sales,
        "offline.spell_max_in_cents": offline_till_max,
        "offline.spell_sales_max": offline_till_sales,
        "offline.sync_age_max_s": _seconds("--offline-for", offline_for),
        "offline.deny_list_age_max_s": _seconds("--offline-deny-age", offline_deny_age),
    }
    said = {place: value for place, value in wanted.items() if value is not None}
    if not said:
        refuse("say what to change: `event set --help` lists it")

    def change(document: Document) -> None:
        for place, value in said.items():
            *rooms, last = place.split(".")
            room = document[rooms[0]] if rooms else document
            room[last] = value
        if offline and not as_json:
            _warn_of(event_id, document, url, token_file)

    how = How(url, token_file, as_json, is_dry=dry_run, waits=wait, wait_for=wait_for)
    edit_event(event_id, change, how)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="The event's file: .toml or .json.")],
    *,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the event what the file says: all of it, also what was set by other commands since."""
    document = _read(file)
    event_id = document.pop("id", None)
    if not isinstance(event_id, str):
        refuse(f"{file}: the event needs an `id`, like `harbour-festival`")
    offline: Any = document.get("offline")
    if not as_json and isinstance(offline, dict) and "allowed" in offline and offline["allowed"]:
        _warn_of(event_id, document, url, token_file)
    cloud = Cloud(url, token_file)
    known = {each["event_id"] for each in cloud.get("/events")}
    before = cloud.get(f"/events/{event_id}") if event_id in known else None
    if dry_run:
        _show_dry(event_id, before, document, as_json=as_json)
        return
    answer = cloud.put(f"/events/{event_id}", document)
    how = How(url, token_file, as_json, waits=wait, wait_for=wait_for)
    if before is not None and answer["has_changed"] and not as_json:
        print_differences(differences(before, cloud.get(f"/events/{event_id}")))
    finish(cloud, event_id, answer, document, how)


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
    out.print(f"[bold]{escape(document['name'])}[/] ({event_id})")
    rules = Table("Rule", "", title="Rules", title_justify="left")
    for place, words in RULES.items():
        if place == "name" or (place.startswith("offline.") and not document["offline"]["allowed"]):
            if place == "offline.allowed":
                rules.add_row(words, "not allowed")
            continue
        rules.add_row(words, escape(show_rule(place, rule_in(document, place))))
    out.print(rules)
    for stall in document["stalls"]:
        print_products(stall, document["currency"])
    staff = Table("Staff", "Name", "Stalls", title="Staff", title_justify="left")
    for member in document["staff"]:
        places = ", ".join(member["stalls"] or ["every stall"])
        staff.add_row(member["id"], escape(member["name"]), places)
    if document["staff"]:
        out.print(staff)


@app.command("list")
def list_events(
    url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Every event of yours."""
    events = Cloud(url, token_file).get("/events")
    if as_json:
        show_json(events)
        return
    table = Table("Event", "Name", "Currency")
    for event in events:
        table.add_row(event["event_id"], escape(event["name"]), event["currency"])
    out.print(table)


@app.command("versions")
def versions(
    event_id: EventId,
    *,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Who changed the event, and when; the newest first."""
    found = Cloud(url, token_file).get(f"/events/{event_id}/versions?limit={limit}")
    if as_json:
        show_json(found)
        return
    table = Table("Version", "Applied (UTC)", "By", "")
    table.columns[0].justify = "right"
    for each in found:
        note = ""
        if each["rolled_back_to"] is not None:
            note = f"back to {each['rolled_back_to']}: {each['reason'] or ''}"
        elif each["applied_by"] is None:
            note = "as it stood"
        table.add_row(
            str(each["version"]),
            minute(each["applied_at"]),
            escape(each["applied_by"] or "-"),
            escape(note),
        )
    out.print(table)


@app.command("diff")
def diff(
    event_id: EventId,
    older: Annotated[
        int | None, typer.Argument(min=1, metavar="[OLDER]", help="Left out: the one before.")
    ] = None,
    newer: Annotated[
        int | None, typer.Argument(min=1, metavar="[NEWER]", help="Left out: as it stands.")
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """What changed between two versions: `event diff harbour 3 5`; or with the last edit."""
    cloud = Cloud(url, token_file)
    if newer is None:
        newest = cloud.get(f"/events/{event_id}/versions?limit=1")
        if not newest:
            refuse(f"{event_id} has no versions yet: the first edit makes one")
        newer = int(newest[0]["version"])
    older = newer - 1 if older is None else older
    if older < 1:
        refuse(f"version {newer} is the first: there is nothing before it")
    before, after = (
        cloud.get(f"/events/{event_id}/versions/{version}")["document"]
        for version in (older, newer)
    )
    found = differences(before, after)
    if as_json:
        show_json(
            [{"where": each.where, "before": each.before, "after": each.after} for each in found]
        )
        return
    said = counted(found) or "nothing differs"
    out.print(f"[bold]{event_id}[/], version {older} to {newer}: {said}")
    print_differences(found)


@app.command("rollback")
def rollback(
    event_id: EventId,
    version: Annotated[int, typer.Argument(min=1, help="As `event versions` has it.")],
    *,
    reason: Annotated[str, typer.Option(help="For the audit log: `wrong price list`.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    wait_for: WaitFor = WAIT_FOR,  # pyright: ignore[reportArgumentType]
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """What an earlier version said, as a new one: rules, stalls, prices and staff.

    What was entered since then goes; it is shown first. Refused where an appliance stands at a
    stall that the version does not have.
    """
    cloud = Cloud(url, token_file)
    before, etag = cloud.get_tagged(f"/events/{event_id}")
    after = cloud.get(f"/events/{event_id}/versions/{version}")["document"]
    how = How(
        url,
        token_file,
        as_json,
        is_dry=dry_run,
        asks=not yes and not as_json,
        waits=wait,
        wait_for=wait_for,
    )
    found = differences(before, after)
    if not as_json:
        out.print(f"[bold]{event_id}[/] back to version {version}: {counted(found) or 'the same'}")
        print_differences(found)
    if dry_run:
        out.print("[dim]Nothing was changed (--dry-run)[/]")
        return
    if not confirmed(how, "Roll back?"):
        out.print("Nothing was changed")
        return
    body: Document = {"version": version, "reason": reason}
    answer = cloud.send_if("POST", f"/events/{event_id}/rollback", body, {"If-Match": etag})
    finish(cloud, event_id, answer, before, how)


def _show_dry(event_id: str, before: Document | None, document: Document, *, as_json: bool) -> None:
    if before is None:
        out.print(f"{event_id} would be created")
        return
    # What the file leaves out has its usual value, which the cloud knows: compared where it speaks.
    spoken = {**before, **document}
    for room in ("offline", "top_up", "refunds"):
        spoken[room] = {**before[room], **document.get(room, {})}
    found = differences(before, spoken)
    if as_json:
        show_json(
            [{"where": each.where, "before": each.before, "after": each.after} for each in found]
        )
        return
    out.print(f"[bold]{event_id}[/]: {counted(found) or 'nothing to change'}")
    print_differences(found)
    out.print("[dim]Nothing was changed (--dry-run)[/]")


def _warn_of(event_id: str, document: Document, url: str, token_file: Path | None) -> None:
    """In money, unless offline sales are on already."""
    cloud = Cloud(url, token_file)
    events = {each["event_id"] for each in cloud.get("/events")}
    if event_id not in events:
        warn(document, 1)
        return
    terms = cloud.get(f"/events/{event_id}/offline")
    if not terms["rules"]["allowed"]:
        warn(document, terms["loss"]["appliances"])


def _read(file: Path) -> Document:
    try:
        text = file.read_text(encoding="utf-8")
        document: Any = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as fault:
        refuse(f"{file}: {fault}")
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as fault:
        refuse(f"{file}: {fault}")
    if not isinstance(document, dict):
        refuse(f"{file}: an event is a table of names and values")
    # TOML's dates become the strings that JSON carries.
    return json.loads(json.dumps(document, default=str))


def _milliseconds(span: timedelta | None) -> int | None:
    return None if span is None else span // timedelta(milliseconds=1)


def _seconds(option: str, span: timedelta | None) -> int | None:
    if span is None:
        return None
    if span % timedelta(seconds=1):
        raise typer.BadParameter(f"{option}: whole seconds, please")
    return span // timedelta(seconds=1)
