from pathlib import Path

import pytest

from image.build.faults import BuildFault, remedy_for
from image.build.profile import Mirrors, load, names, preferences, source_lines
from image.build.root import mmdebstrap

ARCHIVE = Mirrors(archive="https://archive.test/debian", archive_keyring="/keys/archive.gpg")


@pytest.mark.parametrize("name", ["debian", "rpios"])
def test_every_package_of_a_profile_says_why_it_is_there(name: str) -> None:
    profile = load(name)
    reasons = [*profile.packages.values(), *profile.excluded.values(), *profile.modules.values()]
    assert all(reasons)


@pytest.mark.parametrize("name", ["debian", "rpios"])
def test_no_image_has_a_way_in(name: str) -> None:
    packages = set(load(name).packages)
    assert not packages & {"openssh-server", "dropbear", "sudo", "telnetd", "ifupdown"}


def test_the_profiles_are_debian_and_rpios() -> None:
    assert names() == ["debian", "rpios"]


def test_only_the_raspberry_pi_archive_is_signed_by_a_key_of_its_own() -> None:
    lines = source_lines(load("rpios"), ARCHIVE)
    assert [line for line in lines if "signed-by" in line] == [
        "deb [signed-by=/keys/archive.gpg] https://archive.test/debian trixie main"
    ]
    assert not [line for line in source_lines(load("debian"), ARCHIVE) if "archive" in line]


def test_the_whole_raspberry_pi_archive_stands_behind_debian() -> None:
    blocks = preferences(load("rpios")).split("\n\n")
    everything = next(block for block in blocks if "Package: *\n" in block)
    assert "Pin-Priority: 90" in everything


def test_another_mirror_takes_debians_place() -> None:
    mirrors = Mirrors("https://mirror.test/debian", "https://mirror.test/security")
    lines = source_lines(load("debian"), mirrors)
    assert all(" https://mirror.test/" in line for line in lines)


def test_another_kernel_can_be_named() -> None:
    profile = load("rpios", kernel="linux-image-rpi-2712")
    included = next(
        word for word in mmdebstrap(profile, ARCHIVE, []) if word.startswith("--include=")
    )
    assert included.endswith(",linux-image-rpi-2712")


def test_licences_stay_in_an_image_without_manuals() -> None:
    command = mmdebstrap(load("debian"), Mirrors(), [])
    without = command.index("--dpkgopt=path-exclude=/usr/share/doc/*")
    assert command.index("--dpkgopt=path-include=/usr/share/doc/*/copyright") > without


def test_how_the_builder_reaches_its_mirror_is_taken_out_of_the_image() -> None:
    command = mmdebstrap(load("debian"), Mirrors(), ['Acquire::http::Proxy "http://proxy.test";'])
    assert '--aptopt=Acquire::http::Proxy "http://proxy.test";' in command
    assert any("rm -f" in word and "99mmdebstrap" in word for word in command)


@pytest.mark.parametrize("name", ["", "windows", "../debian", "appliance/x"])
def test_a_profile_that_does_not_exist_is_refused_by_name(name: str) -> None:
    with pytest.raises(BuildFault) as refused:
        load(name)
    assert "debian, rpios" in refused.value.remedy


def test_a_misspelt_setting_of_a_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "appliance.toml").write_text('titel = "x"\n')
    (tmp_path / "other.toml").write_text("")
    with pytest.raises(BuildFault, match="titel"):
        load("other", folder=tmp_path)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cp: write error: No space left on device", "RAILTIX_IMAGE_FOLDER"),
        ("E: Failed to fetch http://mirror.test/x  Could not connect", "--mirror"),
        ("ERROR: No matching distribution found for lgpio==0.2.2.0", "pip config"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "find out why"),
        ("chroot: cannot execute binary file: Exec format error", "binfmt_misc"),
        ("something nobody foresaw", "last lines"),
    ],
)
def test_a_failed_step_says_what_to_do_next(said: str, advice: str) -> None:
    assert advice in remedy_for(said)
