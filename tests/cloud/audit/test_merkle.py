import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    root_by_inclusion,
    root_of,
)

# The test vectors of certificate-transparency (merkletree/merkle_tree_test.cc), which users of
# RFC 6962 compare themselves with: eight inputs, and what each tree of the first n hashes to.
INPUTS = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(each)
    for each in (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
LEAVES = [leaf_hash(each) for each in INPUTS]
PATHS = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (2, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
GROWTHS = {
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root == EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root_of(LEAVES[:size]) == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_the_paths_are_those_of_certificate_transparency(index: int, size: int) -> None:
    """Its vectors count leaves from 1."""
    path = inclusion_proof(LEAVES[:size], index - 1)
    assert [each.hex() for each in path] == PATHS[index, size]
    assert root_by_inclusion(LEAVES[index - 1], index - 1, size, path) == ROOTS[size - 1]


@pytest.mark.parametrize(("old", "size"), GROWTHS)
def test_the_growth_proofs_are_those_of_certificate_transparency(old: int, size: int) -> None:
    proof = consistency_proof(LEAVES[:size], old)
    assert [each.hex() for each in proof] == GROWTHS[old, size]
    assert is_consistent(old, ROOTS[old - 1], size, ROOTS[size - 1], proof)


def textbook_root(leaves: list[bytes]) -> bytes:
    """Section 2.1 word for word: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(textbook_root(leaves[:split]), textbook_root(leaves[split:]))


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


SIZES = st.integers(1, 200)


@given(SIZES, st.integers(0, 200))
def test_growing_from_a_frontier_is_the_same_as_hashing_all(size: int, cut: int) -> None:
    leaves, cut = hashes(size), min(cut, size)
    began = Frontier().extend(leaves[:cut])
    kept = Frontier.from_bytes(began.size, began.to_bytes())
    assert kept == began
    grown = began
    for each in leaves[cut:]:
        grown = grown.append(each)
    assert grown.root == textbook_root(leaves)
    assert Frontier.from_bytes(size, grown.to_bytes() + b"x") is None


@given(st.data(), SIZES)
def test_every_leaf_is_proved_and_no_other_in_its_place(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    root, path = root_of(leaves), inclusion_proof(leaves, index)
    assert root_by_inclusion(leaves[index], index, size, path) == root

    elsewhere = data.draw(st.integers(-2, size + 2))
    if elsewhere != index:
        assert root_by_inclusion(leaves[index], elsewhere, size, path) != root
    assert root_by_inclusion(leaf_hash(b"forged"), index, size, path) != root
    assert root_by_inclusion(leaves[index], index, size, (*path, root)) is None
    if path:
        at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
        flipped = (int.from_bytes(path[at], "big") ^ 1 << bit).to_bytes(32, "big")
        bent = (*path[:at], flipped, *path[at + 1 :])
        assert root_by_inclusion(leaves[index], index, size, bent) != root
        assert root_by_inclusion(leaves[index], index, size, path[:-1]) is None


@given(st.data(), SIZES)
def test_a_proof_needs_only_the_frontier_before_the_leaf(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    cut = data.draw(st.integers(0, index))
    before = Frontier().extend(leaves[:cut])
    assert inclusion_proof(leaves[cut:], index, before) == inclusion_proof(leaves, index)


@given(st.data(), SIZES)
def test_a_tree_proves_what_it_grew_from_and_nothing_else(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    old = data.draw(st.integers(1, size))
    root, old_root = root_of(leaves), root_of(leaves[:old])
    proof = consistency_proof(leaves, old)
    assert is_consistent(old, old_root, size, root, proof)

    forged = leaf_hash(b"forged")
    assert not is_consistent(old, forged, size, root, proof)
    assert not is_consistent(old, old_root, size, forged, proof)
    assert not is_consistent(old, old_root, size, root, (*proof, forged))
    assert not is_consistent(0, EMPTY_ROOT, size, root, proof)
    assert not is_consistent(size + 1, old_root, size, root, proof)
    if proof:
        assert not is_consistent(old, old_root, size, root, proof[:-1])
        assert not is_consistent(old, old_root, size, root, (forged, *proof[1:]))
        assert not is_consistent(old, old_root, size, root, ())
    rewritten = [forged, *leaves[1:]]
    assert not is_consistent(
        old, old_root, size, root_of(rewritten), consistency_proof(rewritten, old)
    )


@given(st.data(), st.integers(2, 200))
def test_a_proof_of_growth_is_no_proof_for_another_size(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    old = data.draw(st.integers(1, size - 1))
    other = data.draw(st.integers(1, size - 1).filter(lambda each: each != old))
    proof = consistency_proof(leaves, old)
    assert not is_consistent(other, root_of(leaves[:old]), size, root_of(leaves), proof)
