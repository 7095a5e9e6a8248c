from datetime import UTC, datetime, timedelta

import pytest
from pyotp import parse_uri

from cloud.access.second_factor import ISSUER, draw_secret, find_step, provisioning_uri

NOW = datetime(2026, 6, 20, 18, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at_s", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_the_codes_are_those_of_rfc_6238(at_s: int, code: str) -> None:
    """Appendix B, SHA-1, its last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # the RFC's own
    assert find_step(secret, code, datetime.fromtimestamp(at_s, UTC)) == at_s // 30


@pytest.mark.parametrize(("off_s", "counts"), [(-60, False), (-30, True), (30, True), (60, False)])
def test_the_phones_clock_may_be_half_a_minute_off(off_s: int, counts: bool) -> None:
    secret = draw_secret()
    phone = NOW + timedelta(seconds=off_s)
    code = parse_uri(provisioning_uri(secret, "ana")).generate_otp(int(phone.timestamp()) // 30)
    assert (find_step(secret, code, NOW) is not None) is counts


def test_what_is_no_code_is_none() -> None:
    for said in ("", "12345", "½½½½½½", "abcdef"):
        assert find_step(draw_secret(), said, NOW) is None


def test_an_authenticator_reads_whose_and_where() -> None:
    secret = draw_secret()
    read = parse_uri(provisioning_uri(secret, "ana"))
    assert (read.secret, read.name, read.issuer) == (secret, "ana", ISSUER)
