"""The Merkle tree of RFC 6962 section 2.1, as arithmetic: no clock, no disk, no database.

A tree is a list of leaves, told by its size and its root. It grows from its frontier (the roots of
the perfect subtrees that it is made of, largest first: one a bit of its size), so appending needs
none of the leaves before.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""RFC 6962 section 2.1: the hash of an empty list is that of an empty string."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(content: bytes) -> bytes:
    return hashlib.sha256(_LEAF + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree as far as its growth needs it: its size, and the roots of its perfect subtrees."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()
    """Largest first; as many as `size` has bits set."""

    def __post_init__(self) -> None:
        assert len(self.peaks) == self.size.bit_count(), "one peak a bit of the size"

    def append(self, leaf: bytes) -> "Frontier":
        """The tree with one more leaf, given by its hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        peaks, size = list(self.peaks), self.size
        for leaf in leaves:
            peak, carried = leaf, size
            while carried & 1:
                peak, carried = node_hash(peaks.pop(), peak), carried >> 1
            peaks.append(peak)
            size += 1
        return Frontier(size, tuple(peaks))

    @property
    def root(self) -> bytes:
        return _folded(self.peaks)

    def to_bytes(self) -> bytes:
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, stored: bytes) -> "Frontier | None":
        """None where the bytes are not those of a tree of this size."""
        if len(stored) != HASH_BYTES * size.bit_count():
            return None
        starts = range(0, len(stored), HASH_BYTES)
        return cls(size, tuple(stored[at : at + HASH_BYTES] for at in starts))


def root_of(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of section 2.1, over leaf hashes."""
    return Frontier().extend(leaves).root


def inclusion_proof(
    leaves: Sequence[bytes], index: int, before: Frontier = Frontier()
) -> tuple[bytes, ...]:
    """PATH(m, D[n]) of section 2.1.1: the hashes beside the way from leaf `index` to the root.

    `leaves` are those after `before`, whose own are not needed: `index` is none of them.
    """
    size = before.size + len(leaves)
    assert before.size <= index < size, "a leaf of this tree, after those before"
    known = dict(zip(_peak_ranges(before.size), before.peaks, strict=True))

    def root(start: int, end: int) -> bytes:
        # A block within `before` whose parent reaches beyond it is one of the peaks.
        if (start, end) in known:
            return known[start, end]
        if end - start == 1:
            return leaves[start - before.size]
        middle = start + _split(end - start)
        return node_hash(root(start, middle), root(middle, end))

    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(root(middle, end))
            end = middle
        else:
            path.append(root(start, middle))
            start = middle
    return tuple(reversed(path))


def _peak_ranges(size: int) -> list[tuple[int, int]]:
    """What each peak of a tree of this size stands for: from, and up to, which leaf."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for bit in range(size.bit_length() - 1, -1, -1):
        if size >> bit & 1:
            ranges.append((start, start + (1 << bit)))
            start += 1 << bit
    return ranges


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root of the tree in which this path leads up from this leaf; None for no such path.

    RFC 9162 section 2.1.3.2: the path's length is that of the one way there is.
    """
    if not 0 <= index < size:
        return None
    node, last, found = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            found = node_hash(beside, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        node, last = node >> 1, last >> 1
    return found if last == 0 else None


def consistency_proof(leaves: Sequence[bytes], size: int) -> tuple[bytes, ...]:
    """PROOF(m, D[n]) of section 2.1.2: that the tree's first `size` leaves were a tree before."""
    assert 0 < size <= len(leaves), "a tree that this one grew from"
    return _subproof(leaves, size, is_whole=True)


def _subproof(leaves: Sequence[bytes], size: int, *, is_whole: bool) -> tuple[bytes, ...]:
    if size == len(leaves):
        return () if is_whole else (root_of(leaves),)
    split = _split(len(leaves))
    if size <= split:
        beside = root_of(leaves[split:])
        return (*_subproof(leaves[:split], size, is_whole=is_whole), beside)
    beside = root_of(leaves[:split])
    return (*_subproof(leaves[split:], size - split, is_whole=False), beside)


def is_consistent(
    old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the tree grew from the old one; RFC 9162 section 2.1.4.2."""
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    # A tree of a power of two leaves is itself the first node on the way.
    steps = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not steps:
        return False
    node, last = old_size - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old_found = found = steps[0]
    for beside in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_found, found = node_hash(beside, old_found), node_hash(beside, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        node, last = node >> 1, last >> 1
    return last == 0 and old_found == old_root and found == root


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _folded(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root
