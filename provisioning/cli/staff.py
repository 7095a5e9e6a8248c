"""railtix-ops staff: who works where, their badges and PINs, and the end of one's work."""

import io
from pathlib import Path
from typing import Annotated, Any, Final

import segno
import typer
from rich.markup import escape
from rich.table import Table

from protocol.wallet_qr import to_digits
from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.editing import DryRun, How, edit_event
from provisioning.cli.sheets import write_sheet
from provisioning.cli.speaking import out, refuse
from provisioning.files import PRIVATE, write_atomically

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Staff of an event: `add` them, print their badges (`sheet`), `revoke` one.

    A badge has no PIN at first: its holder chooses one at the first sign-in, by keying it twice.

    `staff add harbour mia "Mia Byrne" --stall bar-north`, then `staff sheet harbour`""",
)

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="As `event list` has it.")]
StaffId = Annotated[str, typer.Argument(metavar="STAFF", help="As `staff list` has it.")]
Why = Annotated[str, typer.Option(help="For the audit log.")]
LEFT_EVENT: Final = "taken off the event"

app.command("sheet")(write_sheet)


@app.command("list")
def list_staff(
    event_id: EventId, url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    """Who works at the event, whether their badge signs in, and where they are signed in now."""
    members: list[Document] = Cloud(url, token_file).get(f"/events/{event_id}/staff")
    if as_json:
        show_json(members)
        return
    table = Table("Staff", "Name", "Initials", "Stalls", "Badge", "Signed in at")
    for member in members:
        name = escape(member["name"])
        table.add_row(
            member["staff_id"],
            f"{name} [bold](supervisor)[/]" if member["is_supervisor"] else name,
            escape(member["initials"]),
            ", ".join(member["stalls"] or ["every stall"]),
            _badge(member["badge"]),
            ", ".join(member["signed_in_at"]) or "-",
        )
    out.print(table)


@app.command("add")
def add(
    event_id: EventId,
    staff_id: StaffId,
    name: Annotated[str, typer.Argument(metavar="NAME", help='In quotes: "Mia Byrne".')],
    *,
    initials: Annotated[
        str | None, typer.Option(help="As receipts print them; else of the name.")
    ] = None,
    stall: Annotated[
        list[str] | None, typer.Option(help="Where they work. Repeatable; left out: every stall.")
    ] = None,
    supervisor: Annotated[
        bool, typer.Option("--supervisor", help="They approve refunds of others.")
    ] = False,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Somebody new. Their badge: `staff badge` or `staff sheet`."""

    def change(document: Document) -> None:
        if any(member["id"] == staff_id for member in document["staff"]):
            refuse(
                f"{event_id} has a {staff_id} already; to change what they may do: "
                f"`event show {event_id} --json` into a file, change that, `event apply` it"
            )
        document["staff"].append(
            {
                "id": staff_id,
                "name": name,
                "initials": initials or _initials(name),
                "stalls": stall or None,
                "is_supervisor": supervisor,
            }
        )

    edit_event(event_id, change, How(url, token_file, as_json, is_dry=dry_run))


@app.command("remove")
def remove(
    event_id: EventId,
    staff_id: StaffId,
    *,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Somebody works there no more: off the event, badge dead, signed out."""

    def change(document: Document) -> None:
        left = [member for member in document["staff"] if member["id"] != staff_id]
        if len(left) == len(document["staff"]):
            refuse(f"{event_id} has no {staff_id}")
        document["staff"] = left

    how = How(url, token_file, as_json, is_dry=dry_run)
    edit_event(event_id, change, how)
    if not dry_run:
        # Off the event they sell no more; revoked, their badge stays dead if they come back.
        revoked = _revoke(Cloud(url, token_file), event_id, staff_id, LEFT_EVENT)
        if not as_json:
            _say_revoked(revoked)


@app.command("badge")
def badge(
    event_id: EventId,
    staff_id: StaffId,
    *,
    choose_pin: Annotated[
        bool, typer.Option("--choose-pin", help="Ask for the PIN now, here.")
    ] = False,
    draw_pin: Annotated[
        bool, typer.Option("--draw-pin", help="Draw a PIN, and show it this once.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Write the QR as a picture.")] = None,
    text: Annotated[Path | None, typer.Option(help="Write what the QR says.")] = None,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """A new badge; the one they had is dead. They choose the PIN at the first sign-in."""
    for path in (png, text):
        if path is not None and not path.parent.is_dir():
            # Before the badge they have is dead, and the new one nowhere.
            refuse(f"there is no folder {path.parent}")
    asked = _pin(choose=choose_pin, draw=draw_pin)
    answer = Cloud(url, token_file).post(f"/events/{event_id}/staff/{staff_id}/badge", asked)
    # As digits, like the wallet's: fewer modules, so cameras read it from further away.
    code = segno.make_qr(to_digits(answer["badge"]), error="m")
    if png is not None:
        picture = io.BytesIO()
        code.save(picture, kind="png", scale=8, border=4)
        # At no moment anybody's to read: until its PIN is chosen, a badge seen is a badge had.
        write_atomically(png, picture.getvalue(), mode=PRIVATE)
    if text is not None:
        write_atomically(text, answer["badge"].encode(), mode=PRIVATE)
    if as_json:
        show_json(answer)
        return
    if png is None and text is None:
        code.terminal(border=4, compact=True)
    out.print(f"{staff_id} at {event_id}: badge {answer['badge_id']}")
    for path in (png, text):
        if path is not None:
            out.print(f"  {path}")
    _say_pin(answer)


@app.command("pin")
def pin(
    event_id: EventId,
    staff_id: StaffId,
    *,
    choose_pin: Annotated[
        bool, typer.Option("--choose-pin", help="Ask for the new PIN now, here.")
    ] = False,
    draw_pin: Annotated[
        bool, typer.Option("--draw", "--draw-pin", help="Draw a PIN, and show it this once.")
    ] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Forget their PIN: with the same badge they choose another at the next sign-in."""
    asked = _pin(choose=choose_pin, draw=draw_pin)
    answer = Cloud(url, token_file).post(f"/events/{event_id}/staff/{staff_id}/pin", asked)
    if as_json:
        show_json(answer)
        return
    out.print(f"{staff_id} at {event_id}: the old PIN no longer counts")
    _say_pin(answer)


@app.command("revoke")
def revoke(
    event_id: EventId,
    staff_id: StaffId,
    *,
    reason: Why,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Badge dead and signed out everywhere at the event, at once: the very next sale is refused."""
    answer = _revoke(Cloud(url, token_file), event_id, staff_id, reason)
    if as_json:
        show_json(answer)
        return
    _say_revoked(answer)
    out.print("  a new badge lets them in again; `staff remove` keeps them out")


def _revoke(cloud: Cloud, event_id: str, staff_id: str, reason: str) -> Document:
    return cloud.post(f"/events/{event_id}/staff/{staff_id}/revoke", {"reason": reason})


def _say_revoked(answer: Document) -> None:
    where = ", ".join(answer["signed_out_at"])
    out.print(f"[green]{answer['staff_id']}[/]: {answer['badges'] or 'no'} badge revoked")
    out.print(f"  signed out at {where}" if where else "  was signed in nowhere")


def _pin(*, choose: bool, draw: bool) -> Document:
    if choose and draw:
        refuse("a PIN is chosen or drawn, not both")
    if choose:
        return {"pin": typer.prompt("PIN", hide_input=True, confirmation_prompt=True)}
    return {"draw_pin": draw}


def _say_pin(answer: Document) -> None:
    if answer["pin"] is not None:
        out.print(f"PIN (shown this once): [bold]{answer['pin']}[/]")
    if answer["choose_until"] is not None:
        until = _minute(answer["choose_until"])
        out.print(f"They choose a PIN at the next sign-in, until {until} UTC")


def _badge(badge: Any) -> str:
    if badge is None:
        return "[yellow]none[/]"
    if badge["has_pin"]:
        return "[green]with PIN[/]"
    until = _minute(badge["choose_until"])
    return f"no PIN yet, until {until}" if badge["is_good"] else "[yellow]no PIN in time[/]"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _initials(name: str) -> str:
    """Of each word the first letter, at most four."""
    return "".join(word[0] for word in name.split())[:4].upper() or name[:4]
