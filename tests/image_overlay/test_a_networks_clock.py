"""The clock that a network's DHCP names, asked before the pool."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = (
    Path(__file__).parents[2] / "image/overlay/usr/lib/NetworkManager/dispatcher.d/10-railtix-ntp"
)


class Dispatcher:
    """NetworkManager's, with a /run of the test's own and a systemctl that only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.written = folder / "timesyncd.conf.d" / "dhcp.conf"
        self._restarts = folder / "restarts"
        self._script = folder / "script"
        text = SCRIPT.read_text("utf-8")
        self._script.write_text(text.replace("/run/systemd", str(folder)))
        (folder / "bin").mkdir()
        systemctl = folder / "bin" / "systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$*" >>{self._restarts}\n')
        systemctl.chmod(0o755)
        self._path = f"{folder / 'bin'}:{os.environ['PATH']}"

    def tell(self, event: str, servers: str | None) -> None:
        environment = {"PATH": self._path}
        if servers is not None:
            environment["DHCP4_NTP_SERVERS"] = servers
        subprocess.run(["sh", self._script, "eth0", event], env=environment, check=True, timeout=60)

    def restarts(self) -> int:
        return len(self._restarts.read_text().splitlines()) if self._restarts.exists() else 0


@pytest.fixture
def dispatcher(tmp_path: Path) -> Dispatcher:
    return Dispatcher(tmp_path)


def test_a_networks_own_clock_is_asked_and_asked_once(dispatcher: Dispatcher) -> None:
    for _ in range(2):
        dispatcher.tell("dhcp4-change", "10.0.0.1 10.0.0.2")
    assert dispatcher.written.read_text() == "[Time]\nNTP=10.0.0.1 10.0.0.2\n"
    assert dispatcher.restarts() == 1
    dispatcher.tell("up", "10.0.0.9")
    assert dispatcher.restarts() == 2


@pytest.mark.parametrize("servers", [None, "", "  ", "\n"])
def test_a_network_without_one_changes_nothing(dispatcher: Dispatcher, servers: str | None) -> None:
    dispatcher.tell("up", servers)
    dispatcher.tell("down", "10.0.0.1")
    assert not dispatcher.written.exists()
    assert dispatcher.restarts() == 0


def test_nothing_but_addresses_comes_from_a_network(dispatcher: Dispatcher) -> None:
    dispatcher.tell("up", "10.0.0.1\n[Manager]\nReboot=$(reboot)")
    section, servers, end = dispatcher.written.read_text().split("\n")
    assert (section, end) == ("[Time]", "")
    assert set(servers.removeprefix("NTP=")) <= set("0123456789. ")
