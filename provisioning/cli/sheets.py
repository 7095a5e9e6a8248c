"""railtix-ops staff sheet: badges as a PDF to print, cut and hand out."""

from pathlib import Path
from typing import Annotated

import typer

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.speaking import out, refuse, the_time
from provisioning.files import PRIVATE, write_atomically


def write_sheet(
    event_id: Annotated[str, typer.Argument(metavar="EVENT")],
    staff: Annotated[
        list[str] | None, typer.Argument(metavar="[STAFF]...", help="Left out: everybody.")
    ] = None,
    *,
    out_file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The PDF.", show_default=True)
    ] = Path("badges.pdf"),
    paper: Annotated[str, typer.Option(metavar="a4|letter", help="What it is printed on.")] = "a4",
    anew: Annotated[
        bool, typer.Option("--anew", help="New badges for all of them: the old ones are dead.")
    ] = False,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Badges on paper, nine a page with marks to cut along. Whoever has a badge that counts keeps
    it, so a sheet may be printed twice; who has none gets one."""
    # A second of imports that no other command pays.
    from provisioning.badge_fonts import NoFont
    from provisioning.badge_sheet import A_PAGE, BadgeFace, Paper, draw_sheet

    if paper not in set(Paper):
        refuse(f"paper is a4 or letter, not {paper}")
    if not out_file.parent.is_dir():
        # Before badges are made that nobody could print.
        refuse(f"there is no folder {out_file.parent}")
    body: Document = {"staff": staff or None, "anew": anew}
    answer = Cloud(url, token_file).post(f"/events/{event_id}/badges", body)
    if not answer["badges"]:
        refuse(f"nobody works at {event_id} yet: `railtix-ops staff add`")
    faces = [
        BadgeFace(each["name"], each["initials"], each["is_supervisor"], each["badge"])
        for each in answer["badges"]
    ]
    drawn = draw_sheet(answer["event_name"], faces, Paper(paper), the_time())
    if isinstance(drawn, NoFont):
        refuse(drawn)
    # Until its PIN is chosen, whoever sees a badge can become its holder.
    write_atomically(out_file, drawn, mode=PRIVATE)
    if as_json:
        show_json(
            {
                "file": str(out_file),
                "badges": [{**each, "badge": None} for each in answer["badges"]],
            }
        )
        return
    pages = -(-len(faces) // A_PAGE)
    badges, on_pages = _counted(len(faces), "badge"), _counted(pages, "page")
    out.print(f"[green]{out_file}[/]: {badges} on {on_pages} ({paper}), to print at 100 %")
    for each in answer["badges"]:
        if each["choose_until"] is not None:
            until = each["choose_until"][:16].replace("T", " ")
            out.print(
                f"  {each['staff_id']} has no PIN yet: chosen at the first sign-in, by {until}"
            )
    out.print("  Keep it as you would keys, and delete it once it is printed.")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
