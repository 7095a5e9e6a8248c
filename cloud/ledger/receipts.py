"""The short code on a receipt: what a person reads out to find a transaction again."""

from typing import Final

from protocol.ids import TransactionId

# Crockford's base 32: no I, L, O or U, so that nothing is misread or rude.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def short_code(transaction_id: TransactionId) -> str:
    """Eight characters, as `7K2M-9QXD`: the last 40 bits of the id, which in a UUIDv7 are random.

    With the event and the day beside it, it is unique in practice; it proves nothing.
    """
    number = int(transaction_id.replace("-", "")[-10:], 16)
    characters = [_ALPHABET[number >> shift & 31] for shift in range(35, -1, -5)]
    return "".join(characters[:4]) + "-" + "".join(characters[4:])
