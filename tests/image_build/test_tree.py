from pathlib import Path

import pytest

from image.build import keeping, wheels
from image.build.faults import BuildFault
from image.build.plan import REPOSITORY
from image.build.progress import Progress
from image.build.tree import lay_over
from image.build.version import of_checkout


def test_an_overlays_file_replaces_a_link_and_a_link_a_file(tmp_path: Path) -> None:
    tree, overlay = tmp_path / "tree", tmp_path / "overlay"
    for folder in (tree, overlay):
        (folder / "etc").mkdir(parents=True)
    (tree / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tree / "etc/nftables.conf").symlink_to("/dev/null")
    (overlay / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    (overlay / "etc/nftables.conf").write_text("flush ruleset\n")

    lay_over(tree, overlay)

    assert (tree / "etc/resolv.conf").readlink() == Path("/run/resolv.conf")
    assert not (tree / "etc/nftables.conf").is_symlink()
    assert (tree / "etc/nftables.conf").read_text() == "flush ruleset\n"


def test_an_overlay_leaves_programs_programs_and_nothing_else_is_one(tmp_path: Path) -> None:
    tree, overlay = tmp_path / "tree", tmp_path / "overlay"
    (overlay / "usr/bin").mkdir(parents=True)
    (overlay / "usr/bin/tell").write_text("#!/bin/sh\n")
    (overlay / "usr/bin/tell").chmod(0o700)
    (overlay / "usr/notes").write_text("x")
    (overlay / "usr/notes").chmod(0o600)

    lay_over(tree, overlay)

    assert (tree / "usr/bin/tell").stat().st_mode & 0o777 == 0o755
    assert (tree / "usr/notes").stat().st_mode & 0o777 == 0o644


def test_an_appliance_has_the_firmware_and_none_of_the_cloud(tmp_path: Path) -> None:
    info = tmp_path / "railtix_credits-1.dist-info"
    info.mkdir()
    for name in ("device", "cloud", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (info / "RECORD").write_text(
        "device/__init__.py,sha256=x,0\ncloud/__init__.py,sha256=x,0\n"
        "railtix_credits-1.dist-info/RECORD,,\n../../bin/railtix-cloud,sha256=x,1\n"
    )
    (info / "entry_points.txt").write_text(
        "[console_scripts]\n"
        "railtix-cloud = cloud.__main__:main\n"
        "railtix-pos = device.__main__:main\n"
    )

    wheels.keep_only(tmp_path, "railtix_credits", ("device",))

    assert {path.name for path in tmp_path.iterdir()} == {"device", "other", info.name}
    assert "cloud" not in (info / "RECORD").read_text()
    assert (info / "entry_points.txt").read_text().splitlines() == [
        "[console_scripts]",
        "railtix-pos = device.__main__:main",
    ]


def test_the_lock_is_split_without_losing_a_package() -> None:
    lock = REPOSITORY / wheels.LOCK
    ready, compiled = wheels.requirements(lock)
    names = [line for line in (ready + compiled).splitlines() if "==" in line]
    assert sorted(names) == sorted(line for line in lock.read_text().splitlines() if "==" in line)
    assert [line.split("==")[0] for line in compiled.splitlines() if "==" in line] == [
        *wheels.COMPILED
    ]


def test_every_package_of_the_firmware_is_locked_by_its_hash() -> None:
    for part in wheels.requirements(REPOSITORY / wheels.LOCK):
        packages = [block for block in part.split("\n\n") if block]
        assert all("--hash=sha256:" in block for block in packages)


def test_what_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    kept = keeping.Kept(tmp_path, Progress())
    first = kept.get("thing", "thing", "a", lambda at: _write(at, "first"))
    again = kept.get("thing", "thing", "a", lambda at: _write(at, "second"))
    assert first == again
    assert again.read_text() == "first"


def test_a_thing_half_made_is_never_taken_for_whole(tmp_path: Path) -> None:
    kept = keeping.Kept(tmp_path, Progress())

    def fail(at: Path) -> None:
        at.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        kept.get("thing", "thing", "a", fail)
    made = kept.get("thing", "thing", "a", lambda at: _write(at, "whole"))
    assert made.read_text() == "whole"


def test_an_older_thing_makes_room_and_another_kind_stays(tmp_path: Path) -> None:
    kept = keeping.Kept(tmp_path, Progress())
    kept.get("thing", "root-debian", "a", lambda at: _write(at, "1"))
    kept.get("thing", "root-rpios", "a", lambda at: _write(at, "2"))
    kept.get("thing", "root-debian", "b", lambda at: _write(at, "3"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root-debian-b", "root-rpios-a"]


def test_parts_that_only_run_together_make_another_key() -> None:
    assert keeping.key("ab", "c") != keeping.key("a", "bc")


@pytest.mark.parametrize("wanted", ["a b", "../x", "-v", "ä", "x" * 65, "1;reboot"])
def test_a_version_that_would_not_be_a_file_name_is_refused(wanted: str) -> None:
    with pytest.raises(BuildFault, match="is no version"):
        of_checkout(REPOSITORY, wanted)


def _write(at: Path, text: str) -> None:
    at.write_text(text)
