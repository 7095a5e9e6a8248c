from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.payments.provider import WebhookRefusal
from cloud.payments.webhook_signature import TOLERANCE_S, refuse_webhook, sign_webhook

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
SECRET = b"a secret of the test's own"
BODY = b'{"id":"evt_1"}'


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=64))
def test_what_was_signed_just_now_is_believed(body: bytes, secret: bytes) -> None:
    assert refuse_webhook(body, sign_webhook(body, secret, NOW), secret, NOW) is None


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_a_changed_body_is_not_believed(at: int, change: int) -> None:
    changed = bytearray(BODY)
    changed[at] ^= change
    signature = sign_webhook(BODY, SECRET, NOW)
    refusal = refuse_webhook(bytes(changed), signature, SECRET, NOW)
    assert refusal is WebhookRefusal.SIGNATURE_WRONG


def test_a_time_that_was_not_signed_is_not_believed() -> None:
    signature = sign_webhook(BODY, SECRET, NOW)
    later = NOW + timedelta(hours=1)
    fresher = f"t={int(later.timestamp())},{signature.partition(',')[2]}"
    assert refuse_webhook(BODY, fresher, SECRET, later) is WebhookRefusal.SIGNATURE_WRONG


@pytest.mark.parametrize("off_s", [TOLERANCE_S, -TOLERANCE_S])
def test_a_webhook_counts_within_the_tolerance_and_no_longer(off_s: int) -> None:
    signature = sign_webhook(BODY, SECRET, NOW)
    at = NOW + timedelta(seconds=off_s)
    assert refuse_webhook(BODY, signature, SECRET, at) is None
    past = NOW + timedelta(seconds=off_s + (1 if off_s > 0 else -1))
    assert refuse_webhook(BODY, signature, SECRET, past) is WebhookRefusal.STALE


@pytest.mark.parametrize(
    "signature", ["v1=", "t=1", "t=,v1=", "t=1,v1=xyz", "t=1,v0=" + "0" * 64, "t=-1,v1=" + "0" * 64]
)
def test_a_signature_of_another_form_is_not_believed(signature: str) -> None:
    assert refuse_webhook(BODY, signature, SECRET, NOW) is WebhookRefusal.SIGNATURE_WRONG
