"""What is installed beside the program: judged by systemd's own tools, offline."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import device
from device.credentials import CREDENTIAL
from device.hardware.settings import PrinterSettings
from device.watchdog import LIMITS_S

SYSTEMD = Path(device.__file__).parent / "systemd"
SERVICE = SYSTEMD / "railtix-pos.service"

MATCHES = {"ACTION", "SUBSYSTEM", "KERNEL", "ENV", "ATTR"}
ASSIGNMENTS = {"GROUP", "MODE", "SYMLINK", "ATTR"}
TERM = re.compile(r'([A-Z]+)(?:\{([\w/]+)\})?(==|!=|=|\+=)"([^"]*)"')


class Unit:
    """A unit's keys as they are written; one that is said again is a list, as it is to systemd."""

    def __init__(self, path: Path) -> None:
        self.said: dict[str, list[str]] = {}
        for line in path.read_text("utf-8").splitlines():
            if "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.said.setdefault(key, []).append(value)

    def one(self, key: str) -> str:
        (value,) = self.said[key]
        return value


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_service_is_hardened_by_systemds_own_measure() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--threshold=25", SERVICE)
    assert "Overall exposure level" in judged.stdout
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


def test_systemd_knows_every_key_of_the_units(tmp_path: Path) -> None:
    unit = SERVICE.read_text("utf-8").replace("/opt/railtix/bin/railtix-pos", "/bin/true")
    drop_in = tmp_path / "railtix-pos.service.d"
    drop_in.mkdir()
    (drop_in / "sealed-key.conf").write_bytes((SYSTEMD / "sealed-key.conf").read_bytes())
    (tmp_path / SERVICE.name).write_text(unit)
    verified = run("systemd-analyze", "verify", "--man=no", tmp_path / SERVICE.name)
    said = [line for line in verified.stderr.splitlines() if "railtix" in line]
    assert said == [], verified.stderr

    (tmp_path / SERVICE.name).write_text(unit.replace("TasksMax=", "TaskMax="))
    verified = run("systemd-analyze", "verify", "--man=no", tmp_path / SERVICE.name)
    assert re.search("Unknown key.*'TaskMax'", verified.stderr), "else nothing was looked at"


def test_the_watchdog_is_systemds_and_a_core_never_holds_the_key() -> None:
    unit = Unit(SERVICE)
    assert unit.one("Type") == "notify"
    assert unit.one("Restart") == "always"
    # The program's own judgement comes first, and says which part it was.
    assert min(LIMITS_S.values()) > 4 * 4
    assert int(unit.one("WatchdogSec")) > 4 * 5
    assert unit.one("WatchdogSignal") == "SIGABRT"
    assert unit.one("LimitCORE") == "0"
    for limit in ("MemoryMax", "TasksMax", "LogRateLimitBurst", "TimeoutStopSec"):
        assert unit.one(limit)


def test_the_program_may_still_read_whether_ntp_has_set_the_clock() -> None:
    unit = Unit(SERVICE)
    allowed = [each for each in unit.said["SystemCallFilter"] if not each.startswith("~")]
    assert {"adjtimex", "clock_adjtime", "clock_adjtime64"} <= set(" ".join(allowed).split())
    assert "ProtectClock" not in unit.said
    assert unit.one("CapabilityBoundingSet") == "", "reading is all it can do with them"


def test_a_sealed_key_has_the_name_that_the_program_asks_for() -> None:
    name, _, path = Unit(SYSTEMD / "sealed-key.conf").one("LoadCredentialEncrypted").partition(":")
    assert name == CREDENTIAL
    assert Path(path) == Path("/etc/credstore.encrypted") / CREDENTIAL


def test_the_log_never_fills_the_card() -> None:
    unit = Unit(SYSTEMD / "journald-railtix.conf")
    for cap in ("SystemMaxUse", "SystemKeepFree", "RuntimeMaxUse"):
        assert re.fullmatch(r"\d+M", unit.one(cap))
    assert int(unit.one("RateLimitBurst")) > 0


def test_the_user_and_its_groups_are_ones_that_systemd_can_make(tmp_path: Path) -> None:
    made = run("systemd-sysusers", f"--root={tmp_path}", "--dry-run", SYSTEMD / "railtix.sysusers")
    assert made.returncode == 0, made.stderr
    wanted = set(Unit(SERVICE).one("SupplementaryGroups").split())
    lines = (SYSTEMD / "railtix.sysusers").read_text("utf-8").splitlines()
    assert {line.split()[2] for line in lines if line.startswith("m ")} == wanted


@dataclass(frozen=True)
class Term:
    """One match or assignment of a udev rule."""

    key: str
    attribute: str | None
    operator: str
    value: str


def rules() -> list[list[Term]]:
    """Raises where a line is no rule."""
    found: list[list[Term]] = []
    for line in (SYSTEMD / "99-railtix.rules").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        terms: list[Term] = []
        for term in line.split(", "):
            read = TERM.fullmatch(term.strip())
            assert read is not None, line
            terms.append(Term(read[1], read[2], read[3], read[4]))
        found.append(terms)
    return found


def test_every_udev_rule_matches_something_and_grants_only_our_groups() -> None:
    groups: set[str] = set()
    for rule in rules():
        matches = [term for term in rule if term.operator in {"==", "!="}]
        assignments = [term for term in rule if term.operator in {"=", "+="}]
        assert {term.key for term in matches} <= MATCHES
        assert {term.key for term in assignments} <= ASSIGNMENTS
        assert any(term.key == "SUBSYSTEM" for term in matches), "else it fires for every device"
        assert assignments
        groups |= {term.value for term in assignments if term.key == "GROUP"}
        assert {term.value for term in assignments if term.key == "MODE"} <= {"0660"}
    assert groups == set(Unit(SERVICE).one("SupplementaryGroups").split())


@pytest.mark.parametrize(
    ("subsystem", "group"),
    [("usb", "lp"), ("gpio", "gpio"), ("video4linux", "video"), ("dma_heap", "video")],
)
def test_each_part_has_a_group(subsystem: str, group: str) -> None:
    granted = {
        term.value
        for rule in rules()
        if Term("SUBSYSTEM", None, "==", subsystem) in rule
        for term in rule
        if term.key == "GROUP"
    }
    assert granted == {group}


def test_the_default_printer_has_a_name_that_stays() -> None:
    linked = [rule for rule in rules() if Term("SYMLINK", None, "+=", "railtix/printer") in rule]
    default = PrinterSettings()
    assert any(
        Term("ATTR", "idVendor", "==", f"{default.usb_vendor:04x}") in rule
        and Term("ATTR", "idProduct", "==", f"{default.usb_product:04x}") in rule
        for rule in linked
    )
