"""railtix-ops put together: one sub-command group a file."""

import typer

from provisioning.cli import (
    broker,
    ca,
    device,
    event,
    issue,
    policy,
    product,
    reissue,
    settings,
    sign_in,
    staff,
    stall,
    update,
)

app = typer.Typer(
    name="railtix-ops",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""RailTix Credits for the people who run it: certificates, the broker, and the event.

    A new venue: `ca init`, `ca issue server broker --dns NAME`, `ca issue worker 1`, `broker
    config --server broker`, then `ca issue device ID` for each appliance.

    Whoever runs an event: `sign-in --url https://...` once a shift, then `event`, `stall`,
    `product`, `policy`, `device`, `staff`, `update`. A program sets RAILTIX_OPS_URL and
    RAILTIX_OPS_TOKEN instead.""",
)
app.callback()(settings.before_every_command)
app.command("sign-in")(sign_in.sign_in)
app.command("sign-out")(sign_in.sign_out)
app.command("whoami")(sign_in.whoami)
ca.app.add_typer(issue.app, name="issue")
ca.app.command("reissue")(reissue.reissue)
app.add_typer(ca.app, name="ca")
app.add_typer(broker.app, name="broker")
app.add_typer(event.app, name="event")
app.add_typer(stall.app, name="stall")
app.add_typer(product.app, name="product")
app.add_typer(device.app, name="device")
app.add_typer(staff.app, name="staff")
app.add_typer(policy.app, name="policy")
app.add_typer(update.app, name="update")
