"""The Wi-Fi QR that phones and routers show: `WIFI:T:WPA;S:name;P:password;;`, read strictly.

The spelling is ZXing's (github.com/zxing/zxing/wiki/Barcode-Contents), with WPA3's `SAE`.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, assert_never

TEXT_CHARS_MAX: Final = 512
SSID_BYTES_MAX: Final = 32
PASSWORD_BYTES_MAX: Final = 128

_MARK: Final = "WIFI:"
_FIELD: Final = re.compile(r"([A-Za-z0-9]+):((?:[^\\;]|\\.)*);")
_ESCAPED: Final = re.compile(r"\\(.)")
_SPECIAL: Final = re.compile(r'([\\;,":])')
_WPA_PASSWORD: Final = re.compile(r"[ -~]{8,63}\Z|[0-9A-Fa-f]{64}\Z")


class WifiSecurity(StrEnum):
    OPEN = "nopass"
    WPA = "WPA"
    """WPA2, and WPA3 where both ends speak it."""
    SAE = "SAE"
    """WPA3 alone."""


class WifiRefusal(StrEnum):
    """Why a code before the camera names no network that an appliance joins."""

    NOT_A_WIFI_QR = "not_a_wifi_qr"
    MALFORMED = "wifi_qr_malformed"
    WEP = "wifi_wep"
    """Broken since 2001: everybody nearby could read along."""
    ENTERPRISE = "wifi_enterprise"
    """A user name and certificates of its own: no QR brings all of that."""


@dataclass(frozen=True, kw_only=True)
class WifiNetwork:
    """A network and how to join it."""

    ssid: str
    security: WifiSecurity
    password: str = field(default="", repr=False)
    is_hidden: bool = False


_SECURITY: Final = {
    "": WifiSecurity.OPEN,
    "nopass": WifiSecurity.OPEN,
    "wpa": WifiSecurity.WPA,
    "wpa2": WifiSecurity.WPA,
    "wpa/wpa2": WifiSecurity.WPA,
    "wpa2/wpa3": WifiSecurity.WPA,
    "wpa3": WifiSecurity.SAE,
    "sae": WifiSecurity.SAE,
    "wep": WifiRefusal.WEP,
    "wpa2-eap": WifiRefusal.ENTERPRISE,
    "wpa3-eap": WifiRefusal.ENTERPRISE,
    "eap": WifiRefusal.ENTERPRISE,
}


def wifi_qr_text(network: WifiNetwork) -> str:
    """What a phone shows for this network."""
    parts = [f"T:{network.security.value}", f"S:{_escape(network.ssid)}"]
    if network.password:
        parts.append(f"P:{_escape(network.password)}")
    if network.is_hidden:
        parts.append("H:true")
    return f"{_MARK}{';'.join(parts)};;"


def read_wifi_qr(text: str) -> WifiNetwork | WifiRefusal:
    """The network in a scanned text, or why there is none to join."""
    if text[: len(_MARK)].upper() != _MARK:
        return WifiRefusal.NOT_A_WIFI_QR
    fields = _fields(text[len(_MARK) :]) if len(text) <= TEXT_CHARS_MAX else None
    if fields is None:
        return WifiRefusal.MALFORMED
    security = _SECURITY.get(fields.get("T", "").lower(), WifiRefusal.MALFORMED)
    if isinstance(security, WifiRefusal):
        return security
    if fields.keys() & {"E", "A", "PH2"}:
        return WifiRefusal.ENTERPRISE
    ssid, password, hidden = (fields.get(name, "") for name in ("S", "P", "H"))
    is_well = (
        1 <= len(ssid.encode()) <= SSID_BYTES_MAX
        and (ssid + password).isprintable()
        and _fits(password, security)
        and hidden.lower() in {"", "true", "false"}
    )
    if not is_well:
        return WifiRefusal.MALFORMED
    return WifiNetwork(
        ssid=ssid,
        security=security,
        password="" if security is WifiSecurity.OPEN else password,
        is_hidden=hidden.lower() == "true",
    )


def _fits(password: str, security: WifiSecurity) -> bool:
    match security:
        case WifiSecurity.OPEN:
            return True
        case WifiSecurity.WPA:
            return _WPA_PASSWORD.match(password) is not None
        case WifiSecurity.SAE:
            return 1 <= len(password.encode()) <= PASSWORD_BYTES_MAX
        case _:
            assert_never(security)


def _fields(body: str) -> dict[str, str] | None:
    """The fields by name, each once; None where anything is left over."""
    found: dict[str, str] = {}
    at = 0
    while (each := _FIELD.match(body, at)) is not None:
        name, value = each[1].upper(), each[2]
        if name in found:
            return None
        found[name] = _unescape(value)
        at = each.end()
    # Most end in a second semicolon; some writers leave it out.
    return found if body[at:] in {"", ";"} else None


def _unescape(value: str) -> str:
    # A name in bare quotes is one that could be taken for hexadecimal digits; they are no part.
    if len(value) >= 2 and value[0] == value[-1] == '"' and value[-2] != "\\":
        value = value[1:-1]
    return _ESCAPED.sub(r"\1", value)


def _escape(value: str) -> str:
    return _SPECIAL.sub(r"\\\1", value)
