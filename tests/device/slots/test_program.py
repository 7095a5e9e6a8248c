"""The program itself, and what is installed beside it."""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from time import sleep

import device
from device.settings import UpdateSettings
from device.slots.wire import SOCKET
from tests.device.slots.machine import Machine

SYSTEMD = Path(device.__file__).parent / "systemd"
SERVICE = SYSTEMD / "railtix-slots.service"


def slots(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "device.slots", *map(str, arguments)]


def test_it_serves_until_it_is_told_to_end_and_asks_itself(machine: Machine) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    rauc = machine.folder / "bin" / "rauc"
    rauc.parent.mkdir()
    program = machine.folder / "rauc.json"
    rauc.write_text(
        f"#!/bin/sh\nRAUC_SIMULATED={program} exec {sys.executable} -ISE "
        f'{Path(__file__).with_name("rauc_simulated.py")} "$@"\n'
    )
    rauc.chmod(0o755)
    serving = slots(
        *("serve", "--socket", machine.socket, "--updates", machine.updates),
        *("--hold", machine.places.hold, "--lock", machine.places.lock, "--user", user),
    )
    path = f"{rauc.parent}:{os.environ['PATH']}"
    with subprocess.Popen(serving, env={**os.environ, "PATH": path}) as process:
        try:
            for _ in range(3000):
                if machine.socket.exists():
                    break
                sleep(0.02)
            asked = ["--socket", str(machine.socket)]
            told = subprocess.run(
                slots("ask", "status", *asked),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert told.returncode == 0, told.stderr
            assert '"said":"slots"' in told.stdout
            assert '"booted":"A"' in told.stdout
            marked = subprocess.run(slots("ask", "mark-good", *asked), timeout=120, check=False)
            assert marked.returncode == 0
        finally:
            process.terminate()
            process.wait(120)
    assert process.returncode == 0
    assert machine.state["good"] == ["A"]
    nobody = subprocess.run(
        slots("ask", "status", "--socket", machine.run / "no"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert nobody.returncode == 1
    assert b"No such file" in nobody.stderr


def test_a_user_that_is_not_there_is_said_so(machine: Machine) -> None:
    ended = subprocess.run(
        slots("serve", "--user", "nobody-of-that-name", "--socket", machine.socket),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 2
    assert "there is no user nobody-of-that-name" in ended.stderr


def test_the_unit_is_hardened_and_systemd_knows_all_of_it(tmp_path: Path) -> None:
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", SERVICE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace("/opt/railtix/bin/railtix-slots", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert [each for each in verified.stderr.splitlines() if "railtix" in each] == []


def test_program_unit_settings_and_lock_name_the_same_places() -> None:
    unit = SERVICE.read_text()
    settings = UpdateSettings()
    assert settings.slots == SOCKET
    assert f"RuntimeDirectory={Path(SOCKET).parent.name}" in unit
    tmpfiles = (SYSTEMD / "railtix.tmpfiles").read_text()
    assert f"f {settings.lock} 0660 root railtix -" in tmpfiles
    assert f"d {Path(settings.lock).parent} 0755 root root -" in tmpfiles
    assert re.search(r"^ExecStart=/opt/railtix/bin/railtix-slots serve$", unit, re.MULTILINE)
