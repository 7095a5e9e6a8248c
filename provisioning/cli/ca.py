"""railtix-ops ca: found the authority, revoke, publish the CRL, show what was issued."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from provisioning.authority.certificates import Constraints, IpNetwork, is_dns_name
from provisioning.authority.folder import (
    CRL,
    CRL_ALARM,
    ISSUING_KEY,
    Authority,
    expires_at,
    found,
    read_crl,
    read_register,
)
from provisioning.authority.passphrase import find_passphrase, given_passphrase
from provisioning.authority.refusals import NameNotAllowed, NotFounded, Refusal
from provisioning.authority.register import Entry, Reason, Register
from provisioning.cli.speaking import granted, out, refuse, the_time

app = typer.Typer(
    no_args_is_help=True,
    help="""The certificate authority: every appliance, cloud worker and server is known by its
    certificate.

    The authority is a folder. `root/` signed the issuing certificate once and is never needed
    again: carry it to offline media and delete it here.""",
)

AuthorityFolder = Annotated[
    Path,
    typer.Option("--ca", envvar="RAILTIX_CA", help="The authority's folder.", show_default=True),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="A file of mode 600 with the passphrase. Else RAILTIX_CA_PASSPHRASE, else the file "
        "that `ca init` drew.",
    ),
]
DEFAULT_FOLDER: Final = Path("/var/lib/railtix/ca")


def open_authority(folder: Path, passphrase_file: Path | None) -> Authority:
    """The authority in `folder`, its issuing key decrypted; a refusal ends the command."""
    if not (folder / ISSUING_KEY).exists():
        refuse(NotFounded(folder))
    passphrase = granted(find_passphrase(folder, passphrase_file, os.environ))
    return granted(Authority.open(folder, passphrase))


@app.command("init")
def init(
    ca: AuthorityFolder = DEFAULT_FOLDER,
    passphrase_file: PassphraseFile = None,
    permit_dns: Annotated[
        list[str] | None,
        typer.Option(help="Servers may only be certified under this domain. Repeatable."),
    ] = None,
    permit_ip: Annotated[
        list[str] | None,
        typer.Option(help="Servers may only be certified at these networks. Repeatable."),
    ] = None,
) -> None:
    """Found the authority: a root, an issuing certificate and an empty CRL."""
    given = granted(given_passphrase(passphrase_file, os.environ))
    constraints = Constraints(
        tuple(_domain(name) for name in permit_dns or ()),
        tuple(_network(network) for network in permit_ip or ()),
    )
    granted(found(ca, given, constraints, the_time()))
    out.print(f"Founded the authority in {ca}.")
    kept = "Their passphrase is yours." if given else "Passphrases were drawn, beside each key."
    out.print(f"Keys: P-256, encrypted. {kept}")
    out.print(f"Now carry {ca / 'root'} to offline media: nothing here needs it again.")


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="A device id, `cloud-worker-NAME`, or a serial.")],
    ca: AuthorityFolder = DEFAULT_FOLDER,
    passphrase_file: PassphraseFile = None,
    reason: Annotated[Reason, typer.Option(help="Why.")] = Reason.UNSPECIFIED,
) -> None:
    """Revoke every certificate of a name, or the one with a serial, and publish the CRL.

    For workers and servers, and for one certificate by its serial. An appliance is revoked with
    `device revoke`, which does all of it: the cloud refuses its next transaction, and the warden
    brings register, CRL and broker after it and ends its session.
    """
    register = open_authority(ca, passphrase_file).revoke(name, reason, the_time())
    if isinstance(register, Refusal):
        refuse(register)
    for entry in register.entries:
        if entry.is_called(name):
            out.print(f"Revoked {entry.common_name}, serial {entry.serial}.")
    out.print(
        "A warden hands the CRL to the broker within a minute; where none runs, "
        "`railtix-ops broker crl` does."
    )


@app.command("crl")
def crl(ca: AuthorityFolder = DEFAULT_FOLDER, passphrase_file: PassphraseFile = None) -> None:
    """Publish a fresh CRL, valid for 7 days.

    The warden does so daily and at each revocation. Where none runs, run it daily, then `broker
    crl`: past its time the broker refuses every client.
    """
    authority = open_authority(ca, passphrase_file)
    authority.publish_crl(the_time())
    out.print(f"Published {authority.crl_path}, valid for 7 days.")


@app.command("show")
def show(ca: AuthorityFolder = DEFAULT_FOLDER) -> None:
    """List the certificates ever issued, and how long the CRL is still good. Needs no key."""
    if not (ca / CRL).exists():
        refuse(NotFounded(ca))
    now = the_time()
    register = read_register(ca)
    table = Table("name", "kind", "until", "state", box=None, pad_edge=False)
    table.add_column("serial", overflow="fold")
    for entry in register.entries:
        state = _state(entry, expired=entry.not_after <= now)
        table.add_row(
            entry.common_name, entry.kind, f"{entry.not_after:%Y-%m-%d}", state, entry.serial
        )
    out.print(table)
    next_update = expires_at(read_crl(ca))
    left = next_update - now
    alarm = "[red]renew it now: [/]" if left < CRL_ALARM else ""
    out.print(
        f"{alarm}CRL number {register.crl_number}, good until {next_update:%Y-%m-%d %H:%M} UTC"
    )


def known_workers(register: Register) -> list[str]:
    """The common names of the workers that have a certificate which is not revoked."""
    names = {
        entry.common_name
        for entry in register.entries
        if entry.kind == "worker" and entry.revoked_at is None
    }
    return sorted(names)


def _state(entry: Entry, *, expired: bool) -> str:
    if entry.revoked_at is not None:
        return f"[red]revoked[/] {entry.revoked_at:%Y-%m-%d} ({entry.reason})"
    return "expired" if expired else "[green]valid[/]"


def _domain(text: str) -> str:
    if not is_dns_name(text):
        refuse(NameNotAllowed(text, "not a DNS name in lower case"))
    return text


def _network(text: str) -> IpNetwork:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        refuse(NameNotAllowed(text, "not a network like 10.0.0.0/8"))
