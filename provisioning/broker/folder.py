"""The broker's folder: its files written, its revocation list renewed under a running broker."""

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from provisioning.broker.configuration import (
    ACCESS_FILE,
    CA_FILE,
    CERTIFICATE_FILE,
    CONFIGURATION_FILE,
    CRL_FILE,
    KEY_FILE,
    PID_FILE,
    Listener,
    render_access,
    render_configuration,
)
from provisioning.files import PRIVATE, PUBLIC, write_atomically


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a broker's folder is filled from."""

    chain: Path
    crl: Path
    certificate: Path
    key: Path


def write_folder(
    folder: Path, sources: Sources, listener: Listener, workers: Sequence[str], user: str
) -> Path:
    """Fill `folder` and return the path of its mosquitto.conf.

    As root, what mosquitto must keep from others becomes `user`'s, who it runs as; the rest stays
    root's, so that a broker taken over cannot rewrite what root starts next. Raises OSError.
    """
    folder = folder.resolve()
    owner = user if os.geteuid() == 0 else None
    private, public = (PRIVATE, owner), (PUBLIC, None)
    contents = (
        (CA_FILE, sources.chain.read_bytes(), public),
        (CERTIFICATE_FILE, sources.certificate.read_bytes(), public),
        (KEY_FILE, sources.key.read_bytes(), private),
        (CRL_FILE, sources.crl.read_bytes(), public),
        (ACCESS_FILE, render_access(workers).encode(), private),
        (CONFIGURATION_FILE, render_configuration(folder, listener, user).encode(), public),
    )
    # mosquitto writes its pid file after it has become `user`.
    run = (folder / PID_FILE).parent
    run.mkdir(parents=True, exist_ok=True)
    if owner is not None:
        shutil.chown(run, user=owner)
    for name, content, (mode, keeper) in contents:
        write_atomically(folder / name, content, mode, keeper)
    return folder / CONFIGURATION_FILE


def replace_crl(folder: Path, crl_pem: bytes) -> None:
    """Put a new revocation list in the place of the old one; the broker reads it on `reload`.

    Raises ValueError where `crl_pem` is no list: mosquitto would refuse every client.
    """
    x509.load_pem_x509_crl(crl_pem)
    write_atomically(folder / CRL_FILE, crl_pem)


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
