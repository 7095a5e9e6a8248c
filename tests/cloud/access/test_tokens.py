import pytest

from cloud.access.tokens import TokenKind, draw_token, hash_token, is_of_kind


@pytest.mark.parametrize("kind", list(TokenKind))
def test_a_token_is_new_each_time_and_kept_as_a_hash(kind: TokenKind) -> None:
    first, second = draw_token(kind), draw_token(kind)
    assert first != second
    assert len(hash_token(first)) == 43
    assert hash_token(first) == hash_token(first)
    assert first.removeprefix(kind.value) not in hash_token(first)


def test_a_token_of_one_kind_opens_no_other_door() -> None:
    link = draw_token(TokenKind.SIGN_IN_LINK)
    assert is_of_kind(link, TokenKind.SIGN_IN_LINK)
    assert not is_of_kind(link, TokenKind.OPS_ACCESS)
    assert not is_of_kind("", TokenKind.OPS_ACCESS)
    assert not is_of_kind(link + "x", TokenKind.SIGN_IN_LINK)
