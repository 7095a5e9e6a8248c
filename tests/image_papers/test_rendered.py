"""What a build of each profile would do; rpios was never built where this is tested, only this."""

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from image.__main__ import main

ARCHIVE = "https://archive.example.org/debian"
KEYRING = "/path/to/archive.gpg"
PROFILES = ("debian", "rpios")


@dataclass(frozen=True)
class Rendered:
    folder: Path

    def text(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")

    def names(self, name: str) -> set[str]:
        """Of a list with reasons, what is listed."""
        return {line.split("  # ")[0] for line in self.text(name).splitlines()}

    def everything(self) -> str:
        files = (path for path in sorted(self.folder.rglob("*")) if path.suffix != ".bin")
        # Which wheels are locked is every profile's; a hash may hold any word.
        return "\n".join(
            path.read_text("utf-8")
            for path in files
            if path.is_file() and path.name != "wheels.txt"
        )


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rendered]:
    made: dict[str, Rendered] = {}
    for name in PROFILES:
        folder = tmp_path_factory.mktemp(name)
        words = ["build", "--profile", name, "--render", str(folder), "--version", "1.2.3"]
        assert main([*words, "--archive", ARCHIVE, "--archive-keyring", KEYRING]) == 0
        made[name] = Rendered(folder)
    return made


def test_the_archive_is_believed_by_its_own_keyring_alone(rendered: dict[str, Rendered]) -> None:
    lines = rendered["rpios"].text("sources.list").splitlines()
    (archive,) = (line for line in lines if ARCHIVE in line)
    assert archive == f"deb [signed-by={KEYRING}] {ARCHIVE} trixie main"
    for line in set(lines) - {archive}:
        # No key of the archive's ever vouches for Debian's packages.
        assert "signed-by" not in line
        assert re.match(r"deb https?://\S*debian\S* trixie(-updates|-security)? ", line), line
    assert not re.search(
        "trusted|allow-insecure|AllowUnauthenticated", rendered["rpios"].everything()
    )
    assert ARCHIVE not in rendered["debian"].everything()


def test_mmdebstrap_is_told_the_same_sources_and_packages(rendered: dict[str, Rendered]) -> None:
    for each in rendered.values():
        words = shlex.split(each.text("mmdebstrap.argv"))
        assert set(each.text("sources.list").splitlines()) <= set(words)
        (included,) = (word for word in words if word.startswith("--include="))
        assert set(included.removeprefix("--include=").split(",")) == each.names("packages.txt")
        assert "--architectures=arm64" in words


def test_the_board_has_its_own_kernel_and_camera(rendered: dict[str, Rendered]) -> None:
    rpios, debian = (rendered[name].names("packages.txt") for name in ("rpios", "debian"))
    assert rpios - debian == {"linux-image-rpi-v8", "raspi-firmware", "python3-kms++"}
    assert debian - rpios == {"linux-image-arm64"}
    assert {"python3-libcamera", "libcamera-ipa", "rauc", "nftables"} <= rpios & debian


def settings(config: str) -> dict[str, str]:
    lines = [line for line in config.splitlines() if line and not line.startswith(("#", "["))]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", PROFILES)
def test_the_pis_firmware_reads_each_line_of_its_settings(
    rendered: dict[str, Rendered], name: str
) -> None:
    config = rendered[name].text("boot/config.txt")
    for line in config.splitlines():
        # The firmware reads 98 characters a line, and knows comments that begin one.
        assert len(line) <= 98
        assert line.startswith("#") or "#" not in line, line
    assert settings(config).items() >= {"arm_64bit": "1", "kernel": "u-boot.bin"}.items()


def test_the_camera_is_found_by_the_firmware_and_no_screen_is(
    rendered: dict[str, Rendered],
) -> None:
    rpios = settings(rendered["rpios"].text("boot/config.txt"))
    assert rpios["camera_auto_detect"] == "1"
    assert rpios["display_auto_detect"] == "0"
    # The firmware's own device tree, with the camera's overlay in it, is what Linux is handed.
    script = rendered["rpios"].text("boot/boot.cmd")
    assert "setenv device_tree ${fdt_addr}" in script
    assert "booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${device_tree}" in script


@pytest.mark.parametrize(
    "file",
    [
        *("overlay.txt", "boot/boot.cmd", "genimage.cfg", "fw_env.config", "wheels.txt"),
        *("60-railtix-disk.rules", "initramfs/railtix-layers", "tools.txt"),
    ],
)
def test_both_profiles_are_one_system(rendered: dict[str, Rendered], file: str) -> None:
    rpios, debian = (rendered[name].text(file) for name in ("rpios", "debian"))
    assert rpios.replace("rpios", "debian") == debian


def test_a_bundle_of_one_profile_goes_into_no_appliance_of_the_other(
    rendered: dict[str, Rendered],
) -> None:
    for name, each in rendered.items():
        wanted = f"compatible=railtix-pos-{name}\n"
        assert wanted in each.text("system.conf")
        assert wanted in each.text("manifest.raucm")


@pytest.mark.parametrize("name", PROFILES)
def test_nothing_that_only_emulation_needs_is_in_it(
    rendered: dict[str, Rendered], name: str
) -> None:
    shims = "gpio-sim|gpio_sim|dummy_hcd|usb_f_printer|g_printer|pykms|RAILTIX-TEST|vivid|fw_cfg"
    lines = rendered[name].everything().splitlines()
    assert [line for line in lines if re.search(shims, line) and not line.startswith("#")] == []


def test_backports_are_debians_affair(rendered: dict[str, Rendered]) -> None:
    assert "backports" in rendered["debian"].text("preferences")
    assert "backports" not in rendered["rpios"].everything()


# What the releases call themselves, and what they have of each package: archive, backports, Debian.
RELEASES = {
    "archive": ("Raspberry Pi Foundation", "trixie"),
    "backports": ("Debian Backports", "trixie-backports"),
    "debian": ("Debian", "trixie"),
}
HELD = {
    "archive": {"libcamera-ipa": "0.5+rpt1", "libcamera0.5": "0.5+rpt1", "raspi-firmware": "1:1"}
    | {"linux-image-rpi-v8": "1:6.12+rpt1", "linux-image-6.12.47+rpt-rpi-v8": "1:6.12+rpt1"}
    | {"systemd": "999", "nftables": "999", "python3-libcamera": "0.5+rpt1"},
    "backports": {"libcamera-ipa": "0.7~bpo13+1", "linux-image-arm64": "7.3~bpo13+1"}
    | {"python3-libcamera": "0.7~bpo13+1", "systemd": "260~bpo13+1"},
    "debian": {"libcamera-ipa": "0.4", "linux-image-arm64": "6.12", "systemd": "257"}
    | {"nftables": "1.1", "raspi-firmware": "9:9", "python3-libcamera": "0.4"},
}
SOURCES = {"libcamera-ipa": "libcamera", "python3-libcamera": "libcamera"} | {
    "linux-image-arm64": "linux-signed-arm64"
}


def chosen(preferences: Path, releases: list[str], folder: Path) -> dict[str, str]:
    """What apt itself would install, of made-up releases that call themselves as the real ones."""
    for name in releases:
        origin, suite = RELEASES[name]
        packages = folder / name / "dists" / suite / "main/binary-arm64"
        packages.mkdir(parents=True)
        (packages / "Packages").write_text(
            "".join(
                f"Package: {package}\nVersion: {version}\nArchitecture: arm64\n"
                f"Source: {SOURCES.get(package, package)}\nMaintainer: x <x@example.org>\n"
                f"Filename: ./{package}.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: x\n\n"
                for package, version in HELD[name].items()
            )
        )
        (folder / name / "dists" / suite / "Release").write_text(
            f"Origin: {origin}\nSuite: {suite}\nCodename: {suite}\nArchitectures: arm64\n"
            "Components: main\nDate: Sat, 20 Jun 2026 21:47:00 UTC\n"
            + ("NotAutomatic: yes\nButAutomaticUpgrades: yes\n" if name == "backports" else "")
        )
    (folder / "sources.list").write_text(
        "".join(
            f"deb [trusted=yes arch=arm64] file:{folder / name} {RELEASES[name][1]} main\n"
            for name in releases
        )
    )
    for made in ("state/lists/partial", "cache/archives/partial", "empty"):
        (folder / made).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}/state"; Dir::State::status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache"; Dir::Etc::sourcelist "{folder}/sources.list";\n'
        f'Dir::Etc::sourceparts "{folder}/empty"; Dir::Etc::preferences "{preferences}";\n'
        f'Dir::Etc::preferencesparts "{folder}/empty"; Dir::Etc::parts "{folder}/empty";\n'
        'APT::Architecture "arm64"; APT::Architectures "arm64"; APT::Sandbox::User "root";\n'
        'Acquire::Languages "none"; Acquire::AllowInsecureRepositories "true";\n'
    )
    settled = os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    subprocess.run(["apt-get", "update"], check=True, capture_output=True, env=settled)
    wanted = sorted({package for name in releases for package in HELD[name]})
    said = subprocess.run(
        ["apt-cache", "policy", *wanted], check=True, capture_output=True, text=True, env=settled
    ).stdout
    return dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (.*)$", said, re.MULTILINE))


def test_apt_takes_kernel_firmware_and_camera_from_the_archive_and_no_more(
    rendered: dict[str, Rendered], tmp_path: Path
) -> None:
    preferences = rendered["rpios"].folder / "preferences"
    assert chosen(preferences, ["archive", "debian"], tmp_path) == {
        "libcamera-ipa": "0.5+rpt1",
        "libcamera0.5": "0.5+rpt1",
        "linux-image-6.12.47+rpt-rpi-v8": "1:6.12+rpt1",
        "linux-image-arm64": "6.12",
        "linux-image-rpi-v8": "1:6.12+rpt1",
        "nftables": "1.1",
        "python3-libcamera": "0.5+rpt1",
        # Debian's is newer here, and not of the kernel's age.
        "raspi-firmware": "1:1",
        "systemd": "257",
    }


def test_apt_takes_kernel_and_camera_from_backports_and_no_more(
    rendered: dict[str, Rendered], tmp_path: Path
) -> None:
    preferences = rendered["debian"].folder / "preferences"
    assert chosen(preferences, ["backports", "debian"], tmp_path) == {
        "libcamera-ipa": "0.7~bpo13+1",
        "linux-image-arm64": "7.3~bpo13+1",
        "nftables": "1.1",
        "python3-libcamera": "0.7~bpo13+1",
        "raspi-firmware": "9:9",
        "systemd": "257",
    }
