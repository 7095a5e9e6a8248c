"""railtix-ops put together: one sub-command group a file."""

import typer

from provisioning.cli import broker, ca, issue

app = typer.Typer(
    name="railtix-ops",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""RailTix Credits for the people who run it: certificates and the broker.

    A new venue: `ca init`, `ca issue server broker --dns NAME`, `ca issue worker 1`, `broker
    config --server broker`, then `ca issue device ID` for each appliance.""",
)
ca.app.add_typer(issue.app, name="issue")
app.add_typer(ca.app, name="ca")
app.add_typer(broker.app, name="broker")
