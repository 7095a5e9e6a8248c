"""An image's bill of materials: CycloneDX 1.6, the same bytes from the same image each time."""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import (
    DisjunctiveLicense,
    License,
    LicenseAcknowledgement,
    LicenseExpression,
)
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import fixup_id
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from image.papers.debian_packages import (
    DebianPackage,
    NoPackagesError,
    by_what_they_are_called,
    installed_packages,
    needed_by,
    package_of,
)
from image.papers.python_packages import NotLockedError, PythonPackage, python_packages, wheels_in
from image.papers.root_files import RootFiles, read_root

OURS: Final = "railtix-credits"
_DECLARED: Final = LicenseAcknowledgement.DECLARED
_KERNEL: Final = re.compile(r"linux-image-\d.*")
_FIRMWARE: Final = re.compile(r"raspi-firmware|firmware-.*|.*-firmware|u-boot-.*")


@dataclass(frozen=True)
class ImageName:
    profile: str
    version: str
    epoch_s: int  # SOURCE_DATE_EPOCH: the only time that the bill knows

    @property
    def purl(self) -> PackageURL:
        return PackageURL("generic", None, f"railtix-pos-{self.profile}", self.version)


class NotValidError(ValueError):
    """A bill that is not CycloneDX: a fault of ours, or of what a package says."""


def write_sbom(
    root: Path,
    out: Path,
    *,
    image: ImageName,
    lock: Path,
    wheels: Path | None = None,
    debs: Sequence[Path] = (),
) -> Path:
    """Of the root (its folder or tar), and of packages whose files the image holds without dpkg.

    Raises NoPackagesError, NotLockedError, NotValidError.
    """
    files = read_root(root)
    # What was unpacked into the boot partition may be installed in the root as well.
    installed = installed_packages(files)
    known = {(package.name, package.version) for package in installed}
    unpacked = list(map(package_of, debs))
    debian = installed + [each for each in unpacked if (each.name, each.version) not in known]
    hashes = {} if wheels is None else wheels_in(wheels)
    python = python_packages(files, lock.read_text("utf-8"), hashes, OURS)
    out.write_text(bill(image, _distribution(files), debian, python), encoding="utf-8")
    return out


def bill(
    image: ImageName,
    distribution: str,
    debian: list[DebianPackage],
    python: list[PythonPackage],
) -> str:
    """The document. Raises NotValidError."""
    whole = Component(
        type=ComponentType.FIRMWARE,
        name=f"railtix-pos-{image.profile}",
        version=image.version,
        description="Operating system and firmware of the point-of-sale appliance",
        purl=image.purl,
        bom_ref=image.purl.to_string(),
        licenses=[LicenseExpression("Apache-2.0", acknowledgement=_DECLARED)],
    )
    of_debian = {package: _of_debian(package, distribution) for package in debian}
    of_python = {package.name: _of_python(package) for package in python}
    document = Bom(components=[*of_debian.values(), *of_python.values()])
    document.metadata.component = whole
    document.metadata.timestamp = datetime.fromtimestamp(image.epoch_s, UTC)
    document.metadata.tools = ToolRepository(
        components=[Component(type=ComponentType.APPLICATION, name="railtix-image")]
    )
    present = by_what_they_are_called(debian)
    for package, component in of_debian.items():
        needs = {each.name: of_debian[each] for each in needed_by(package, present)}
        document.register_dependency(component, needs.values())
    for package in python:
        needed = [of_python[name] for name in package.needs if name in of_python]
        document.register_dependency(of_python[package.name], needed)
    document.register_dependency(whole, [*of_debian.values(), *of_python.values()])
    return _text(document)


def _text(document: Bom) -> str:
    """Whose serial number is its content's, so that what is equal is called the same."""
    document.serial_number = uuid5(NAMESPACE_URL, "railtix")
    unnamed = JsonV1Dot6(document).output_as_string()
    document.serial_number = uuid5(NAMESPACE_URL, hashlib.sha256(unnamed.encode()).hexdigest())
    text = json.dumps(
        json.loads(JsonV1Dot6(document).output_as_string()), indent=1, ensure_ascii=False
    )
    refused = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if refused is not None:
        raise NotValidError(str(refused)[:2000])
    return text + "\n"


def _of_debian(package: DebianPackage, distribution: str) -> Component:
    vendor, _, _ = distribution.partition("-")
    upstream = package.source
    if package.source_version != package.version:
        upstream += f"@{package.source_version}"
    qualifiers = {"arch": package.architecture, "distro": distribution}
    if upstream != package.name:
        qualifiers["upstream"] = upstream
    purl = PackageURL("deb", vendor, package.name, package.version, qualifiers)
    told = package.licences
    properties = [("railtix:source", f"{package.source} {package.source_version}")]
    if package.unpacked_only:
        properties.append(("railtix:unpacked", "its files lie in the image without dpkg"))
    if told is None:
        properties.append(("railtix:copyright", "no file"))
    elif not told.names and told.expression is None:
        mentioned = ", ".join(told.mentioned) or "none of Debian's full texts"
        properties.append(("railtix:copyright", f"free text, mentions {mentioned}"))
    return Component(
        type=_kind(package.name),
        name=package.name,
        version=package.version,
        description=package.summary or None,
        supplier=_supplier(package.maintainer),
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=_licences(told.expression, told.names) if told else (),
        external_references=_website(package.homepage),
        properties=[Property(name=name, value=value) for name, value in properties],
    )


def _of_python(package: PythonPackage) -> Component:
    kind = "generic" if package.name == OURS else "pypi"
    purl = PackageURL(kind, None, package.name, package.version)
    sha256 = [package.wheel_sha256] if package.wheel_sha256 else []
    locked = package.wheel_sha256 in package.locked_sha256
    properties = [
        Property(name="railtix:built-here", value="from locked sources")
        for _ in [package]
        if sha256 and not locked
    ] + [Property(name="railtix:locked-sha256", value=each) for each in package.locked_sha256]
    return Component(
        type=ComponentType.APPLICATION if package.name == OURS else ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        description=package.summary or None,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in sha256],
        licenses=_worded(package.licence),
        external_references=_website(package.homepage),
        # Which of many wheels a lock allows says little of the one that was taken.
        properties=properties if not locked else (),
    )


def _licences(expression: str | None, names: Iterable[str]) -> list[License]:
    if expression is not None:
        identifier = fixup_id(expression)
        if identifier == expression:
            return [DisjunctiveLicense(id=identifier, acknowledgement=_DECLARED)]
        return [LicenseExpression(expression, acknowledgement=_DECLARED)]
    return [
        DisjunctiveLicense(id=name, acknowledgement=_DECLARED)
        if fixup_id(name) == name
        else DisjunctiveLicense(name=name, acknowledgement=_DECLARED)
        for name in names
    ]


def _worded(licence: str | None) -> list[License]:
    if licence is None:
        return []
    return [LicenseFactory().make_from_string(licence, license_acknowledgement=_DECLARED)]


def _kind(name: str) -> ComponentType:
    if _KERNEL.fullmatch(name):
        return ComponentType.OPERATING_SYSTEM
    return ComponentType.FIRMWARE if _FIRMWARE.fullmatch(name) else ComponentType.LIBRARY


def _supplier(maintainer: str) -> OrganizationalEntity | None:
    name = re.sub(r"\s*<[^>]*>", "", maintainer).strip()
    return OrganizationalEntity(name=name) if name else None


def _website(url: str) -> list[ExternalReference]:
    if not re.fullmatch(r"https?://\S+", url):
        return []
    return [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(url))]


def _distribution(files: RootFiles) -> str:
    """`debian-13`, as the root calls itself."""
    text = files.text("etc/os-release") or files.text("usr/lib/os-release") or ""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    told = {name: value.strip("\"'") for name, value in fields.items()}
    return "-".join(each for each in (told.get("ID", "debian"), told.get("VERSION_ID")) if each)


def main(arguments: list[str]) -> int:
    """`python -m image sbom`."""
    asked = argparse.ArgumentParser(prog="image sbom", description=__doc__)
    asked.add_argument("root", type=Path, help="the root file system's folder or tar")
    asked.add_argument("out", type=Path)
    asked.add_argument("--profile", default="debian")
    asked.add_argument("--version", required=True)
    asked.add_argument("--epoch", type=int, required=True, help="SOURCE_DATE_EPOCH")
    asked.add_argument("--lock", type=Path, default=Path("locks/appliance.txt"))
    asked.add_argument("--wheels", type=Path)
    asked.add_argument("--deb", type=Path, action="append", default=[])
    given = asked.parse_args(arguments)
    try:
        write_sbom(
            given.root,
            given.out,
            image=ImageName(given.profile, given.version, given.epoch),
            lock=given.lock,
            wheels=given.wheels,
            debs=given.deb,
        )
    except (NoPackagesError, NotLockedError, NotValidError) as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    return 0
