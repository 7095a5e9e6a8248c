"""A RAUC bundle on this machine: what it says it is, and its way to the cloud, part by part."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from provisioning.cli.cloud import Cloud, Document
from provisioning.cli.speaking import refuse

PART_BYTES: Final = 1024 * 1024
"""As much as the cloud takes in one request."""
INFO_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    sha256: str
    size: int
    version: str
    compatible: str


def read_bundle(
    path: Path, version: str | None, compatible: str | None, keyring: Path | None
) -> Bundle:
    """By `rauc info` where rauc is here, else as whoever asks says; ends the command where the two
    differ, or where neither says it."""
    try:
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        size = path.stat().st_size
    except OSError as why:
        refuse(f"{path}: {why.strerror}")
    said = _ask_rauc(path, keyring)
    found: list[str] = []
    for name, given in (("version", version), ("compatible", compatible)):
        own = said.get(name)
        if own is not None and given is not None and own != given:
            refuse(f"the bundle's {name} is {own}, not {given}")
        told = own or given
        if told is None:
            refuse(f"rauc, which reads the bundle, is not on this machine: say --{name}")
        found.append(str(told))
    return Bundle(path, sha256, size, *found)


def upload(cloud: Cloud, bundle: Bundle, tell: Callable[[int], None]) -> None:
    """All that the cloud does not have yet; `tell` is told how many bytes are there. Whoever broke
    off runs the same again, and it goes on."""
    address = f"/updates/bundles/{bundle.sha256}"
    received: Document = cloud.get(address)
    tell(received["size"])
    with bundle.path.open("rb") as opened:
        while not received["is_whole"] and received["size"] < bundle.size:
            at: int = received["size"]
            opened.seek(at)
            part = opened.read(PART_BYTES)
            if not part:
                refuse(f"{bundle.path} became shorter meanwhile")
            received = cloud.put_part(f"{address}?offset={at}", part)
            tell(received["size"])
    if not received["is_whole"]:
        cloud.post(f"{address}/finish", {"size": bundle.size})


def _ask_rauc(path: Path, keyring: Path | None) -> dict[str, Any]:
    """What the bundle's manifest says; nothing where rauc is not here. Its signature is the
    appliances' to check, and is checked here too where a keyring is named."""
    rauc = shutil.which("rauc")
    if rauc is None:
        if keyring is not None:
            refuse("rauc, which checks the bundle's signature, is not on this machine")
        return {}
    trust = ["--no-verify"] if keyring is None else [f"--keyring={keyring}"]
    try:
        asked = subprocess.run(  # noqa: S603  # its own arguments, each of them whole
            [rauc, "info", "--output-format=json", *trust, str(path.absolute())],
            capture_output=True,
            text=True,
            timeout=INFO_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as why:
        refuse(f"rauc does not answer ({why})")
    if asked.returncode != 0:
        [*_, last] = asked.stderr.strip().splitlines() or ["it does not say why"]
        refuse(f"rauc does not take {path}: {last}")
    try:
        return cast("dict[str, Any]", json.loads(asked.stdout))
    except ValueError:
        refuse(f"rauc said of {path} what is not JSON")
