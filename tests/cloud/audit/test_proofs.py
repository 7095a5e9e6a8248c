import json
import string
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.audit.proofs import NotProven, Proof, Proven, check, encode_proof, prove
from protocol.checkpoint import open_checkpoint, sign_checkpoint
from protocol.encoding import public_key_to_text
from tests.cloud.audit.log import Log


@pytest.fixture
def written(log: Log) -> bytes:
    """The proof of the sixth sale of nine, under the second checkpoint of three."""
    till, guest = log.floor.add_till(), log.floor.add_guest(5000)
    for _ in range(3):
        log.sell(till, guest, 3)
        log.sequence()
    return proof_of(log, log.floor.deducts(guest)[5].id)


def proof_of(log: Log, transaction_id: Any) -> bytes:
    with log.floor.database.one_moment() as connection:
        proof = prove(connection, transaction_id, log.find_key)
    assert isinstance(proof, Proof), proof
    return encode_proof(proof)


def test_every_transaction_is_proved_to_whoever_has_the_key(log: Log, written: bytes) -> None:
    key = log.floor.keys.checkpoint.private.public_key()
    with log.floor.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM credit_transactions").scalar_one()
    proven = 0
    for guest_transaction in all_transactions(log):
        found = check(proof_of(log, guest_transaction), key)
        assert isinstance(found, Proven), found
        assert found.record["id"] == str(guest_transaction)
        proven += 1
    assert proven == rows == 10


def all_transactions(log: Log) -> list[Any]:
    from sqlalchemy import select

    from cloud.store.tables import credit_transactions

    with log.floor.database.reading() as connection:
        return list(connection.execute(select(credit_transactions.c.id)).scalars())


def test_every_mutated_byte_of_a_proof_is_refused(log: Log, written: bytes) -> None:
    key = log.floor.keys.checkpoint.private.public_key()
    assert isinstance(check(written, key), Proven)
    for at, byte in enumerate(written):
        # One letter for another keeps it JSON and base64url: the hardest to notice.
        other = ord("A") if byte != ord("A") and chr(byte) in string.ascii_letters else byte ^ 1
        for changed in {other, byte ^ 0x20} - {byte}:
            mutated = written[:at] + bytes([changed]) + written[at + 1 :]
            assert isinstance(check(mutated, key), NotProven), (at, changed)
            assert isinstance(check(mutated), NotProven), (at, changed)
    for cut in (0, 1, len(written) // 2, len(written) - 1):
        assert isinstance(check(written[:cut], key), NotProven)
    assert isinstance(check(written + b"\n", key), NotProven)


def test_every_changed_field_of_a_proof_is_refused(log: Log, written: bytes) -> None:
    proof = json.loads(written)
    other = json.loads(proof_of(log, all_transactions(log)[0]))
    changes: list[dict[str, Any]] = [
        {name: other[name]} for name in ("record", "leaf_index", "path", "checkpoint")
    ]
    changes += [{"leaf_index": proof["leaf_index"] + each} for each in (-1, 1, 10**6)]
    changes += [{"path": proof["path"][:-1]}, {"path": [*proof["path"], proof["path"][0]]}]
    changes += [{"record": proof["record"] | {"amount_in_cents": 1}}, {"v": 2}, {"format": "x"}]
    changes += [{"record": proof["record"] | {"note": "x"}}, {"more": 1}]
    key = log.floor.keys.checkpoint.private.public_key()
    for change in changes:
        if {**proof, **change} == proof:
            continue
        assert isinstance(check(spelled(proof | change), key), NotProven), change


def spelled(proof: dict[str, Any]) -> bytes:
    import msgspec

    encoded = msgspec.json.encode(proof, order="sorted")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def test_a_proof_signed_by_somebody_else_is_refused_by_the_key(log: Log, written: bytes) -> None:
    """With its own key along it is whole; whose key that is, only the key itself tells."""
    private = ec.generate_private_key(ec.SECP256R1())
    proof = json.loads(written)
    opened = open_checkpoint(proof["checkpoint"], log.find_key)
    assert not isinstance(opened, str)
    forged = proof | {
        "checkpoint": sign_checkpoint(opened, private, "cp-1"),
        "public_key": public_key_to_text(private.public_key()),
    }
    key = log.floor.keys.checkpoint.private.public_key()
    assert isinstance(check(spelled(forged)), Proven)
    refused = check(spelled(forged), key)
    assert refused == NotProven("the proof was made with another key")
    half = proof | {"public_key": forged["public_key"]}
    assert isinstance(check(spelled(half)), NotProven)


def test_what_is_in_no_tree_or_was_changed_is_not_proven(log: Log, written: bytes) -> None:
    guest = log.floor.add_guest()
    [purchase] = log.floor.transactions(guest)
    with log.floor.database.one_moment() as connection:
        early = prove(connection, purchase.id, log.find_key)
    assert early == NotProven("no tree has this transaction yet")
    log.sequence()
    with log.superuser() as connection:
        connection.exec_driver_sql("UPDATE credit_transactions SET amount_in_cents = 1")
    with log.floor.database.one_moment() as connection:
        changed = prove(connection, purchase.id, log.find_key)
    assert changed == NotProven("the transaction is not what its leaf was made of")
