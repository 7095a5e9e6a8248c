"""Whether a program on this machine does its work, for whoever starts and restarts it."""

import json

import typer

from cloud.cli.frame import Config, State, fail, faults_told
from cloud.settings import read_settings


def install(app: typer.Typer) -> None:
    app.command("ready")(ready)


def ready(config: Config = None, state: State = None) -> None:
    """Ask the program that runs with these settings ([metrics] says where); exit 1 if it is not."""
    import http.client

    with faults_told():
        metrics = read_settings(config, state=state).metrics
    if metrics.port is None:
        fail("settings", "metrics.port: needed to ask a program whether it is ready")
    host = "127.0.0.1" if metrics.host in {"0.0.0.0", "::"} else metrics.host  # noqa: S104  # read
    line = http.client.HTTPConnection(host, metrics.port, timeout=5)
    try:
        line.request("GET", "/readyz")
        said = json.loads(line.getresponse().read())
    except OSError as error:
        typer.echo(f"nobody answers on {host} port {metrics.port}: {error.strerror or error}")
        raise typer.Exit(1) from None
    finally:
        line.close()
    for name, is_so in said["parts"].items():
        typer.echo(f"{name}: {is_so}")
    if said["status"] != "ready":
        raise typer.Exit(1)
