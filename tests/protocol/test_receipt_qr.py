import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import receipt_qr, wallet_qr
from protocol.messages import SaleName
from protocol.wallet_qr import QrRefusal

KEY = "s" * 22

slugs = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
keys = st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True)


@given(st.builds(SaleName, slugs, keys))
def test_a_receipt_names_its_sale_and_is_no_wallet_qr(sale: SaleName) -> None:
    text = receipt_qr.write(sale)
    assert receipt_qr.read(text) == sale
    assert len(text) <= receipt_qr.TEXT_CHARS_MAX
    assert wallet_qr.read(text) is QrRefusal.NOT_A_WALLET_QR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        "WIFI:T:WPA;;",
        f"RTSALE2:till-1:{KEY}",
        f"RTSALE1:till-1:{KEY}:",
        f"RTSALE1:till-1:{KEY}\n",
        f"RTSALE1:Till 1:{KEY}",
        "RTSALE1:till-1:short",
        f"RTSALE1:till-1:{KEY}" + "x" * 128,
    ],
)
def test_any_other_code_names_no_sale(text: str) -> None:
    assert receipt_qr.read(text) is None


@given(st.text(max_size=200))
def test_rubbish_names_no_sale_and_raises_nothing(text: str) -> None:
    found = receipt_qr.read(text)
    assert found is None or receipt_qr.write(found) == text
