"""Joining a Wi-Fi: nmcli and the simulated aerial keep the same promises."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from device.hardware.simulated_wifi import Reach, SimulatedWifi
from device.hardware.wifi import NetworkManager, NoWifi, Wifi, WifiTrouble
from protocol.wifi_qr import WifiNetwork, WifiSecurity

BAR = WifiNetwork(ssid="Bar", security=WifiSecurity.WPA, password="open sesame")
HALL = WifiNetwork(ssid="-Hall", security=WifiSecurity.OPEN)

# Plays nmcli: records how it was called, and activates what is in reach.
FAKE = """#!{python}
import json, os, re, sys
record = {{"argv": sys.argv[1:], "stdin": sys.stdin.read()}}
with open({log!r}, "a") as log:
    log.write(json.dumps(record) + "\\n")
arguments = sys.argv[1:]
reach = json.load(open({reach!r}))
if not reach["has_wifi"] and "add" in arguments:
    sys.exit(8)
if "add" in arguments:
    ssid = arguments[arguments.index("ssid") + 1]
    open({profile!r}, "w").write(ssid)
if "up" in arguments:
    ssid = open({profile!r}).read()
    said = record["stdin"].removeprefix("802-11-wireless-security.psk:").rstrip("\\n")
    said = re.sub(r"\\\\(040|.)", lambda m: " " if m[1] == "040" else m[1], said)
    sys.exit(0 if reach["networks"].get(ssid) == said else 4)
"""


@dataclass
class Aerial:
    wifi: Wifi
    put: Callable[[dict[str, str], bool], None]


class Calls:
    def __init__(self, folder: Path) -> None:
        self.log = folder / "calls"

    def made(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def nmcli(folder: Path) -> tuple[Aerial, Calls]:
    program, reach = folder / "nmcli", folder / "reach"
    calls = Calls(folder)
    program.write_text(
        FAKE.format(
            python=sys.executable,
            log=str(calls.log),
            reach=str(reach),
            profile=str(folder / "profile"),
        )
    )
    program.chmod(0o700)

    def put(networks: dict[str, str], has_wifi: bool) -> None:
        reach.write_text(json.dumps({"networks": networks, "has_wifi": has_wifi}))

    return Aerial(NetworkManager(str(program)), put), calls


@pytest.fixture(params=["nmcli", "simulated"])
def aerial(request: pytest.FixtureRequest, tmp_path: Path) -> Aerial:
    if request.param == "nmcli":
        return nmcli(tmp_path)[0]
    simulated = SimulatedWifi(lambda _: None)
    return Aerial(simulated, lambda networks, has: simulated.put(Reach(networks, has)))


@pytest.mark.parametrize("network", [BAR, HALL, replace(BAR, password="  a\\b \\040c  ")])
def test_a_network_in_reach_is_joined(aerial: Aerial, network: WifiNetwork) -> None:
    aerial.put({network.ssid: network.password}, True)
    assert aerial.wifi.join(network) is None


def test_a_wrong_password_and_a_network_out_of_reach_are_not_joined(aerial: Aerial) -> None:
    aerial.put({BAR.ssid: "another"}, True)
    assert aerial.wifi.join(BAR) is WifiTrouble.NOT_JOINED
    aerial.put({}, True)
    assert aerial.wifi.join(BAR) is WifiTrouble.NOT_JOINED


def test_without_an_aerial_there_is_no_wifi(aerial: Aerial) -> None:
    aerial.put({BAR.ssid: BAR.password}, False)
    assert aerial.wifi.join(BAR) is WifiTrouble.NONE
    assert NoWifi().join(BAR) is WifiTrouble.NONE
    assert NetworkManager("no-such-nmcli").join(BAR) is WifiTrouble.NONE


def test_the_password_is_in_no_argument_and_a_wrong_one_costs_no_network(tmp_path: Path) -> None:
    aerial, calls = nmcli(tmp_path)
    hidden = replace(BAR, is_hidden=True, security=WifiSecurity.SAE)
    aerial.put({BAR.ssid: BAR.password}, True)
    assert aerial.wifi.join(hidden) is None
    made = calls.made()
    assert not any(BAR.password in word for call in made for word in call["argv"])
    assert [call["stdin"] for call in made if "up" in call["argv"]] == [
        "802-11-wireless-security.psk:open sesame\n"
    ]
    (added,) = (call["argv"] for call in made if "add" in call["argv"])
    assert added[added.index("802-11-wireless-security.key-mgmt") + 1] == "sae"
    assert added[added.index("802-11-wireless.hidden") + 1] == "yes"
    # The one before goes once the new one works; the newest code's network is the one kept.
    assert made[-2]["argv"] == ["connection", "delete", "id", "railtix"]
    assert made[-1]["argv"][-2:] == ["connection.id", "railtix"]

    calls.log.unlink()
    aerial.put({}, True)
    assert aerial.wifi.join(BAR) is WifiTrouble.NOT_JOINED
    assert ["connection", "delete", "id", "railtix"] not in [each["argv"] for each in calls.made()]


def test_an_nmcli_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nmcli"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(NetworkManager._run, "__kwdefaults__", {"secret": "", "within_s": 0.2})
    assert NetworkManager(str(program)).join(BAR) is WifiTrouble.NONE
