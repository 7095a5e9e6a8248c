"""The Wi-Fi QR: what phones write is read, and what cannot be joined is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.wifi_qr import WifiNetwork, WifiRefusal, WifiSecurity, read_wifi_qr, wifi_qr_text

printable = st.characters(codec="utf-8").filter(str.isprintable)
ssids = st.text(printable, min_size=1, max_size=32).filter(
    lambda each: len(each.encode()) <= 32 and not (each[0] == each[-1] == '"')
)
wpa_passwords = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=63)
networks = st.builds(
    WifiNetwork,
    ssid=ssids,
    security=st.just(WifiSecurity.WPA),
    password=wpa_passwords,
    is_hidden=st.booleans(),
) | st.builds(WifiNetwork, ssid=ssids, security=st.just(WifiSecurity.OPEN))


@given(networks)
def test_a_network_is_read_as_it_was_written(network: WifiNetwork) -> None:
    assert read_wifi_qr(wifi_qr_text(network)) == network


@given(st.text())
def test_any_text_is_a_network_or_refused(text: str) -> None:
    for each in (text, f"WIFI:{text}"):
        assert isinstance(read_wifi_qr(each), WifiNetwork | WifiRefusal)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        (
            "WIFI:T:WPA;S:Bar;P:open sesame;;",
            WifiNetwork(ssid="Bar", security=WifiSecurity.WPA, password="open sesame"),
        ),
        (
            "WIFI:S:Bar;P:open sesame;T:WPA2;H:true;;",
            WifiNetwork(
                ssid="Bar", security=WifiSecurity.WPA, password="open sesame", is_hidden=True
            ),
        ),
        (
            r"wifi:T:SAE;S:semi\;colon\\\:;P:x\,\"y;R:1;H:false;",
            WifiNetwork(ssid="semi;colon\\:", security=WifiSecurity.SAE, password='x,"y'),
        ),
        ('WIFI:S:"ABCD";;', WifiNetwork(ssid="ABCD", security=WifiSecurity.OPEN)),
        (
            "WIFI:T:nopass;S:Free;P:ignored;;",
            WifiNetwork(ssid="Free", security=WifiSecurity.OPEN),
        ),
        (
            f"WIFI:T:WPA;S:Bar;P:{'0aF' * 21}0;;",
            WifiNetwork(ssid="Bar", security=WifiSecurity.WPA, password="0aF" * 21 + "0"),
        ),
    ],
)
def test_what_phones_and_routers_write_is_read(text: str, network: WifiNetwork) -> None:
    assert read_wifi_qr(text) == network


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("https://example.org", WifiRefusal.NOT_A_WIFI_QR),
        ("WIFI:T:WEP;S:Old;P:12345;;", WifiRefusal.WEP),
        ("WIFI:T:WPA2-EAP;S:Corp;E:PEAP;I:me;P:secret;;", WifiRefusal.ENTERPRISE),
        ("WIFI:T:WPA;S:Corp;E:PEAP;I:me;P:longsecret;;", WifiRefusal.ENTERPRISE),
        ("WIFI:T:other;S:Bar;;", WifiRefusal.MALFORMED),
        ("WIFI:", WifiRefusal.MALFORMED),
        ("WIFI:T:WPA;S:Bar;P:short;;", WifiRefusal.MALFORMED),
        ("WIFI:T:WPA;S:Bar;P:ümlautpassword;;", WifiRefusal.MALFORMED),
        (f"WIFI:T:SAE;S:Bar;P:{'p' * 129};;", WifiRefusal.MALFORMED),
        ("WIFI:T:SAE;S:Bar;P:;;", WifiRefusal.MALFORMED),
        (f"WIFI:S:{'s' * 33};;", WifiRefusal.MALFORMED),
        ("WIFI:S:new\nline;;", WifiRefusal.MALFORMED),
        ("WIFI:S:Bar;H:perhaps;;", WifiRefusal.MALFORMED),
        ("WIFI:S:Bar;S:Baz;;", WifiRefusal.MALFORMED),
        ("WIFI:S:Bar;;and more", WifiRefusal.MALFORMED),
        ("WIFI:S:Bar", WifiRefusal.MALFORMED),
        (f"WIFI:S:Bar;X:{'x' * 600};;", WifiRefusal.MALFORMED),
    ],
)
def test_what_cannot_be_joined_is_refused_by_name(text: str, refusal: WifiRefusal) -> None:
    assert read_wifi_qr(text) is refusal


def test_the_password_is_in_no_repr() -> None:
    read = read_wifi_qr("WIFI:T:WPA;S:Bar;P:open sesame;;")
    assert isinstance(read, WifiNetwork)
    assert "sesame" not in repr(read)
