"""railtix-ops broker: mosquitto's files, and its revocation list under a running broker."""

import ipaddress
import pwd
from pathlib import Path
from typing import Annotated, Final

import typer

from provisioning.authority.certificates import WORKER_PREFIX, Worker, refuse_name
from provisioning.authority.credentials import Credentials
from provisioning.authority.folder import CHAIN, CRL, read_register
from provisioning.authority.refusals import NameNotAllowed, NotFounded
from provisioning.broker.configuration import Listener
from provisioning.broker.folder import (
    Sources,
    reload,
    replace_crl,
    running_broker,
    write_folder,
)
from provisioning.cli.ca import DEFAULT_FOLDER, AuthorityFolder, known_workers
from provisioning.cli.speaking import granted, out, refuse

app = typer.Typer(
    no_args_is_help=True,
    help="""The broker's files: mosquitto 2.0 with one listener, mutual TLS and an access list.""",
)

BrokerFolder = Annotated[
    Path, typer.Option("--folder", help="The broker's folder.", show_default=True)
]
BROKER_FOLDER: Final = Path("/etc/mosquitto/railtix")


@app.command("config")
def config(
    *,
    server: Annotated[
        Path,
        typer.Option(help="The broker's own folder from `ca issue server`: key and certificate."),
    ],
    ca: AuthorityFolder = DEFAULT_FOLDER,
    folder: BrokerFolder = BROKER_FOLDER,
    bind: Annotated[str, typer.Option(help="The address to listen at.")] = "0.0.0.0",  # noqa: S104 - appliances come from the venue's network, with certificates
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen at.")] = 8883,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            help="A cloud worker with rights at the broker. Repeatable. Default: every worker "
            "that the authority certified and did not revoke."
        ),
    ] = None,
    user: Annotated[
        str, typer.Option(help="Whom mosquitto becomes when root starts it.")
    ] = "mosquitto",
) -> None:
    """Write mosquitto.conf, the access list, certificates and CRL into a folder.

    Start it with `mosquitto -c FOLDER/mosquitto.conf`. After a change of workers run it again and
    reload mosquitto.
    """
    if not (ca / CHAIN).exists():
        refuse(NotFounded(ca))
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        refuse(NameNotAllowed(bind, "not an IP address"))
    if "\n" in str(folder):
        refuse("a line break in the folder's name would end up in mosquitto.conf")
    if not _is_user(user):
        refuse(f"this machine has no user {user!r} for mosquitto to run as")
    credentials = Credentials(server)
    configuration = write_folder(
        folder,
        Sources(ca / CHAIN, ca / CRL, credentials.certificate, credentials.key),
        Listener(address, port),
        [_worker(name) for name in worker] if worker else known_workers(read_register(ca)),
        user,
    )
    out.print(f"Wrote {configuration}.")


@app.command("crl")
def crl(ca: AuthorityFolder = DEFAULT_FOLDER, folder: BrokerFolder = BROKER_FOLDER) -> None:
    """Give the authority's CRL to the broker, and have a running one read it (SIGHUP)."""
    if not (ca / CRL).exists():
        refuse(NotFounded(ca))
    replace_crl(folder, (ca / CRL).read_bytes())
    pid = running_broker(folder)
    if pid is None:
        out.print("The CRL is in place; no broker runs on this folder.")
        return
    reload(pid)
    out.print(f"The CRL is in place; mosquitto ({pid}) reads it now.")


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _worker(name: str) -> str:
    holder = Worker(name.removeprefix(WORKER_PREFIX))
    granted(refuse_name(holder))
    return f"{WORKER_PREFIX}{holder.name}"
