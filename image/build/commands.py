"""What a person asks the builder for, step by step."""

import argparse
import hashlib
from pathlib import Path

from image.build import keeping, keys
from image.build.faults import BuildFault
from image.build.keys import SigningKeys
from image.build.plan import REPOSITORY, Base, Build, Wanted, build_folder, stem
from image.build.profile import Mirrors, Profile
from image.build.progress import Progress
from image.build.tools import FIRMWARE_DEBS
from image.build.version import of_checkout
from image.build.wheels import LOCK


def build(profile: Profile, mirrors: Mirrors, options: argparse.Namespace) -> None:
    """An image, its bundle, its bill of materials, its notes and their checksums."""
    progress = Progress()
    this = Build(build_folder(), progress)
    version = of_checkout(REPOSITORY, options.version)
    wanted = Wanted(profile, mirrors, version, _signing(options))
    progress.say(f"Image {stem(wanted)}")
    with this.alone():
        signing = wanted.keys or this.development_keys()
        base = this.make_base(profile, mirrors)
        work = this.folder / "work"
        work.mkdir(exist_ok=True)
        this.make_slot(wanted, base, work, signing.keyring)
        made = [this.make_image(wanted, base, work, f"{stem(wanted)}.img")]
        if not options.no_bundle:
            made.append(this.make_bundle(wanted, base, work, signing, f"{stem(wanted)}.raucb"))
        if not options.no_papers:
            made += _papers(this, wanted, base, work, made)
        with progress.step("checksums"):
            _checksums(this.folder, made)
        (this.folder / "LATEST").write_text(f"{stem(wanted)}\n")
        for left in ("tree", "own", "boot", "root.tar", "boot.vfat"):
            keeping.remove(work / left)
    progress.say(f"In {this.folder}, after {progress.seconds:.0f} s:")
    for path in made:
        progress.say(f"  {path.stat().st_size / 1e6:7.1f} MB  {path.name}")


def bundle(profile: Profile, mirrors: Mirrors, options: argparse.Namespace) -> None:
    """A bundle of the same packages with other files over them, another version, or other keys."""
    progress = Progress()
    this = Build(build_folder(), progress)
    version = of_checkout(REPOSITORY, options.version)
    overlays = [Path(folder) for folder in options.overlay]
    for overlay in overlays:
        if not overlay.is_dir():
            raise BuildFault(f"{overlay} is no folder", "Name a folder laid out like the root.")
    wanted = Wanted(profile, mirrors, version, _signing(options), overlays)
    name = f"{stem(wanted)}{f'-{options.variant}' if options.variant else ''}.raucb"
    with this.alone():
        # An image believes its own authority, whoever signs this bundle.
        image_keys = this.development_keys()
        signing = wanted.keys or image_keys
        base = this.make_base(profile, mirrors)
        work = this.folder / f"work-{options.variant or 'bundle'}"
        work.mkdir(exist_ok=True)
        this.make_slot(wanted, base, work, image_keys.keyring)
        made = this.make_bundle(wanted, base, work, signing, name)
        keeping.remove(work)
    progress.say(str(made))


def make_tools(mirrors: Mirrors) -> None:
    this = Build(build_folder(), Progress())
    with this.alone():
        tools = this.make_tools(mirrors)
    this.progress.say(str(tools.tree))


def make_keys(out: str) -> None:
    folder = Path(out) if out else build_folder() / "keys"
    made = keys.development(folder)
    Progress().say(
        f"{made.key}\n{made.certificate}\n{made.keyring}\nFor development: a release is signed by a"
        " key that no build machine holds (--signing-key, --signing-certificate, --keyring)."
    )


def _signing(options: argparse.Namespace) -> SigningKeys | None:
    given = (options.signing_key, options.signing_certificate, options.keyring)
    if not any(given):
        return None
    if not all(given):
        raise BuildFault(
            "a release's keys are given whole",
            "Name all three: --signing-key, --signing-certificate and --keyring.",
        )
    for path in given:
        if not path.startswith("pkcs11:") and not Path(path).is_file():
            raise BuildFault(f"{path} is not there", "Name the file it lies in.")
    return SigningKeys(options.signing_key, options.signing_certificate, Path(options.keyring))


def _papers(this: Build, wanted: Wanted, base: Base, work: Path, made: list[Path]) -> list[Path]:
    # Here: a bundle needs no papers, and their library takes a second to load.
    from image.papers.notes import write_notes  # noqa: PLC0415
    from image.papers.sbom import ImageName, write_sbom  # noqa: PLC0415

    sbom = this.folder / f"{stem(wanted)}-sbom.cdx.json"
    notes = this.folder / f"{stem(wanted)}-notes.md"
    with this.progress.step("bill of materials, notes"):
        write_sbom(
            work / "tree",
            sbom,
            image=ImageName(wanted.profile.name, wanted.version.text, wanted.version.epoch),
            lock=REPOSITORY / LOCK,
            wheels=base.wheels,
            debs=sorted((base.tools.tree / FIRMWARE_DEBS).glob("*.deb")),
        )
        write_notes(sbom, notes, changelog=REPOSITORY / "CHANGELOG.md", files=made, previous=None)
    return [sbom, notes]


def _checksums(folder: Path, made: list[Path]) -> None:
    lines: list[str] = []
    for path in sorted(made):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
