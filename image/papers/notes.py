"""An image's release notes: what is new for people, what is new in it, and its files' hashes."""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# What whoever looks after appliances asks after first, by the package that tells it.
_NAMED: Final = (
    ("RailTix Credits", r"railtix-credits"),
    ("Linux", r"linux-image-\d.*"),
    ("U-Boot", r"u-boot-rpi"),
    ("Raspberry Pi firmware", r"raspi-firmware"),
    ("Wi-Fi firmware", r"firmware-brcm80211"),
    ("libcamera", r"libcamera-ipa"),
    ("RAUC", r"rauc"),
    ("systemd", r"systemd"),
    ("NetworkManager", r"network-manager"),
    ("OpenSSL", r"libssl3.*"),
    ("Python", r"python3\.\d+"),
)
# A kernel's package is called after its version: its update is no new package.
_RENAMED: Final = re.compile(r"(linux-(?:image|base|headers))-\d[\w.+~-]*")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Changes:
    """Between two bills: `name` or `name old -> new`, by name."""

    changed: list[str]
    added: list[str]
    removed: list[str]


def write_notes(
    sbom: Path,
    out: Path,
    *,
    changelog: Path,
    files: Sequence[Path],
    previous: Path | None = None,
) -> Path:
    """As Markdown. `files` are those that people download; `previous` is an older bill."""
    bill = json.loads(sbom.read_text("utf-8"))
    before = None if previous is None else json.loads(previous.read_text("utf-8"))
    text = notes(bill, before, changelog.read_text("utf-8"), [_file(path) for path in files])
    out.write_text(text, encoding="utf-8")
    return out


@dataclass(frozen=True)
class Downloaded:
    name: str
    size_bytes: int
    sha256: str


def notes(
    bill: dict[str, Any],
    previous: dict[str, Any] | None,
    changelog: str,
    files: Sequence[Downloaded],
) -> str:
    whole = bill["metadata"]["component"]
    made_at = bill["metadata"]["timestamp"][:16].replace("T", " ")
    paragraphs = [
        f"# {whole['name']} {whole['version']}",
        f"Made of the sources of {made_at} UTC.",
        "How to check and flash it: docs/flash.md. How appliances are updated: docs/updates.md.",
        "## Files",
        _table(
            ("file", "MB", "SHA-256"),
            [(f"`{each.name}`", f"{each.size_bytes / 1e6:.1f}", each.sha256) for each in files],
        ),
        "## In it",
        _table(("", "version"), list(_versions(bill))),
        f"{len(bill['components'])} packages in all; the bill of materials names them.",
    ]
    if previous is not None:
        paragraphs += list(_since(previous, bill))
    paragraphs += ["## Changes", section_of(changelog, whole["version"])]
    return "\n\n".join(paragraphs) + "\n"


def section_of(changelog: str, version: str) -> str:
    """The version's own section (`0.1.0+...` is 0.1.0's), else what is not released yet."""
    release = version.partition("+")[0]
    for wanted in (release, "Unreleased"):
        found = re.search(
            rf"^## \[{re.escape(wanted)}\][^\n]*\n(.*?)(?=^## |\Z)",
            changelog,
            re.MULTILINE | re.DOTALL,
        )
        if found is not None and found[1].strip():
            return found[1].strip()
    return "None that the changelog names."


def changes(before: dict[str, Any], after: dict[str, Any]) -> Changes:
    old, new = _by_name(before), _by_name(after)
    return Changes(
        changed=[
            f"{name} {old[name]} → {new[name]}"
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        ],
        added=[f"{name} {new[name]}" for name in sorted(new.keys() - old.keys())],
        removed=[f"{name} {old[name]}" for name in sorted(old.keys() - new.keys())],
    )


def _by_name(bill: dict[str, Any]) -> dict[str, str]:
    """Versions, joined where a package is there for two architectures."""
    found: dict[str, set[str]] = {}
    for each in bill["components"]:
        kind = each["purl"].partition("/")[0].removeprefix("pkg:")
        name = _RENAMED.sub(r"\1", each["name"])
        told = f"{name} (Python)" if kind == "pypi" else name
        found.setdefault(told, set()).add(each["version"])
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _since(previous: dict[str, Any], bill: dict[str, Any]) -> Iterator[str]:
    found = changes(previous, bill)
    yield f"## Since {previous['metadata']['component']['version']}"
    for title, names in (
        ("Changed", found.changed),
        ("New", found.added),
        ("Gone", found.removed),
    ):
        if names:
            yield f"{title}:\n\n" + "\n".join(f"- {name}" for name in names)
    if not (found.changed or found.added or found.removed):
        yield "The same packages in the same versions."


def _versions(bill: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for title, pattern in _NAMED:
        told = sorted(
            {each["version"] for each in bill["components"] if re.fullmatch(pattern, each["name"])}
        )
        if told:
            yield title, ", ".join(told)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _file(path: Path) -> Downloaded:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return Downloaded(path.name, path.stat().st_size, digest.hexdigest())


def main(arguments: list[str]) -> int:
    """`python -m image notes`."""
    asked = argparse.ArgumentParser(prog="image notes", description=__doc__)
    asked.add_argument("sbom", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("files", type=Path, nargs="*", help="what people download")
    asked.add_argument("--changelog", type=Path, default=Path("CHANGELOG.md"))
    asked.add_argument("--previous", type=Path, help="the bill of materials of the image before")
    given = asked.parse_args(arguments)
    write_notes(
        given.sbom,
        given.out,
        changelog=given.changelog,
        files=given.files,
        previous=given.previous,
    )
    return 0
