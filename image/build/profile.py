"""What an image is made of, as its profile's file says it."""

import re
from pathlib import Path

import msgspec

from image.build.faults import BuildFault

PROFILES = Path(__file__).parent.parent / "profiles"

DEBIAN_MIRROR = "http://deb.debian.org/debian"
DEBIAN_SECURITY_MIRROR = "http://deb.debian.org/debian-security"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where packages come from; `uri` may hold {mirror}, {security_mirror} or {archive}."""

    uri: str
    suite: str
    components: list[str]
    signed_by: str = ""  # "{archive_keyring}", or empty: Debian's own


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Packages taken from a release that apt would else leave alone."""

    packages: list[str]
    release: str
    why: str
    priority: int = 900


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of image. `packages`, `excluded` and `modules` say why each of them is there."""

    name: str
    title: str
    kernel: str
    arguments: list[str]
    config_txt: list[str]
    sources: list[Source]
    pins: list[Pin]
    packages: dict[str, str]
    excluded: dict[str, str]
    modules: dict[str, str]

    @property
    def compatible(self) -> str:
        """What a bundle and an appliance must share for the one to go into the other (RAUC)."""
        return f"railtix-pos-{self.name}"

    @property
    def needs_archive(self) -> bool:
        return any("{archive}" in source.uri for source in self.sources)


class Mirrors(msgspec.Struct, frozen=True):
    """Where this build takes packages from."""

    debian: str = DEBIAN_MIRROR
    security: str = DEBIAN_SECURITY_MIRROR
    archive: str = ""
    archive_keyring: str = ""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str = ""
    kernel: str = ""
    arguments: list[str] = []
    config_txt: list[str] = []
    sources: list[Source] = []
    pins: list[Pin] = []
    packages: dict[str, str] = {}
    excluded: dict[str, str] = {}
    modules: dict[str, str] = {}


def names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.toml") if path.stem != "appliance")


def load(name: str, *, kernel: str = "", folder: Path = PROFILES) -> Profile:
    """`NAME.toml` laid over what every appliance has (`appliance.toml`).

    Raises:
        BuildFault: there is no such profile, or its file is wrong.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", name) or not (folder / f"{name}.toml").is_file():
        raise BuildFault(
            f"there is no profile {name!r}", f"choose one of these: {', '.join(names())}"
        )
    every = _read(folder / "appliance.toml")
    own = _read(folder / f"{name}.toml")
    return Profile(
        name=name,
        title=own.title,
        kernel=kernel or own.kernel,
        arguments=every.arguments + own.arguments,
        config_txt=every.config_txt + own.config_txt,
        sources=every.sources + own.sources,
        pins=every.pins + own.pins,
        packages=every.packages | own.packages,
        excluded=every.excluded | own.excluded,
        modules=every.modules | own.modules,
    )


def _read(path: Path) -> _Part:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_Part)
    except msgspec.DecodeError as error:
        raise BuildFault(f"{path.name}: {error}", "mend the profile's file") from error


def source_lines(profile: Profile, mirrors: Mirrors) -> list[str]:
    """apt's one-line sources, which mmdebstrap takes as they are."""
    lines: list[str] = []
    for source in profile.sources:
        uri = source.uri.format(
            mirror=mirrors.debian, security_mirror=mirrors.security, archive=mirrors.archive
        )
        options = ""
        if source.signed_by:
            keyring = source.signed_by.format(archive_keyring=mirrors.archive_keyring)
            options = f"[signed-by={keyring}] "
        lines.append(f"deb {options}{uri} {source.suite} {' '.join(source.components)}")
    return lines


def preferences(profile: Profile) -> str:
    """apt's pins: only these packages come from a release that is not the default."""
    return "\n".join(
        f"# {pin.why}\nPackage: {' '.join(pin.packages)}\n"
        f"Pin: release {pin.release}\nPin-Priority: {pin.priority}\n"
        for pin in profile.pins
    )
