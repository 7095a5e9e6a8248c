import pytest

from cloud.access.passwords import hash_password, is_password
from cloud.access.refusals import PasswordNotAllowed


def test_a_password_is_known_by_its_hash_alone() -> None:
    hashed = hash_password("correct horse battery", "ana", "ana.byrne@example.org")
    assert isinstance(hashed, str)
    assert hashed.startswith("$argon2id$")
    assert "horse" not in hashed
    assert is_password("correct horse battery", hashed)
    assert not is_password("Correct horse battery", hashed)


@pytest.mark.parametrize(
    "password",
    [
        "eleven char",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "x" * 5 + "abcdefgh" * 30,
        "AnAlinda-is-my-name",
        "my ana.byrne password",
    ],
)
def test_what_is_guessed_first_is_no_password(password: str) -> None:
    refused = hash_password(password, "analinda", "ana.byrne@example.org")
    assert isinstance(refused, PasswordNotAllowed)
    assert password not in str(refused)


def test_a_name_of_two_letters_may_stand_in_a_password() -> None:
    assert isinstance(hash_password("bookshelf lantern", "bo", "bo@example.org"), str)


def test_a_broken_hash_matches_nothing() -> None:
    assert not is_password("correct horse battery", "not a hash")
