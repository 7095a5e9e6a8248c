"""railtix-ops policy: what an appliance was told, and has acknowledged."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, Document, TokenFile, Url, show_json
from provisioning.cli.offline import print_loss, print_rules
from provisioning.cli.speaking import out, refuse

app = typer.Typer(no_args_is_help=True, help="The signed policies of appliances.")


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
