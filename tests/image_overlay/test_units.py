"""The image's own units: known to systemd, shut in, and tied to a mounted /data."""

import re
import subprocess
from pathlib import Path

import pytest

import device

OVERLAY = Path(__file__).parents[2] / "image" / "overlay"
UNITS = OVERLAY / "usr" / "lib" / "systemd" / "system"
SHIPPED = Path(device.__file__).parent / "systemd"

SERVICES = {
    "railtix-data.service": 30,
    "railtix-data-layout.service": 25,
    "railtix-settings.service": 10,
    "railtix-no-data.service": 20,
}
"""Each with the exposure that systemd-analyze may find at most, in tenths: block devices and their
ioctls are a root's, and cost the first one more than the till's 25."""

MOUNTS = [
    "data.mount",
    "var-lib-railtix.mount",
    "var-lib-systemd.mount",
    "var-log-journal.mount",
    r"etc-NetworkManager-system\x2dconnections.mount",
    "boot-firmware.mount",
]


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, timeout=60, check=False
    )


def said_in(unit: str, key: str) -> list[str]:
    lines = (UNITS / unit).read_text("utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


@pytest.mark.parametrize(
    ("unit", "exposure"),
    [
        *((UNITS / name, exposure) for name, exposure in SERVICES.items()),
        (SHIPPED / "railtix-slots.service", 20),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
def test_each_service_is_shut_in_by_systemds_own_measure(unit: Path, exposure: int) -> None:
    judged = run("systemd-analyze", "security", "--offline=true", f"--threshold={exposure}", unit)
    assert "Overall exposure level" in judged.stdout
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


def test_systemd_knows_every_key(tmp_path: Path) -> None:
    ours = [*SERVICES, *MOUNTS]
    for unit in ours:
        text = (UNITS / unit).read_text("utf-8")
        # Neither the image's Python nor its other programs are on this machine.
        text = re.sub(r"^(ExecStart=)/\S+", r"\1/bin/true", text, flags=re.MULTILINE)
        (tmp_path / unit).write_text(text)
    verified = run("systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in ours))
    said = [
        line
        for line in verified.stderr.splitlines()
        if any(unit in line for unit in ours) and ("Unknown" in line or "Failed to parse" in line)
    ]
    # systemd 254 and later; Debian 12's does not know it.
    newer = "PrivateTmp=disconnected"
    allowed = sum(newer in (UNITS / unit).read_text("utf-8") for unit in SERVICES)
    assert len([line for line in said if "disconnected" not in line]) == 0, verified.stderr
    assert len(said) <= allowed

    (tmp_path / "data.mount").write_text("[Mount]\nWhat=/dev/null\nWhere=/data\nOptionen=ro\n")
    verified = run("systemd-analyze", "verify", "--man=no", tmp_path / "data.mount")
    assert "Unknown key" in verified.stderr, "else nothing was looked at"


def test_no_journal_is_begun_where_data_is_not_mounted() -> None:
    drop_in = (UNITS / "railtix-pos.service.d" / "image.conf").read_text("utf-8")
    for mount in ("/data", "/var/lib/railtix"):
        assert re.search(rf"^RequiresMountsFor=.*{mount}\b", drop_in, re.MULTILINE)
        assert f"AssertPathIsMountPoint={mount}\n" in drop_in


def test_whatever_keeps_data_from_being_mounted_is_said_to_a_person() -> None:
    for unit in ("railtix-data.service", "data.mount"):
        assert said_in(unit, "OnFailure") == ["railtix-no-data.service"]
    assert said_in("data.mount", "Requires") == ["railtix-data.service"]
    # And then everything is tried again from the start, whatever becomes of the saying.
    for action in ("SuccessAction", "FailureAction"):
        assert said_in("railtix-no-data.service", action) == ["reboot"]
    # A mount that local-fs.target requires would end in an emergency shell that nobody can enter.
    for unit in MOUNTS:
        assert said_in(unit, "WantedBy") == ["local-fs.target"]
        assert said_in(unit, "RequiredBy") == []


def test_nothing_on_data_is_a_program_a_device_or_anothers_right() -> None:
    (options,) = said_in("data.mount", "Options")
    assert {"noatime", "nodev", "nosuid", "noexec", "errors=remount-ro"} <= set(options.split(","))
    (options,) = said_in("boot-firmware.mount", "Options")
    assert {"ro", "nodev", "nosuid", "noexec"} <= set(options.split(","))


def test_each_bind_mount_waits_for_its_folder() -> None:
    layout = (OVERLAY / "usr/lib/railtix/data-layout.conf").read_text("utf-8")
    folders = {line.split()[1] for line in layout.splitlines() if line.startswith("d ")}
    for unit in MOUNTS[1:5]:
        (what,) = said_in(unit, "What")
        assert what in folders
        assert said_in(unit, "After") == ["railtix-data-layout.service"]
        (where,) = said_in(unit, "Where")
        escaped = where.strip("/").replace("-", r"\x2d").replace("/", "-")
        assert unit == f"{escaped}.mount"


def test_the_folders_are_ones_that_systemd_can_make(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", SHIPPED / "railtix.sysusers")
    assert made.returncode == 0, made.stderr
    group = tmp_path / "etc" / "group"
    group.write_text(group.read_text("utf-8") + "systemd-journal:x:999:\n", "utf-8")
    layout = OVERLAY / "usr/lib/railtix/data-layout.conf"
    made = run("systemd-tmpfiles", f"--root={tmp_path}", "--create", layout)
    assert made.returncode == 0, made.stderr
    state = (tmp_path / "data" / "railtix").stat()
    # The same in each release: what one wrote, the next one must be able to read.
    assert (state.st_uid, state.st_mode & 0o777) == (791, 0o700)


def presets() -> list[tuple[str, str]]:
    text = (OVERLAY / "usr/lib/systemd/system-preset/00-railtix.preset").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(verb, unit) for verb, _, unit in (line.partition(" ") for line in lines)]


def test_what_is_not_named_does_not_start() -> None:
    listed = presets()
    assert listed[-1] == ("disable", "*")
    enabled = {unit for verb, unit in listed if verb == "enable"}
    assert {"nftables.service", "NetworkManager.service", "railtix-pos.service"} <= enabled
    assert not any("ssh" in unit or "getty" in unit for unit in enabled)
    for unit in [*MOUNTS, *SERVICES]:
        installs = "[Install]" in (UNITS / unit).read_text("utf-8")
        assert (unit in enabled) == installs


def test_nobody_can_log_in_at_a_screen_or_a_cable() -> None:
    masked = {
        each.name
        for each in (OVERLAY / "etc/systemd/system").iterdir()
        if each.is_symlink() and str(each.readlink()) == "/dev/null"
    }
    gettys = {"getty@.service", "serial-getty@.service", "autovt@.service", "console-getty.service"}
    assert gettys | {"debug-shell.service", "ctrl-alt-del.target"} <= masked
    for unit in ("emergency.service.d", "rescue.service.d"):
        text = (UNITS / unit / "railtix.conf").read_text("utf-8")
        assert "ExecStart=\n" in text, "no shell"
        assert "reboot" in text


def test_a_system_that_hangs_is_reset_and_one_that_is_slow_is_not() -> None:
    text = (OVERLAY / "usr/lib/systemd/system.conf.d/railtix.conf").read_text("utf-8")
    for key in ("RuntimeWatchdogSec", "RebootWatchdogSec"):
        (seconds,) = re.findall(rf"^{key}=(\d+)s$", text, re.MULTILINE)
        assert 30 <= int(seconds) <= 120


def test_no_start_makes_again_what_was_made_when_the_image_was() -> None:
    # Else, as /etc is new each time: the linker's cache, users, catalogues (ConditionNeedsUpdate=).
    for folder in ("etc", "var"):
        assert (OVERLAY / folder / ".updated").read_bytes() == b""
