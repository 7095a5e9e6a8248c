"""railtix-ops policy: what an appliance was told, and has acknowledged."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from provisioning.cli.cloud import DEFAULT_URL, AsJson, Cloud, TokenFile, Url, show_json
from provisioning.cli.speaking import out

app = typer.Typer(no_args_is_help=True, help="The signed policies of appliances.")


@app.command("show")
def show(
    device_id: Annotated[str, typer.Argument(metavar="ID")],
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The newest policy of an appliance, and whether a worker has published it."""
    policy = Cloud(url, token_file).get(f"/devices/{device_id}/policy")
    if as_json:
        show_json(policy)
        return
    content = policy["content"]
    sent = "published" if policy["is_published"] else "not published yet"
    out.print(f"[bold]{device_id}[/]: policy {policy['version']}, {sent}")
    out.print(escape(f"  {content['stall_name']} at {content['event_name']}"))
    out.print(f"  {len(content['products'])} products, {content['currency']}")
    expires = datetime.fromtimestamp(content["expires_at_ms"] / 1000, UTC)
    out.print(f"  counts until {expires:%Y-%m-%d %H:%M} UTC")


@app.command("key")
def key(url: Url = DEFAULT_URL, token_file: TokenFile = None) -> None:
    """The public key that appliances check their policies with (JSON), for enrolling one."""
    show_json(Cloud(url, token_file).get("/policy-key"))
