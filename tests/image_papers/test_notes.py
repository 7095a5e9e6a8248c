import hashlib
import json
from pathlib import Path
from typing import Any

from image.papers import notes as papers
from image.papers.notes import Changes, changes, section_of, write_notes

CHANGELOG = """\
# Changelog

## [Unreleased]

### Added

- Something for tomorrow.

## [0.2.0] - 2026-06-20

### Fixed

- The light.

## [0.1.0] - 2026-06-01

- The first.
"""


def bill(version: str, **packages: str) -> dict[str, Any]:
    return {
        "metadata": {
            "timestamp": "2026-06-20T21:27:00+00:00",
            "component": {"name": "railtix-pos-debian", "version": version},
        },
        "components": [
            {"name": name, "version": each, "purl": f"pkg:deb/debian/{name}@{each}"}
            for name, each in packages.items()
        ],
    }


def test_notes_name_each_file_with_its_hash_and_what_runs_in_it(tmp_path: Path) -> None:
    image, sbom = tmp_path / "railtix-debian-0.2.0.img", tmp_path / "sbom.json"
    image.write_bytes(b"an image")
    sbom.write_text(json.dumps(bill("0.2.0+202606202127", rauc="1.13-1", systemd="257.8-1")))
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(CHANGELOG)
    made = write_notes(sbom, tmp_path / "notes.md", changelog=changelog, files=[image])
    text = made.read_text("utf-8")
    assert text.startswith("# railtix-pos-debian 0.2.0+202606202127\n")
    sha256 = hashlib.sha256(b"an image").hexdigest()
    assert f"| `railtix-debian-0.2.0.img` | 0.0 | {sha256} |" in text
    assert "| RAUC | 1.13-1 |" in text
    assert "| systemd | 257.8-1 |" in text
    assert "2 packages in all" in text
    assert "- The light." in text
    assert "tomorrow" not in text
    assert "## Since" not in text


def test_a_version_that_the_changelog_does_not_know_tells_what_is_unreleased() -> None:
    assert "tomorrow" in section_of(CHANGELOG, "0.3.0+202607010000")
    assert section_of(CHANGELOG, "0.1.0") == "- The first."
    # A dot is a dot.
    assert "tomorrow" in section_of(CHANGELOG, "0x1.0")
    assert section_of("# Changelog\n", "1.0") == "None that the changelog names."


def test_a_new_kernel_is_a_change_and_not_a_new_package() -> None:
    before = bill("1", **{"linux-image-7.3.1+deb13-arm64": "7.3.1-1", "gone": "1", "same": "2"})
    after = bill("2", **{"linux-image-7.3.4+deb13-arm64": "7.3.4-1", "new": "1", "same": "2"})
    assert changes(before, after) == Changes(
        changed=["linux-image 7.3.1-1 → 7.3.4-1"], added=["new 1"], removed=["gone 1"]
    )


def test_a_python_distribution_is_not_debians_package_of_that_name() -> None:
    before, after = bill("1", numpy="1"), bill("2", numpy="1")
    after["components"][0]["purl"] = "pkg:pypi/numpy@1"
    assert changes(before, after) == Changes([], ["numpy (Python) 1"], ["numpy 1"])


def test_notes_after_an_image_before_say_what_changed_in_it(tmp_path: Path) -> None:
    for number, version in enumerate(("1.13-1", "1.14-1")):
        (tmp_path / f"{number}.json").write_text(json.dumps(bill(f"0.{number}.0", rauc=version)))
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(CHANGELOG)
    words = [str(tmp_path / "1.json"), str(tmp_path / "notes.md"), "--changelog", str(changelog)]
    assert papers.main([*words, "--previous", str(tmp_path / "0.json")]) == 0
    text = (tmp_path / "notes.md").read_text("utf-8")
    assert "## Since 0.0.0\n\nChanged:\n\n- rauc 1.13-1 → 1.14-1\n" in text
    assert papers.main([*words, "--previous", str(tmp_path / "1.json")]) == 0
    text = (tmp_path / "notes.md").read_text("utf-8")
    assert "The same packages in the same versions." in text
