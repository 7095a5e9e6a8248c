"""Proofs that a third party checks with a public key alone: no database, no other file of ours."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, select

from cloud.audit.leaves import LeafKind, canonical_form, find_rows, leaf_of
from cloud.audit.merkle import Frontier, inclusion_proof, leaf_hash, root_by_inclusion
from cloud.store.tables import audit_checkpoints, audit_leaves
from protocol.checkpoint import Checkpoint, Hash, open_checkpoint
from protocol.encoding import (
    from_base64url,
    public_key_from_text,
    public_key_to_text,
    to_base64url,
)
from protocol.messages import UNREADABLE
from protocol.signing import PublicKey, SignatureRefusal

FORMAT: Final = "railtix-inclusion-proof"
_PATH_MAX: Final = 64

FindPublicKey = Callable[[str], PublicKey | None]


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That one record is in the tree which the checkpoint was signed over."""

    format: Literal["railtix-inclusion-proof"] = FORMAT
    v: Literal[1] = 1
    record: dict[str, Any]
    """Every column that is not empty; its leaf is of this, members sorted, without spaces."""
    leaf_index: Annotated[int, msgspec.Meta(ge=0, le=2**50)]
    path: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=_PATH_MAX)]
    """RFC 6962 section 2.1.1, from the leaf up, base64url."""
    checkpoint: Annotated[str, msgspec.Meta(max_length=2048)]
    """JWS: the tree's size and root, and when that was signed."""
    public_key: Annotated[str, msgspec.Meta(max_length=256)]
    """What the signature is checked with (SubjectPublicKeyInfo, DER, base64url)."""


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    record: dict[str, Any]
    leaf_index: int
    checkpoint: Checkpoint
    public_key: str


class NotProven(msgspec.Struct, frozen=True):
    """Why a proof shows nothing."""

    reason: str


_PROOF: Final = msgspec.json.Decoder(Proof)
_RECORD: Final = msgspec.json.Encoder(order="sorted")


def prove(
    connection: Connection, transaction_id: UUID, find_key: FindPublicKey
) -> Proof | NotProven:
    """The proof for a transaction, under the first checkpoint that was signed over it.

    That one needs the leaves since the checkpoint before, and no others.
    """
    leaf = connection.execute(
        select(audit_leaves).where(
            audit_leaves.c.record_id == transaction_id,
            audit_leaves.c.kind == LeafKind.TRANSACTION.value,
        )
    ).one_or_none()
    if leaf is None:
        return NotProven("no tree has this transaction yet")
    named = (LeafKind.TRANSACTION, leaf.record_id, leaf.user_id)
    row = find_rows(connection, [named]).get(named)
    if row is None or leaf_of(LeafKind.TRANSACTION, row) != bytes(leaf.leaf_hash):
        return NotProven("the transaction is not what its leaf was made of")
    return _prove_leaf(connection, leaf, canonical_form(LeafKind.TRANSACTION, row), find_key)


def _prove_leaf(
    connection: Connection, leaf: Row[Any], canonical: bytes, find_key: FindPublicKey
) -> Proof | NotProven:
    of = audit_checkpoints.c
    after = connection.execute(
        select(audit_checkpoints)
        .where(of.epoch == leaf.epoch, of.size > leaf.position)
        .order_by(of.size)
        .limit(1)
    ).one_or_none()
    before = connection.execute(
        select(audit_checkpoints)
        .where(of.epoch == leaf.epoch, of.size <= leaf.position)
        .order_by(of.size.desc())
        .limit(1)
    ).one_or_none()
    frontier = (
        Frontier() if before is None else Frontier.from_bytes(before.size, bytes(before.frontier))
    )
    if after is None or frontier is None:
        return NotProven("no checkpoint covers it")
    leaves = [
        bytes(each)
        for each in connection.execute(
            select(audit_leaves.c.leaf_hash)
            .where(
                audit_leaves.c.epoch == leaf.epoch,
                audit_leaves.c.position >= frontier.size,
                audit_leaves.c.position < after.size,
            )
            .order_by(audit_leaves.c.position)
        ).scalars()
    ]
    opened = open_checkpoint(after.jws, find_key)
    if isinstance(opened, SignatureRefusal) or len(leaves) != after.size - frontier.size:
        return NotProven("the tree is damaged: run `railtix-cloud audit verify`")
    key = find_key(_key_id(after.jws))
    assert key is not None, "it has just checked the signature"
    path = inclusion_proof(leaves, leaf.position, frontier)
    proof = Proof(
        record=msgspec.json.decode(canonical),
        leaf_index=leaf.position,
        path=tuple(to_base64url(each) for each in path),
        checkpoint=after.jws,
        public_key=public_key_to_text(key),
    )
    checked = check(encode_proof(proof))
    return proof if isinstance(checked, Proven) else checked


def encode_proof(proof: Proof) -> bytes:
    """The one spelling of the file: `check` takes no other."""
    return msgspec.json.format(_RECORD.encode(proof), indent=2) + b"\n"


def check(written: bytes, key: PublicKey | None = None) -> Proven | NotProven:
    """Judge a proof file by `key`, or by the key that it brings along.

    The latter shows that the file is whole, and which key's word it is: whose key that is has to be
    known from elsewhere.
    """
    try:
        proof = _PROOF.decode(written)
    except UNREADABLE as error:
        return NotProven(f"this is no proof file: {error}")
    if encode_proof(proof) != written:
        return NotProven("the file is not as it was written")
    own = public_key_from_text(proof.public_key)
    if own is None:
        return NotProven("the public key in the file is none")
    if key is not None and public_key_to_text(key) != proof.public_key:
        return NotProven("the proof was made with another key")
    checkpoint = open_checkpoint(proof.checkpoint, lambda _: own)
    if isinstance(checkpoint, SignatureRefusal):
        return NotProven(f"the checkpoint's signature does not count: {checkpoint.value}")
    path = [from_base64url(each.encode()) for each in proof.path]
    hashes = [each for each in path if each is not None]
    leaf = leaf_hash(_RECORD.encode(proof.record))
    root = root_by_inclusion(leaf, proof.leaf_index, checkpoint.size, hashes)
    if len(hashes) != len(path) or root != checkpoint.root_hash:
        return NotProven("the record is not in the tree that was signed")
    return Proven(
        record=proof.record,
        leaf_index=proof.leaf_index,
        checkpoint=checkpoint,
        public_key=proof.public_key,
    )


def _key_id(token: str) -> str:
    """The `kid` of a checkpoint that has been opened."""
    header = from_base64url(token.partition(".")[0].encode())
    assert header is not None, "an opened token"
    return str(msgspec.json.decode(header)["kid"])
