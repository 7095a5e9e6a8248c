"""The audit log: the sequencer, its Merkle tree, and proofs."""
