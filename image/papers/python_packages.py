"""Which Python distributions a root file system holds, and which files they were made of."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Final

from cyclonedx.spdx import fixup_id
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from image.papers.root_files import RootFiles

# The appliance: a Raspberry Pi on Debian 13, whatever this machine is.
_ENVIRONMENT: Final = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "aarch64",
    "python_version": "3.13",
    "python_full_version": "3.13.0",
}
_OUR_EXTRAS: Final = ("", "device", "pi")
_OF_AN_ENVIRONMENT: Final = r"opt/[^/]+/lib/python3[^/]*/site-packages/[^/]+\.dist-info/METADATA"
_PINNED: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASHED: Final = re.compile(r"--hash=sha256:(?P<sha256>[0-9a-f]{64})")

# How distributions from before PEP 639 word their licence, where SPDX has it.
_WORDED: Final = {
    "3-clause bsd": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license (mit)": "MIT",
}


@dataclass(frozen=True)
class PythonPackage:
    name: str
    version: str
    summary: str
    homepage: str
    licence: str | None  # an SPDX id or expression, or else the distribution's own words
    needs: tuple[str, ...]  # of our own with the appliance's extras, of others without any
    wheel_sha256: str | None  # of the very file it was unpacked from
    locked_sha256: tuple[str, ...]  # the files that the lock would have taken


class NotLockedError(ValueError):
    """Something in the environment that the lock does not name."""


def python_packages(
    root: RootFiles, lock: str, wheels: dict[str, str], ours: str
) -> list[PythonPackage]:
    """By name. `wheels` are SHA-256 by name and version (wheels_in).

    Raises NotLockedError where one is there that the lock does not name in that version.
    """
    locked = dict(_locked(lock))
    return sorted(
        (
            _package(message_from_string(root.texts[path]), locked, wheels, ours)
            for path in root.matching(_OF_AN_ENVIRONMENT)
        ),
        key=lambda package: package.name,
    )


def wheels_in(folder: Path) -> dict[str, str]:
    """SHA-256 of each wheel of the folder by `name==version`."""
    found: dict[str, str] = {}
    for wheel in sorted(folder.rglob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        found[f"{name}=={version}"] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return found


def _locked(lock: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`name==version` and the hashes below it, of a requirements file."""
    for entry in re.split(r"^(?=\S)", lock, flags=re.MULTILINE):
        pinned = _PINNED.match(entry)
        if pinned is not None:
            hashes = tuple(sorted(match["sha256"] for match in _HASHED.finditer(entry)))
            yield f"{canonicalize_name(pinned['name'])}=={pinned['version']}", hashes


def _package(
    metadata: Message, locked: dict[str, tuple[str, ...]], wheels: dict[str, str], ours: str
) -> PythonPackage:
    name = canonicalize_name(metadata["Name"])
    version = str(metadata["Version"])
    pinned = f"{name}=={version}"
    if pinned not in locked and name != ours:
        raise NotLockedError(f"{pinned} is in the image, and not in its lock")
    return PythonPackage(
        name=name,
        version=version,
        summary=metadata.get("Summary", ""),
        homepage=_homepage(metadata),
        licence=_licence(metadata),
        needs=tuple(sorted(set(_needs(metadata, _OUR_EXTRAS if name == ours else ("",))))),
        wheel_sha256=wheels.get(pinned),
        locked_sha256=locked.get(pinned, ()),
    )


def _licence(metadata: Message) -> str | None:
    """PEP 639's expression, else what `License` says in one line, else the classifiers."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    said = str(metadata.get("License") or "").strip()
    if said and "\n" not in said and said.upper() != "UNKNOWN" and len(said) <= 80:
        return _WORDED.get(said.lower()) or fixup_id(said) or said
    classified = sorted(
        str(each).rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier", [])
        if str(each).startswith("License ::")
    )
    named = [_WORDED.get(each.lower()) or fixup_id(each) or each for each in classified]
    return named[0] if len(named) == 1 else "; ".join(named) or None


def _needs(metadata: Message, extras: tuple[str, ...]) -> Iterator[str]:
    for line in metadata.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(str(line))
        except InvalidRequirement:  # an old distribution's own spelling decides nothing here
            continue
        marker = requirement.marker
        if marker is None or any(marker.evaluate(_ENVIRONMENT | {"extra": e}) for e in extras):
            yield canonicalize_name(requirement.name)


def _homepage(metadata: Message) -> str:
    said = str(metadata.get("Home-page") or "")
    if said and said.upper() != "UNKNOWN":
        return said
    urls = dict(
        str(each).split(", ", 1)
        for each in metadata.get_all("Project-URL", [])
        if ", " in str(each)
    )
    lowered = {label.strip().lower(): url for label, url in urls.items()}
    wanted = ("homepage", "source", "source code", "repository", "github", "documentation")
    return next((lowered[label] for label in wanted if label in lowered), "")
