"""The simulated Wi-Fi: whoever stands at the edge says which networks are in reach."""

from collections.abc import Callable
from threading import Lock
from typing import Annotated

import msgspec

from device.hardware.wifi import WifiTrouble
from protocol.wifi_qr import WifiNetwork


class Reach(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an appliance's aerial sees: names, and what lets one in ("" for an open network)."""

    networks: Annotated[dict[str, str], msgspec.Meta(max_length=32)] = {}
    has_wifi: bool = True

    def __repr__(self) -> str:
        return f"Reach({sorted(self.networks)})"


class SimulatedWifi:
    """One aerial."""

    def __init__(self, on_joined: Callable[[str], None]) -> None:
        self._lock = Lock()
        self._reach = Reach()
        self._on_joined = on_joined

    def put(self, reach: Reach) -> None:
        with self._lock:
            self._reach = reach

    def join(self, network: WifiNetwork) -> WifiTrouble | None:
        with self._lock:
            if not self._reach.has_wifi:
                return WifiTrouble.NONE
            if self._reach.networks.get(network.ssid) != network.password:
                return WifiTrouble.NOT_JOINED
        self._on_joined(network.ssid)
        return None
