from enum import StrEnum

import pytest

from device.till.wording import sentence_of
from protocol.messages import Reason


class Newer(StrEnum):
    """What a newer cloud may say."""

    NOT_INVENTED = "not_invented_yet"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_in_plain_words(reason: Reason) -> None:
    said = sentence_of(reason)
    assert said.endswith(".")
    assert said[0].isupper()
    assert "_" not in said
    assert not said.startswith("Refused:"), f"say in device/till/wording.py what {reason} means"
    assert len(said) <= 120


def test_a_reason_of_a_newer_cloud_is_named() -> None:
    assert sentence_of(Newer.NOT_INVENTED) == "Refused: not_invented_yet."  # pyright: ignore[reportArgumentType] -- from the future
