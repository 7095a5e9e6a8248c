"""railtix-ops ca issue: certificates for appliances, cloud workers and servers."""

import ipaddress
from pathlib import Path
from typing import Annotated

import typer

from provisioning.authority.certificates import (
    WORKER_PREFIX,
    Device,
    Holder,
    IpAddress,
    Server,
    Worker,
    common_name,
    refuse_name,
)
from provisioning.authority.credentials import Credentials, requested_key
from provisioning.authority.folder import Authority
from provisioning.authority.refusals import NameNotAllowed
from provisioning.cli.ca import (
    DEFAULT_FOLDER,
    AuthorityFolder,
    PassphraseFile,
    open_authority,
)
from provisioning.cli.speaking import granted, out, refuse, the_time

app = typer.Typer(
    no_args_is_help=True,
    help="""Issue certificates: each holder gets a folder OUT/NAME with `key.pem` (mode 600),
    `certificate.pem` (its own, then the issuing one) and `ca.pem` (the root).

    A key that is there already is kept, so running twice renews.""",
)

Out = Annotated[Path, typer.Option("--out", help="Where the holders' folders go.")]
HERE = Path()


@app.command("device")
def device(
    names: Annotated[list[str], typer.Argument(metavar="ID...", help="Device ids, like `bar-1`.")],
    ca: AuthorityFolder = DEFAULT_FOLDER,
    out_folder: Out = HERE,
    csr: Annotated[
        Path | None,
        typer.Option(help="Certify the key of this PKCS #10 request; no key is drawn here."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """For appliances: 90 days, client authentication, the common name is the device id."""
    if csr is not None and len(names) != 1:
        refuse("a certificate request is for one device id")
    authority = open_authority(ca, passphrase_file)
    if csr is None:
        _issue(authority, [Device(name) for name in names], out_folder)
        return
    holder = Device(names[0])
    key = granted(requested_key(csr.read_bytes()))
    credentials = Credentials(out_folder / names[0])
    credentials.keep(granted(authority.issue(holder, key, the_time())))
    out.print(f"{names[0]}: {credentials.certificate}")


@app.command("worker")
def worker(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Like `1` or `east`.")],
    ca: AuthorityFolder = DEFAULT_FOLDER,
    out_folder: Out = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """For cloud workers: 90 days, client authentication, the common name is cloud-worker-NAME.

    Each worker process needs one of its own: two with one name throw each other off the broker.
    """
    workers = [Worker(name.removeprefix(WORKER_PREFIX)) for name in names]
    _issue(open_authority(ca, passphrase_file), workers, out_folder)


@app.command("server")
def server(
    name: Annotated[str, typer.Argument(help="The folder's name, like `broker`.")],
    *,
    dns: Annotated[
        list[str] | None, typer.Option(help="A DNS name clients call it by. Repeatable.")
    ] = None,
    ip: Annotated[
        list[str] | None, typer.Option(help="An address clients call it by. Repeatable.")
    ] = None,
    ca: AuthorityFolder = DEFAULT_FOLDER,
    out_folder: Out = HERE,
    passphrase_file: PassphraseFile = None,
) -> None:
    """For the broker or the API: a year, server authentication, every name it is called by."""
    holder = Server(tuple(dns or ()), tuple(_address(address) for address in ip or ()))
    authority = open_authority(ca, passphrase_file)
    _issue_to(authority, holder, Credentials(out_folder / name))


def _issue(authority: Authority, holders: list[Device] | list[Worker], folder: Path) -> None:
    # All names are looked at first: nothing is issued to the good half of a bad list.
    for holder in holders:
        granted(refuse_name(holder))
    for holder in holders:
        _issue_to(authority, holder, Credentials(folder / common_name(holder)))


def _issue_to(authority: Authority, holder: Holder, credentials: Credentials) -> None:
    granted(refuse_name(holder))
    key = granted(credentials.own_key())
    credentials.keep(granted(authority.issue(holder, key.public_key(), the_time())))
    out.print(f"{common_name(holder)}: {credentials.folder}")


def _address(text: str) -> IpAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        refuse(NameNotAllowed(text, "not an IP address"))
