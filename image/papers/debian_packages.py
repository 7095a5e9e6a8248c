"""Which Debian packages a root file system holds, or came out of as bare files."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.papers.debian_licences import Licences, licences_of
from image.papers.root_files import RootFiles
from image.papers.stanzas import stanzas_of

_SOURCE: Final = re.compile(r"(?P<name>\S+)(?:\s+\((?P<version>[^)]+)\))?")


@dataclass(frozen=True)
class DebianPackage:
    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    summary: str
    homepage: str
    maintainer: str
    licences: Licences | None  # None: no copyright file came along
    needs: tuple[tuple[str, ...], ...]  # each of them in one of several ways
    provides: tuple[str, ...]
    # Its files lie in the image, but dpkg there does not know of them.
    unpacked_only: bool = False


class NoPackagesError(ValueError):
    """A root file system without dpkg's list: nothing could be said of it."""


def installed_packages(root: RootFiles) -> list[DebianPackage]:
    """By name. Raises NoPackagesError where dpkg's list is missing or empty."""
    status = root.text("var/lib/dpkg/status")
    found = [
        _package(fields, root.text(f"usr/share/doc/{fields['package']}/copyright"))
        for fields in stanzas_of(status or "")
        if fields.get("status", "").split()[-1:] == ["installed"]
    ]
    if not found:
        raise NoPackagesError("no package is installed according to var/lib/dpkg/status")
    return sorted(found, key=lambda package: (package.name, package.architecture))


def package_of(deb: Path) -> DebianPackage:
    """What a package file says of itself, by dpkg-deb."""
    control = subprocess.run(
        ["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True
    ).stdout
    fields = next(stanzas_of(control))
    wanted = f"./usr/share/doc/{fields['package']}/copyright"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as opened:
        held = subprocess.run(
            ["tar", "--extract", "--to-stdout", "--occurrence=1", wanted],
            stdin=opened.stdout,
            capture_output=True,
            check=False,  # a package that links to another's folder has none of its own
        )
    text = held.stdout.decode("utf-8", errors="replace") if held.returncode == 0 else None
    return _package(fields, text, unpacked_only=True)


def _package(
    fields: dict[str, str], copyright_text: str | None, *, unpacked_only: bool = False
) -> DebianPackage:
    source = _SOURCE.match(fields.get("source", ""))
    return DebianPackage(
        name=fields["package"],
        version=fields["version"],
        architecture=fields.get("architecture", "all"),
        source=source["name"] if source else fields["package"],
        source_version=(source["version"] if source else None) or fields["version"],
        summary=fields.get("description", "").split("\n")[0],
        homepage=fields.get("homepage", ""),
        maintainer=fields.get("maintainer", ""),
        licences=None if copyright_text is None else licences_of(copyright_text),
        needs=tuple(
            tuple(_names(alternatives.split("|")))
            for field in ("pre-depends", "depends")
            for alternatives in fields.get(field, "").split(",")
            if alternatives.strip()
        ),
        provides=tuple(_names(fields.get("provides", "").split(","))),
        unpacked_only=unpacked_only,
    )


def _names(relations: list[str]) -> Iterator[str]:
    """Of `libc6:any (>= 2.34)` the name."""
    return (
        re.split(r"[\s:(\[]", relation.strip())[0] for relation in relations if relation.strip()
    )


def needed_by(package: DebianPackage, present: dict[str, DebianPackage]) -> Iterator[DebianPackage]:
    """Those of the present ones (by name and by what they provide) that fulfil its dependencies."""
    for alternatives in package.needs:
        found = next((present[name] for name in alternatives if name in present), None)
        if found is not None and found != package:
            yield found


def by_what_they_are_called(packages: list[DebianPackage]) -> dict[str, DebianPackage]:
    """By provided names first, then by their own, which win."""
    provided = {name: package for package in packages for name in package.provides}
    return provided | {package.name: package for package in packages}
