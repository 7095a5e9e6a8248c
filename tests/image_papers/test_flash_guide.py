"""The commands of docs/flash.md and docs/image.md that check and sign a release, typed."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh checked\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> str:
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert blocks
    return "set -e\n" + "".join(blocks)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """What a build leaves, signed as docs/image.md says, by keys made as it says."""
    return signed(tmp_path / "release")


def signed(folder: Path) -> Path:
    folder.mkdir()
    (folder / "railtix-debian-1.img").write_bytes(b"an image")
    sums = subprocess.run(
        ["sha256sum", "railtix-debian-1.img"], cwd=folder, check=True, capture_output=True
    ).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    said = typed("image.md", folder)
    assert said.returncode == 0, said.stderr
    return folder


def typed(page: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", commands(page)], cwd=folder, check=False, capture_output=True, text=True
    )


def test_a_release_is_checked_by_the_guides_own_commands(release: Path) -> None:
    said = typed("flash.md", release)
    assert said.returncode == 0
    assert "CMS Verification successful" in said.stderr
    assert "railtix-debian-1.img: OK" in said.stdout


def test_a_changed_image_is_noticed(release: Path) -> None:
    (release / "railtix-debian-1.img").write_bytes(b"another image")
    assert "railtix-debian-1.img: FAILED" in typed("flash.md", release).stdout


def test_changed_hashes_are_noticed_before_any_file_is_compared(release: Path) -> None:
    sums = release / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(sums.read_text()[:8], "00000000"))
    said = typed("flash.md", release)
    assert said.returncode != 0
    assert "OK" not in said.stdout


def test_hashes_that_somebody_else_signed_are_noticed(release: Path, tmp_path: Path) -> None:
    theirs = signed(tmp_path / "theirs")
    (theirs / "authority.pem").write_bytes((release / "authority.pem").read_bytes())
    said = typed("flash.md", theirs)
    assert said.returncode != 0
    assert "OK" not in said.stdout
