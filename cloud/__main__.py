"""railtix-cloud, also as `python -m cloud`: what one types on the server itself."""

import typer

from cloud.cli import (
    attendees,
    audit,
    keys,
    people,
    ready,
    reports,
    servers,
    settings,
    tokens,
    upkeep,
)

app = typer.Typer(
    name="railtix-cloud",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""RailTix Credits in the cloud: wallets, top-ups, and answers for the stalls.

    On one machine: `migrate` once, then `serve`. `token create NAME` lets `railtix-ops` in.
    Settings come from /etc/railtix/cloud.toml or `--config`, overridden by RAILTIX_ variables,
    as RAILTIX_HTTP__PORT for `port` under `[http]`.""",
)
servers.install(app)
upkeep.install(app)
reports.install(app)
settings.install(app)
ready.install(app)
app.add_typer(audit.app, name="audit")
app.add_typer(tokens.app, name="token")
app.add_typer(attendees.app, name="attendee")
app.add_typer(people.app, name="console-user")
app.add_typer(keys.app, name="keys")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
