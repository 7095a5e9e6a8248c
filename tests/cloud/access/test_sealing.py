from cloud.access.sealing import hash_code, seal, unseal

KEY, OTHER = b"k" * 32, b"o" * 32


def test_what_is_sealed_opens_for_the_same_person_with_the_same_key_alone() -> None:
    sealed = seal(KEY, "a secret", "ana")
    assert b"secret" not in sealed
    assert unseal(KEY, sealed, "ana") == "a secret"
    assert unseal(KEY, sealed, "bo") is None
    assert unseal(OTHER, sealed, "ana") is None
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert unseal(KEY, bytes(changed), "ana") is None
    assert unseal(KEY, b"", "ana") is None


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert seal(KEY, "a secret", "ana") != seal(KEY, "a secret", "ana")


def test_a_codes_hash_says_nothing_without_the_key() -> None:
    assert hash_code(KEY, "123456", "ana") == hash_code(KEY, "123456", "ana")
    assert hash_code(KEY, "123456", "ana") != hash_code(OTHER, "123456", "ana")
    assert hash_code(KEY, "123456", "ana") != hash_code(KEY, "123456", "bo")
