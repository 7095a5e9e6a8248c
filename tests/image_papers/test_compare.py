import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from image.papers import compare
from image.papers.bundle_parts import NotABundleError, parts_of
from image.papers.compare import Justified, folders, judge, justified
from image.papers.disk import NotAnImageError, regions_of
from image.papers.programs import programs_of
from image.papers.trees import Difference, compared

SECTOR = 512
ROOT_SECTORS = 4096
NAME = "railtix-debian-0.1.0+202606202147"
PROGRAMS = programs_of(Path("/nonexistent"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "etc").mkdir(parents=True)
    (made / "etc/hostname").write_text("railtix\n")
    (made / "usr").mkdir()
    (made / "usr/one").write_text("1")
    (made / "usr/two").symlink_to("one")
    for path in sorted(made.rglob("*")):
        os.utime(path, (0, 0), follow_symlinks=False)
    return made


def image(tree: Path, to: Path) -> Path:
    """A table, a gap, and root-a as ext4: what `image build` makes, much smaller."""
    part = to.with_suffix(".ext4")
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", tree, part, f"{ROOT_SECTORS * SECTOR // 1024}k"],
        check=True,
        capture_output=True,
    )
    entry = struct.pack("<BBBBBBBBII", 0, 0, 0, 0, 0x83, 0, 0, 0, 8, ROOT_SECTORS)
    table = bytes(446) + bytes(16) + entry + bytes(32) + b"\x55\xaa"
    to.write_bytes(table.ljust(8 * SECTOR, b"\0") + part.read_bytes())
    part.unlink()
    return to


def copied(whole: Path, to: Path, *, byte: int | None = None, commands: str = "") -> Path:
    """The same image, but for one byte, or for what debugfs did in its root-a."""
    held = bytearray(whole.read_bytes())
    if byte is not None:
        held[byte] ^= 1
    to.write_bytes(held)
    if commands:
        script = to.with_suffix(".debugfs")
        script.write_text(commands)
        part = f"{to}?offset={8 * SECTOR}"
        subprocess.run(["debugfs", "-w", "-f", script, part], check=True, capture_output=True)
    return to


def places(one: Path, other: Path) -> list[str]:
    return [each.place for each in compare.files(one, other, PROGRAMS)]


def test_two_images_with_the_same_bytes_are_the_same(tree: Path, tmp_path: Path) -> None:
    one = image(tree, tmp_path / "a.img")
    assert compare.main([str(one), str(copied(one, tmp_path / "b.img"))]) == 0


def test_a_file_that_differs_is_named_with_what_differs(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = image(tree, tmp_path / "a.img")
    other = copied(
        one,
        tmp_path / "b.img",
        commands="set_inode_field /etc/hostname size 3\n"
        "set_inode_field /usr/one mode 0100755\nset_inode_field /usr/one mtime 86400\n"
        "unlink /usr/two\n",
    )
    assert compare.main([str(one), str(other)]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS: root-a:/etc/hostname (content)" in said
    assert "DIFFERS: root-a:/usr/one (mode 0644 and 0755, time 0 and 86400)" in said
    assert "DIFFERS: root-a:/usr/two (in the first alone)" in said
    assert "DIFFERS: root-a:(bytes)" in said
    assert not list(tmp_path.glob("compare-*"))


def test_bytes_outside_every_partition_are_compared_too(tree: Path, tmp_path: Path) -> None:
    one = image(tree, tmp_path / "a.img")
    assert places(one, copied(one, tmp_path / "b.img", byte=600)) == ["table:(bytes)"]


def test_bytes_that_no_file_holds_are_not_overlooked(tree: Path, tmp_path: Path) -> None:
    one = image(tree, tmp_path / "a.img")
    assert places(one, copied(one, tmp_path / "b.img", byte=-1)) == ["root-a:(bytes)"]


def test_images_of_different_sizes_still_say_which_files_differ(tree: Path, tmp_path: Path) -> None:
    one = image(tree, tmp_path / "a.img")
    other = copied(one, tmp_path / "b.img", commands="set_inode_field /usr/one mode 0100755\n")
    with other.open("ab") as file:
        file.write(b"more")
    assert places(one, other) == ["image:table", "root-a:/usr/one"]


def test_regions_leave_no_byte_out(tree: Path, tmp_path: Path) -> None:
    whole = image(tree, tmp_path / "a.img")
    with whole.open("ab") as file:
        file.write(b"more")
    regions = regions_of(whole)
    assert [each.name for each in regions] == ["table", "root-a", "end"]
    assert sum(each.size for each in regions) == whole.stat().st_size
    assert all(a.start + a.size == b.start for a, b in pairwise(regions))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "a.img", tmp_path / "b.img"
    one.write_bytes(b"x" * 600)
    other.write_bytes(b"y" * 600)
    with pytest.raises(NotAnImageError):
        places(one, other)
    assert compare.main([str(one), str(other)]) == 2


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a bundle's outline: a squashfs's header and content, a real signature over both."""
    folder = tmp_path_factory.mktemp("bundles")
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        ["openssl", *made, "-subj", "/CN=x", "-keyout", "key.pem", "-out", "certificate.pem"],
        check=True,
        capture_output=True,
        cwd=folder,
    )

    def make(payload: bytes = b"same") -> Path:
        number = len(list(folder.glob("*.raucb")))
        squashfs = (b"hsqs".ljust(40, b"\0") + struct.pack("<Q", 5000) + payload).ljust(8192, b"\0")
        sign = ["cms", "-sign", "-binary", "-outform", "DER"]
        signed = subprocess.run(
            ["openssl", *sign, "-signer", "certificate.pem", "-inkey", "key.pem"],
            input=squashfs,
            check=True,
            capture_output=True,
            cwd=folder,
        ).stdout
        path = folder / f"{number}.raucb"
        path.write_bytes(squashfs + signed + struct.pack(">Q", len(signed)))
        return path

    return make


def test_a_bundle_signed_at_another_time_differs_only_where_it_may(
    bundle: Callable[..., Path],
) -> None:
    found = list(compare.files(bundle(), bundle(), PROGRAMS))
    assert {each.place for each in found} == {"bundle:(signature)"}
    assert all(each.reason for each in judge(found, justified()))


def test_a_payload_has_a_hash_of_its_own(bundle: Callable[..., Path]) -> None:
    assert parts_of(bundle()).payload == parts_of(bundle()).payload
    assert parts_of(bundle()).payload != parts_of(bundle(payload=b"else")).payload


@pytest.mark.parametrize("cut", [0, 100, 5000, -1])
def test_a_bundle_cut_anywhere_is_no_bundle(
    bundle: Callable[..., Path], tmp_path: Path, cut: int
) -> None:
    shorter = tmp_path / "cut.raucb"
    shorter.write_bytes(bundle().read_bytes()[:cut])
    with pytest.raises(NotABundleError):
        parts_of(shorter)


def test_two_folders_are_compared_file_by_file(tree: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    whole = image(tree, tmp_path / "a.img")
    for folder in (one, other):
        folder.mkdir()
        copied(whole, folder / f"{NAME}.img")
        (folder / f"{NAME}-sbom.cdx.json").write_text("{}")
        (folder / "SHA256SUMS").write_text(f"{folder.name}  {NAME}.raucb\n")
        (folder / f"{NAME}-notes.md").write_text("built\n")
    assert [each.place for each in folders(one, other, PROGRAMS)] == ["sums:.raucb"]
    (other / f"{NAME}-notes.md").write_text(f"built on {other.name}\n")
    (other / f"{NAME}-sbom.cdx.json").unlink()
    found = [each.place for each in folders(one, other, PROGRAMS)]
    assert found == ["notes:line 1", "folder:-sbom.cdx.json", "sums:.raucb"]


def test_two_empty_folders_are_not_the_same_image(tmp_path: Path) -> None:
    (found,) = folders(tmp_path, tmp_path, PROGRAMS)
    assert found.place == "folder:(artefacts)"


def test_each_justified_place_has_its_reason_and_covers_no_other() -> None:
    listed = justified()
    assert all(len(each.reason) > 20 for each in listed)
    others = ["root-a:/etc/machine-id", "boot:/boot.scr", "sbom:line 3"]
    others += ["bundle:(payload)", "bundle:/manifest.raucm"]
    for place in others:
        assert not any(each.covers(Difference(place, "")) for each in listed)


def test_a_pattern_is_taken_by_its_stars_alone() -> None:
    kept = Justified("root-a:/a[1]/*", "because")
    assert kept.covers(Difference("root-a:/a[1]/b", ""))
    assert not kept.covers(Difference("root-a:/a1/b", ""))


def test_times_and_owners_are_compared(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tree, other, symlinks=True)
    os.utime(other / "usr/one", (0, 86_400))
    os.chown(other / "usr/two", os.getuid(), 4, follow_symlinks=False)
    found = {each.place: each.what for each in compared(tree, other, called="x")}
    assert found["x:/usr/one"] == "time 0 and 86400"
    assert "owner" in found["x:/usr/two"]
