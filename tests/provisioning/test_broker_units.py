"""What systemd is told of the broker: judged by its own tools, offline."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import typer.main

from provisioning.broker.configuration import CONNECTIONS, render_drop_in
from provisioning.cli.app import app
from provisioning.cli.broker import BROKER_FOLDER
from provisioning.cli.ca import DEFAULT_FOLDER

SYSTEMD = Path(__file__).parents[2] / "cloud" / "deploy" / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.glob("railtix-broker-crl.*"))
DROP_IN = SYSTEMD / "mosquitto.service.d" / "railtix.conf"
DEBIANS = """\
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/sbin/mosquitto -c /etc/mosquitto/mosquitto.conf
ExecReload=/bin/kill -HUP $MAINPID
ExecStartPre=/bin/mkdir -m 740 -p /var/log/mosquitto
"""


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((SYSTEMD / name).read_text("utf-8"))
    return read


def laid_out(folder: Path) -> list[Path]:
    """The units where systemd-analyze finds the programs that they start."""
    for name in UNITS:
        text = (
            (SYSTEMD / name).read_text("utf-8").replace("/opt/railtix/bin/railtix-ops", "/bin/true")
        )
        (folder / name).write_text(text)
    broker = folder / "mosquitto.service"
    broker.write_text(DEBIANS.replace("/usr/sbin/mosquitto", "/bin/true"))
    (folder / "mosquitto.service.d").mkdir()
    drop_in = DROP_IN.read_text("utf-8").replace("/usr/sbin/mosquitto", "/bin/true")
    (folder / "mosquitto.service.d" / DROP_IN.name).write_text(drop_in)
    return [*(folder / name for name in UNITS), broker]


def verified(paths: list[Path]) -> str:
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        check=False,
    ).stderr.splitlines()
    return "\n".join(line for line in said if "railtix" in line or "mosquitto" in line)


def test_systemd_knows_every_key_of_the_units_and_of_the_drop_in(tmp_path: Path) -> None:
    paths = laid_out(tmp_path)
    assert [path.suffix for path in paths] == [".path", ".service", ".timer", ".service"]
    assert verified(paths) == ""
    drop_in = tmp_path / "mosquitto.service.d" / DROP_IN.name
    drop_in.write_text(drop_in.read_text().replace("LimitNOFILE", "LimitFILES"))
    assert re.search("Unknown key.*'LimitFILES'", verified(paths)), "else nothing was looked at"


def test_the_service_is_hardened_by_systemds_own_measure(tmp_path: Path) -> None:
    laid_out(tmp_path)
    judged = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=25"),
            tmp_path / "railtix-broker-crl.service",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr


def test_the_service_calls_a_command_there_is_on_the_folders_it_may_touch() -> None:
    service = unit("railtix-broker-crl.service")["Service"]
    program, *words = service["ExecStart"].split()
    assert program == "/opt/railtix/bin/railtix-ops"
    assert words == ["broker", "crl", "--ca", str(DEFAULT_FOLDER), "--folder", str(BROKER_FOLDER)]
    assert service["ReadWritePaths"] == str(BROKER_FOLDER)
    assert unit("railtix-broker-crl.path")["Path"]["PathChanged"] == f"{DEFAULT_FOLDER}/crl.pem"
    assert {"broker", "ca"} <= set(vars(typer.main.get_command(app))["commands"])


@pytest.mark.parametrize("name", ["railtix-broker-crl.path", "railtix-broker-crl.timer"])
def test_both_ways_to_hear_of_a_list_start_the_one_service(name: str) -> None:
    section = "Path" if name.endswith("path") else "Timer"
    assert unit(name)[section]["Unit"] == "railtix-broker-crl.service"


def test_the_drop_in_beside_the_code_is_what_broker_config_writes() -> None:
    assert DROP_IN.read_text("utf-8") == render_drop_in(BROKER_FOLDER, CONNECTIONS)
