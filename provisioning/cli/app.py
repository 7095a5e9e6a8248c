"""railtix-ops put together: one sub-command group a file."""

import typer

from provisioning.cli import broker, ca, device, event, issue, policy, reissue, staff

app = typer.Typer(
    name="railtix-ops",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""RailTix Credits for the people who run it: certificates, the broker, and the event.

    A new venue: `ca init`, `ca issue server broker --dns NAME`, `ca issue worker 1`, `broker
    config --server broker`, then `ca issue device ID` for each appliance.

    An event: `event apply FILE`, `device add ID`, `staff badge EVENT STAFF`. These ask the cloud
    at RAILTIX_OPS_URL with the access token in RAILTIX_OPS_TOKEN.""",
)
ca.app.add_typer(issue.app, name="issue")
ca.app.command("reissue")(reissue.reissue)
app.add_typer(ca.app, name="ca")
app.add_typer(broker.app, name="broker")
app.add_typer(event.app, name="event")
app.add_typer(device.app, name="device")
app.add_typer(staff.app, name="staff")
app.add_typer(policy.app, name="policy")
