"""The claim QR: one spelling, and no secret in a repr."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.claim_qr import ClaimQr, claim_qr_text, read_claim_qr

ALPHANUMERIC = re.compile(r"[0-9A-Z $%*+./:-]+")
BASE32 = string.ascii_uppercase + "234567"

CLAIM = ClaimQr(
    host="credits.example.org",
    port=8443,
    fingerprint=bytes(range(32)),
    claim_id="ABCDEFGHIJ",
    secret="K" * 32,
)
TEXT = claim_qr_text(CLAIM)

labels = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join) | st.ip_addresses(v=6).map(str)
claims = st.builds(
    ClaimQr,
    host=hosts,
    port=st.integers(1, 65535),
    fingerprint=st.binary(min_size=32, max_size=32),
    claim_id=st.text(BASE32, min_size=10, max_size=10),
    secret=st.text(BASE32, min_size=32, max_size=32),
)


@given(claims)
def test_a_claim_is_read_as_it_was_written_and_needs_only_alphanumeric_mode(claim: ClaimQr) -> None:
    text = claim_qr_text(claim)
    assert ALPHANUMERIC.fullmatch(text)
    assert read_claim_qr(text) == claim


@given(st.text(max_size=300))
def test_any_text_is_a_claim_in_its_one_spelling_or_none(text: str) -> None:
    for each in (text, f"RAILTIX1:{text}"):
        read = read_claim_qr(each)
        assert read is None or claim_qr_text(read) == each


@given(st.integers(0, len(TEXT) - 1), st.characters())
def test_a_changed_character_is_another_claim_or_none(at: int, character: str) -> None:
    changed = TEXT[:at] + character + TEXT[at + 1 :]
    read = read_claim_qr(changed)
    assert (read == CLAIM) == (changed == TEXT)
    assert read is None or claim_qr_text(read) == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org/",
        TEXT.lower(),
        f"{TEXT}/",
        f" {TEXT}",
        f"{TEXT}\n",
        TEXT.replace("/8443/", "/08443/"),
        TEXT.replace("/8443/", "/99999/"),
        TEXT.replace("/8443/", "/+8443/"),
        TEXT.replace("RAILTIX1", "RAILTIX2"),
        TEXT.replace("CREDITS", "CRED ITS"),
        TEXT.replace("CREDITS", ""),
        TEXT[:-1],
        TEXT.replace("ABCDEFGHIJ", "ABCDEFGHI1"),
        TEXT.replace("/ABCDEFGHIJ", "=/ABCDEFGHIJ"),
        TEXT.replace("/AAAQEAYEAUDA", "/"),
        "RAILTIX1:" + "A" * 500 + TEXT.removeprefix("RAILTIX1:CREDITS"),
    ],
)
def test_every_other_spelling_is_no_claim(text: str) -> None:
    assert read_claim_qr(text) is None


def test_the_last_bits_of_the_fingerprint_that_stand_for_nothing_are_not_another_spelling() -> None:
    fingerprint = TEXT.split("/")[2]
    assert fingerprint[-1] == "Q"
    assert len(fingerprint) == 52
    other = TEXT.replace(fingerprint, fingerprint[:-1] + "R")
    assert read_claim_qr(other) is None


def test_the_secret_is_in_no_repr() -> None:
    assert CLAIM.secret not in repr(CLAIM)
    assert CLAIM.claim_id in repr(CLAIM)


@pytest.mark.parametrize(
    ("host", "port", "fingerprint", "claim_id", "secret"),
    [
        ("under_score", 1, bytes(32), "A" * 10, "A" * 32),
        ("Capital", 1, bytes(32), "A" * 10, "A" * 32),
        ("", 1, bytes(32), "A" * 10, "A" * 32),
        ("host", 0, bytes(32), "A" * 10, "A" * 32),
        ("host", 65536, bytes(32), "A" * 10, "A" * 32),
        ("host", 1, bytes(31), "A" * 10, "A" * 32),
        ("host", 1, bytes(32), "A" * 9, "A" * 32),
        ("host", 1, bytes(32), "A" * 10, "a" * 32),
    ],
)
def test_what_the_qr_cannot_hold_is_no_claim_to_begin_with(
    host: str, port: int, fingerprint: bytes, claim_id: str, secret: str
) -> None:
    with pytest.raises(ValueError, match=r"claim|port|fingerprint"):
        ClaimQr(host=host, port=port, fingerprint=fingerprint, claim_id=claim_id, secret=secret)
