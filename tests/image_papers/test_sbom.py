import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from image.papers import sbom
from image.papers.debian_licences import licences_of, spdx_of
from image.papers.debian_packages import NoPackagesError, package_of
from image.papers.python_packages import NotLockedError
from image.papers.root_files import RootFiles
from image.papers.sbom import ImageName, NotValidError, write_sbom

IMAGE = ImageName("debian", "0.1.0+202606202147", 1_781_990_820)
LIBGCC = (
    "pkg:deb/debian/libgcc-s1@1:14.2.0-19%2Bb1?arch=arm64&distro=debian-13"
    "&upstream=gcc-14%4014.2.0-19"
)
ROOT = Path(__file__).parents[2]


def written(root: Path, lock: Path, out: Path, **more: Any) -> dict[str, Any]:
    return json.loads(write_sbom(root, out, image=IMAGE, lock=lock, **more).read_text("utf-8"))


def components(bill: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in bill["components"]}


def test_each_package_and_distribution_is_there_once_and_nothing_that_was_removed(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    bill = written(root, lock, tmp_path / "bill.json")
    purls = [each["purl"] for each in bill["components"]]
    assert len(purls) == 7
    assert set(purls) == {
        # Nobody finds it in a registry, where somebody else might call something the same.
        "pkg:generic/railtix-credits@0.1.0",
        "pkg:deb/debian/libc6@2.41-12?arch=arm64&distro=debian-13&upstream=glibc",
        LIBGCC,
        "pkg:deb/debian/rauc@1.13-1?arch=arm64&distro=debian-13",
        "pkg:pypi/lgpio@0.2.2.0",
        "pkg:pypi/msgspec@0.21.0",
        "pkg:pypi/python-escpos@3.1",
    }
    whole = bill["metadata"]["component"]
    assert (whole["name"], whole["version"]) == ("railtix-pos-debian", IMAGE.version)
    assert bill["metadata"]["timestamp"] == "2026-06-20T21:27:00+00:00"


def test_a_bill_is_the_same_bytes_from_folder_and_tar_whatever_the_hash_seed(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "root.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, arcname=".")
    write_sbom(root, tmp_path / "0", image=IMAGE, lock=lock)
    for seed, held in (("1", root), ("2", archive)):
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from image.papers import sbom; sys.exit(sbom.main(sys.argv[1:]))",
                *(str(held), str(tmp_path / seed), "--lock", str(lock)),
                *("--version", IMAGE.version, "--epoch", str(IMAGE.epoch_s)),
            ],
            check=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": "Pacific/Apia"},
        )
    assert len({(tmp_path / name).read_bytes() for name in "012"}) == 1


def test_a_bill_with_one_thing_more_has_another_serial_number(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    before = written(root, lock, tmp_path / "before.json")
    with (root / "var/lib/dpkg/status").open("a") as status:
        status.write("\nPackage: one\nStatus: install ok installed\nVersion: 1\n")
    after = written(root, lock, tmp_path / "after.json")
    assert before["serialNumber"] != after["serialNumber"]
    assert "one" in components(after)


def test_dependencies_are_those_of_the_appliance_and_not_of_this_machine(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    bill = written(root, lock, tmp_path / "bill.json")
    names = {each["bom-ref"]: each["name"] for each in bill["components"]}
    needs = {
        names.get(each["ref"], "whole"): {names[ref] for ref in each.get("dependsOn", [])}
        for each in bill["dependencies"]
    }
    # Through what libgcc-s1 provides; dbus is not in this root.
    assert needs["rauc"] == {"libc6", "libgcc-s1"}
    assert needs["railtix-credits"] == {"python-escpos", "lgpio"}
    assert needs["whole"] == set(names.values())


def test_a_wheel_that_was_unpacked_is_named_by_its_hash_and_one_built_here_says_so(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "msgspec-0.21.0-cp313-cp313-manylinux_2_28_aarch64.whl").write_bytes(b"made")
    (wheels / "lgpio-0.2.2.0-cp313-cp313-linux_aarch64.whl").write_bytes(b"built")
    sha256 = hashlib.sha256(b"made").hexdigest()
    lock.write_text(lock.read_text().replace("f" * 64, sha256))
    found = components(written(root, lock, tmp_path / "bill.json", wheels=wheels))
    assert found["msgspec"]["hashes"] == [{"alg": "SHA-256", "content": sha256}]
    assert "properties" not in found["msgspec"]
    built = {each["name"] for each in found["lgpio"]["properties"]}
    assert built == {"railtix:built-here", "railtix:locked-sha256"}
    assert "hashes" not in found["python-escpos"]


def test_what_the_lock_does_not_name_is_refused_by_name(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    lock.write_text(lock.read_text().replace("lgpio==0.2.2.0", "lgpio==0.2.2.1"))
    with pytest.raises(NotLockedError, match=r"lgpio==0\.2\.2\.0 is in the image"):
        written(root, lock, tmp_path / "bill.json")


def test_a_root_without_packages_has_no_bill(root: Path, lock: Path, tmp_path: Path) -> None:
    (root / "var/lib/dpkg/status").write_text("")
    with pytest.raises(NoPackagesError):
        written(root, lock, tmp_path / "bill.json")
    assert sbom.main([str(root), str(tmp_path / "x"), "--version", "1", "--epoch", "0"]) == 1
    assert not (tmp_path / "x").exists()


def test_what_is_not_cyclonedx_is_never_written(
    root: Path, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[str], dict[str, Any]] = json.loads

    def other(text: str) -> dict[str, Any]:
        return real(text) | {"bomFormat": "other"}

    monkeypatch.setattr(json, "loads", other)
    with pytest.raises(NotValidError):
        write_sbom(root, tmp_path / "bill.json", image=IMAGE, lock=lock)
    assert not (tmp_path / "bill.json").exists()


def test_a_package_whose_files_were_unpacked_by_hand_is_in_the_bill(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    deb = package(tmp_path, "raspi-firmware", DEP5)
    assert package_of(deb).licences is not None
    found = components(written(root, lock, tmp_path / "bill.json", debs=[deb]))
    firmware = found["raspi-firmware"]
    assert firmware["type"] == "firmware"
    assert "railtix:unpacked" in {each["name"] for each in firmware["properties"]}
    assert "licenses" in firmware


def test_a_package_file_without_a_copyright_says_so(root: Path, lock: Path, tmp_path: Path) -> None:
    deb = package(tmp_path, "u-boot-rpi", None)
    told = components(written(root, lock, tmp_path / "bill.json", debs=[deb]))["u-boot-rpi"]
    assert {"name": "railtix:copyright", "value": "no file"} in told["properties"]


def package(folder: Path, name: str, text: str | None) -> Path:
    made = folder / name
    (made / "DEBIAN").mkdir(parents=True)
    (made / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.2\nArchitecture: all\nMaintainer: A <a@example.org>\n"
        "Description: made up\n"
    )
    if text is not None:
        (made / "usr/share/doc" / name).mkdir(parents=True)
        (made / "usr/share/doc" / name / "copyright").write_text(text)
    deb = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--build", made, deb], check=True, capture_output=True)
    return deb


def test_licences_are_spdx_where_all_of_them_are(root: Path, lock: Path, tmp_path: Path) -> None:
    found = components(written(root, lock, tmp_path / "bill.json"))
    assert found["rauc"]["licenses"] == [
        {
            "acknowledgement": "declared",
            "expression": "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND LGPL-2.1-or-later AND MIT",
        }
    ]
    assert found["python-escpos"]["licenses"][0]["license"]["id"] == "MIT"
    assert found["msgspec"]["licenses"][0]["expression"] == "BSD-3-Clause AND MIT"
    assert found["lgpio"]["licenses"][0]["license"]["name"] == "unlicense.org"


def test_a_copyright_that_only_people_can_read_is_no_verdict(
    root: Path, lock: Path, tmp_path: Path
) -> None:
    gcc = components(written(root, lock, tmp_path / "bill.json"))["libgcc-s1"]
    assert "licenses" not in gcc
    assert {
        "name": "railtix:copyright",
        "value": "free text, mentions LGPL-2.1",
    } in gcc["properties"]


@pytest.mark.parametrize(
    ("debian", "spdx"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-3.0+", "GPL-3.0-or-later"),
        ("LGPLv2.1+", "LGPL-2.1-or-later"),
        ("AGPL-3+", "AGPL-3.0-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with OpenSSL exception", None),
        ("GPL-2.0-only WITH Linux-syscall-note", "GPL-2.0-only WITH Linux-syscall-note"),
        ("GPL", None),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("Expat", "MIT"),
        ("public-domain", None),
    ],
)
def test_debians_short_names_become_spdx_or_stay(debian: str, spdx: str | None) -> None:
    assert spdx_of(debian) == spdx


def test_or_binds_closer_than_and_after_a_comma_in_whatever_case() -> None:
    text = DEP5.replace("License: LGPL-2.1+", "License: GPL-2.0+ OR BSD-2-Clause AND MIT", 1)
    told = licences_of(text)
    assert told.expression == (
        "(GPL-2.0-or-later OR Artistic-1.0-Perl) AND "
        "(GPL-2.0-or-later OR BSD-2-Clause AND MIT) AND MIT"
    )


def test_a_licence_that_spdx_does_not_have_keeps_the_others_from_no_one() -> None:
    text = DEP5.replace("License: LGPL-2.1+", "License: public-domain", 1)
    told = licences_of(text)
    assert told.expression is None
    assert told.names == ("(GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT", "public-domain")


def test_a_link_out_of_the_root_leads_nowhere() -> None:
    files = RootFiles({}, {"etc/os-release": "../../../../etc/passwd", "a": "b", "b": "a"})
    assert files.text("etc/os-release") is None
    assert files.text("a") is None


DEP5 = (
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
    "Files: *\nCopyright: 2015 somebody\nLicense: LGPL-2.1+\n\n"
    "Files: debian/*\nCopyright: 2016 another\nLicense: GPL-2+ or Artistic, and Expat\n"
)
