"""railtix-ops broker: mosquitto's files, and its revocation list under a running broker."""

import ipaddress
import pwd
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from provisioning.authority.certificates import WORKER_PREFIX, Kind, Worker, refuse_name
from provisioning.authority.credentials import Credentials
from provisioning.authority.folder import CHAIN, CRL, read_register
from provisioning.authority.refusals import NameNotAllowed, NotFounded
from provisioning.authority.register import Register
from provisioning.broker.configuration import (
    ACCESS_PLUGIN,
    CONNECTIONS,
    DROP_IN_FILE,
    Listener,
    Mosquitto,
    Version,
)
from provisioning.broker.folder import (
    plan_folder,
    refuse_sources,
    reload,
    replace_crl,
    running_broker,
    write_folder,
)
from provisioning.broker.inspection import findings
from provisioning.broker.papers import Sources, read_crl
from provisioning.broker.refusals import NotInTime, WorkerRevoked
from provisioning.cli.ca import DEFAULT_FOLDER, AuthorityFolder, known_workers
from provisioning.cli.speaking import granted, out, refuse, the_time

app = typer.Typer(
    no_args_is_help=True,
    help="""The broker's files: mosquitto with one listener, mutual TLS and an access list.""",
)

BrokerFolder = Annotated[
    Path, typer.Option("--folder", help="The broker's folder.", show_default=True)
]
BROKER_FOLDER: Final = Path("/etc/mosquitto/railtix")
DROP_IN: Final = Path("/etc/systemd/system/mosquitto.service.d/railtix.conf")


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
    connections: Annotated[
        int,
        typer.Option(
            min=1,
            help="How many clients at once. mosquitto needs as many open files and 1,024 more.",
        ),
    ] = CONNECTIONS,
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
    mosquitto: Annotated[
        Version, typer.Option(help="The version that reads the files. 2.1 was never tried.")
    ] = Version.V2_0,
    access_plugin: Annotated[
        Path, typer.Option(help="For 2.1: where its acl-file plugin is.")
    ] = ACCESS_PLUGIN,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing: say what differs from what would be written, and what expires. "
            "Exit code 1 if there is anything.",
        ),
    ] = False,
) -> None:
    """Write mosquitto.conf, the access list, certificates, CRL and systemd's drop-in.

    Running it again changes only what is different. Start the broker with `mosquitto -c
    FOLDER/mosquitto.conf`. After a change of workers run it again and reload mosquitto; after a
    new issuing certificate restart it.
    """
    if not (ca / CHAIN).exists():
        refuse(NotFounded(ca))
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        refuse(NameNotAllowed(bind, "not an IP address"))
    for path in (folder, access_plugin):
        if "\n" in str(path):
            refuse("a line break in a path would end up in mosquitto.conf")
    if not access_plugin.is_absolute():
        refuse(f"mosquitto would not find {access_plugin}: give its whole path")
    if not _is_user(user):
        refuse(f"this machine has no user {user!r} for mosquitto to run as")
    register = read_register(ca)
    workers = [_worker(name, register) for name in worker] if worker else known_workers(register)

    folder = folder.resolve()
    credentials = Credentials(server)
    sources = Sources(ca / CHAIN, ca / CRL, credentials.certificate, credentials.key)
    listener = Listener(address, port, connections)
    planned = plan_folder(
        folder, sources, listener, workers, Mosquitto(user, mosquitto, access_plugin)
    )
    if check:
        found = list(findings(folder, planned, connections, the_time()))
        for finding in found:
            out.print(f"[red]![/] {escape(finding)}")
        if found:
            raise typer.Exit(1)
        out.print(f"{folder} is as `broker config` would write it, and nothing expires soon.")
        return

    refused = refuse_sources(folder, sources, the_time())
    if refused is not None:
        refuse(refused)
    out.print(f"Wrote {write_folder(folder, planned, user)}.")
    out.print(f"Under systemd: `install -Dm644 {folder / DROP_IN_FILE} {DROP_IN}`.")


@app.command("crl")
def crl(ca: AuthorityFolder = DEFAULT_FOLDER, folder: BrokerFolder = BROKER_FOLDER) -> None:
    """Give the authority's CRL to the broker, and have a running one read it (SIGHUP)."""
    if not (ca / CRL).exists():
        refuse(NotFounded(ca))
    content = (ca / CRL).read_bytes()
    published = read_crl(content)
    ends_at = published.next_update_utc if published is not None else None
    if ends_at is not None and ends_at <= the_time():
        refuse(NotInTime(ca / CRL, "has expired: publish another with `railtix-ops ca crl`"))
    try:
        replace_crl(folder, content)
    except ValueError as why:
        refuse(why)
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


def _worker(name: str, register: Register) -> str:
    """The worker's common name; one that is revoked gets no rights by being named."""
    holder = Worker(name.removeprefix(WORKER_PREFIX))
    granted(refuse_name(holder))
    common_name = f"{WORKER_PREFIX}{holder.name}"
    issued = [
        entry
        for entry in register.entries
        if entry.kind is Kind.WORKER and entry.common_name == common_name
    ]
    if issued and all(entry.revoked_at for entry in issued):
        refuse(WorkerRevoked(common_name))
    return common_name
