"""Joining a Wi-Fi network: NetworkManager does it, and keeps it over restarts."""

import shutil
import subprocess
from enum import StrEnum
from typing import Final, Protocol

import structlog

from protocol.wifi_qr import WifiNetwork, WifiSecurity

PROFILE: Final = "railtix"
"""The one profile that is ours; the newest code's network is in it."""
DRAFT: Final = "railtix-new"
ACTIVATE_S: Final = 45
"""Association, WPA's handshake, and DHCP at a full access point."""
COMMAND_S: Final = 15.0

_KEY_MANAGEMENT: Final = {WifiSecurity.WPA: "wpa-psk", WifiSecurity.SAE: "sae"}

_log = structlog.get_logger(__name__)


class WifiTrouble(StrEnum):
    NOT_JOINED = "not_joined"
    NONE = "none"
    """There is no Wi-Fi, no NetworkManager, or it does not obey this user."""


class Wifi(Protocol):
    def join(self, network: WifiNetwork) -> WifiTrouble | None:
        """Join it, and again after each restart; None once it is joined. May take a minute."""
        ...


class NoWifi:
    def join(self, network: WifiNetwork) -> WifiTrouble | None:
        _log.info("wifi_not_joined", ssid=network.ssid, reason="no Wi-Fi on this appliance")
        return WifiTrouble.NONE


class NetworkManager:
    """By nmcli(1). The password goes through its standard input: arguments are everybody's to read.

    `passwd-file` gives it for the activation, and NetworkManager keeps what it was given with the
    profile. A draft profile is activated first and takes the other's place once it works, so that a
    code with a wrong password costs no appliance the network it has.
    """

    def __init__(self, program: str = "nmcli") -> None:
        self._program = program

    def join(self, network: WifiNetwork) -> WifiTrouble | None:
        if shutil.which(self._program) is None:
            return self._fail("there is no nmcli", WifiTrouble.NONE)
        # Left by a power cut, or there from a try before.
        self._run("connection", "delete", "id", DRAFT)
        if not self._run(*_profile_of(network)):
            return self._fail("the profile was refused", WifiTrouble.NONE)
        up = ("--wait", str(ACTIVATE_S), "connection", "up", "id", DRAFT)
        secret = _passwords_of(network)
        if secret:
            up = (*up, "passwd-file", "/dev/stdin")
        if not self._run(*up, secret=secret, within_s=ACTIVATE_S + COMMAND_S):
            # NetworkManager goes back to whatever it can reach by itself.
            self._run("connection", "delete", "id", DRAFT)
            return self._fail("it was not activated", WifiTrouble.NOT_JOINED)
        self._run("connection", "delete", "id", PROFILE)
        # Should the power go here, the draft is as good: it connects by itself.
        self._run("connection", "modify", "id", DRAFT, "connection.id", PROFILE)
        _log.info("wifi_joined", ssid=network.ssid)
        return None

    def _run(self, *arguments: str, secret: str = "", within_s: float = COMMAND_S) -> bool:
        try:
            ended = subprocess.run(  # noqa: S603 -- our own arguments, and no shell
                [self._program, *arguments],
                input=secret.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=within_s,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            _log.warning("nmcli_failed", reason=type(error).__name__)
            return False
        if ended.returncode:
            said = ended.stderr.decode(errors="replace").strip()[-200:]
            _log.info("nmcli_refused", code=ended.returncode, reason=said)
        return ended.returncode == 0

    def _fail(self, why: str, trouble: WifiTrouble) -> WifiTrouble:
        _log.warning("wifi_not_joined", reason=why)
        return trouble


def _profile_of(network: WifiNetwork) -> tuple[str, ...]:
    security = _KEY_MANAGEMENT.get(network.security)
    return (
        *("connection", "add", "type", "wifi", "con-name", DRAFT, "ifname", "*"),
        *("ssid", network.ssid, "802-11-wireless.hidden", "yes" if network.is_hidden else "no"),
        *("connection.autoconnect", "yes", "connection.autoconnect-priority", "10"),
        # 0: for ever. An access point may be away for a whole night.
        *("connection.autoconnect-retries", "0"),
        *(() if security is None else ("802-11-wireless-security.key-mgmt", security)),
    )


def _passwords_of(network: WifiNetwork) -> str:
    """One line, as nmcli(1) has it under `passwd-file`: backslashes escape, outer spaces go."""
    if not network.password:
        return ""
    said = network.password.replace("\\", "\\\\")
    inner = said.strip(" ")
    before = "\\040" * (len(said) - len(said.lstrip(" ")))
    after = "\\040" * (len(said) - len(said.rstrip(" ")))
    said = "\\040" * len(said) if not inner else f"{before}{inner}{after}"
    return f"802-11-wireless-security.psk:{said}\n"
