"""The broker's folder: its files written, its revocation list renewed under a running broker."""

import os
import pwd
import shutil
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioning.authority.refusals import Refusal
from provisioning.broker.configuration import (
    ACCESS_FILE,
    CA_FILE,
    CERTIFICATE_FILE,
    CONFIGURATION_FILE,
    CRL_FILE,
    DROP_IN_FILE,
    KEY_FILE,
    PID_FILE,
    WRITTEN_BY,
    Listener,
    Mosquitto,
    render_access,
    render_configuration,
    render_drop_in,
)
from provisioning.broker.papers import (
    Sources,
    crl_number,
    read_chain,
    read_crl,
    read_papers,
    refusals_of,
    signed_by_one_of,
)
from provisioning.broker.refusals import (
    AnotherAuthority,
    CrlNotOurs,
    CrlOlder,
    KeyExposed,
    NotOurs,
    NotReadable,
)
from provisioning.files import PRIVATE, PUBLIC, write_atomically


@dataclass(frozen=True, slots=True)
class Planned:
    """One file as it is to be: who else may not read it, and whose it is if root writes it."""

    name: str
    content: bytes
    mode: int
    owner: str | None


def plan_folder(
    folder: Path,
    sources: Sources,
    listener: Listener,
    workers: Sequence[str],
    mosquitto: Mosquitto,
) -> tuple[Planned, ...]:
    """What `folder`, an absolute path, is to hold. Raises OSError.

    As root, what mosquitto must keep from others becomes its user's; the rest stays root's, so
    that a broker taken over cannot rewrite what root starts next.
    """
    owner = mosquitto.user if os.geteuid() == 0 else None
    configuration = render_configuration(folder, listener, mosquitto).encode()
    drop_in = render_drop_in(folder, listener.connections).encode()
    return (
        Planned(CA_FILE, sources.chain.read_bytes(), PUBLIC, None),
        Planned(CERTIFICATE_FILE, sources.certificate.read_bytes(), PUBLIC, None),
        Planned(KEY_FILE, sources.key.read_bytes(), PRIVATE, owner),
        Planned(CRL_FILE, sources.crl.read_bytes(), PUBLIC, None),
        Planned(ACCESS_FILE, render_access(workers).encode(), PRIVATE, owner),
        Planned(CONFIGURATION_FILE, configuration, PUBLIC, None),
        Planned(DROP_IN_FILE, drop_in, PUBLIC, None),
    )


def refuse_sources(folder: Path, sources: Sources, now: datetime) -> Refusal | None:
    """Why these files may not fill `folder`, or None: nobody could connect, or too many could.

    Raises OSError where one of them cannot be read.
    """
    if stat.S_IMODE(sources.key.stat().st_mode) & 0o077:
        return KeyExposed(sources.key)
    papers = read_papers(sources)
    if isinstance(papers, NotReadable):
        return papers
    for refused in refusals_of(papers, sources, now):
        return refused

    configuration = folder / CONFIGURATION_FILE
    if configuration.exists() and not configuration.read_text("utf-8").startswith(WRITTEN_BY):
        return NotOurs(configuration)
    known = folder / CA_FILE
    if known.exists() and not set(read_chain(known.read_bytes())) & set(papers.authorities):
        return AnotherAuthority(known)
    return _refuse_older(folder, crl_number(papers.crl))


def write_folder(folder: Path, planned: Sequence[Planned], user: str) -> Path:
    """Put every planned file in its place, and return the path of mosquitto.conf.

    A second run changes nothing. Raises OSError; what was written until then fits what is there:
    the configuration comes after the files that it names.
    """
    # mosquitto writes its pid file after it has become `user`.
    run = (folder / PID_FILE).parent
    run.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(run, user=user)
    for file in planned:
        path = folder / file.name
        if not is_in_place(path, file):
            write_atomically(path, file.content, file.mode, file.owner)
    return folder / CONFIGURATION_FILE


def is_in_place(path: Path, file: Planned) -> bool:
    """Whether the file is there with this content, for these eyes alone."""
    try:
        found = path.stat()
        same = path.read_bytes() == file.content
    except FileNotFoundError:
        return False
    kept = file.owner is None or found.st_uid == pwd.getpwnam(file.owner).pw_uid
    return same and kept and stat.S_IMODE(found.st_mode) == file.mode


def replace_crl(folder: Path, crl_pem: bytes) -> None:
    """Put a new revocation list in the place of the old one; the broker reads it on `reload`.

    Raises ValueError where `crl_pem` is no list, not signed by the authority that the broker
    trusts, or older than the one that is there; OSError where it cannot be written.
    """
    path = folder / CRL_FILE
    crl = read_crl(crl_pem)
    refused: Refusal | None
    if crl is None:
        refused = NotReadable(path, "to be replaced by what is no PEM revocation list")
    elif not signed_by_one_of(read_chain((folder / CA_FILE).read_bytes()), crl):
        refused = CrlNotOurs(path)
    else:
        refused = _refuse_older(folder, crl_number(crl))
    if refused is not None:
        raise ValueError(str(refused))
    write_atomically(path, crl_pem)


def reload(pid: int) -> None:
    """Have mosquitto read its revocation list, certificate and access list again (SIGHUP).

    The CA file is not among them. Raises OSError where no such process is.
    """
    os.kill(pid, signal.SIGHUP)


def running_broker(folder: Path) -> int | None:
    """The pid of the mosquitto that runs on `folder`, or None.

    A pid file outlives a crash, and its number may be another program's by now.
    """
    try:
        pid = int((folder / PID_FILE).read_text("ascii"))
        program = Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if program == "mosquitto" else None


def _refuse_older(folder: Path, number: int) -> CrlOlder | None:
    path = folder / CRL_FILE
    in_place = read_crl(path.read_bytes()) if path.exists() else None
    if in_place is None or crl_number(in_place) <= number:
        return None
    return CrlOlder(number, crl_number(in_place))
