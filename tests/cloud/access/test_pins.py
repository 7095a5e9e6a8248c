import pytest

from cloud.access.pins import hash_pin, is_pin
from cloud.access.refusals import PinNotAllowed


def test_a_pin_is_kept_as_a_salted_hash_and_checked_against_it() -> None:
    first, second = hash_pin("2580"), hash_pin("2580")
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert first != second
    assert "2580" not in first.split("$")
    assert is_pin("2580", first)
    assert not is_pin("2581", first)
    assert not is_pin("", first)


@pytest.mark.parametrize("pin", ["", "123", "123456789", "12a4", "0000", "1234", "9876", "١٢٣٥"])
def test_a_pin_that_everybody_tries_first_is_refused(pin: str) -> None:
    assert isinstance(hash_pin(pin), PinNotAllowed)


@pytest.mark.parametrize("stored", ["", "plain", "$argon2id$broken"])
def test_a_damaged_hash_opens_for_no_pin(stored: str) -> None:
    assert not is_pin("2580", stored)
