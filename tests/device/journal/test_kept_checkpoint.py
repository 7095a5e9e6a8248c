from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from device.journal.kept_checkpoint import FILE, FOLDER, KeptCheckpoint
from protocol.checkpoint import Checkpoint, sign_checkpoint

KEY = ec.generate_private_key(ec.SECP256R1())


def token(size: int, epoch: int = 1) -> str:
    checkpoint = Checkpoint(
        origin="0197a3c2-5f00-7c3a-9d51-2f6b8e0c4a17",
        epoch=epoch,
        size=size,
        root="A" * 43,
        at_ms=1_750_442_400_000,
    )
    return sign_checkpoint(checkpoint, KEY, "cp-1")


def test_the_newest_checkpoint_is_kept_and_no_older_one(tmp_path: Path) -> None:
    kept = KeptCheckpoint(tmp_path)
    assert kept.read() is None
    assert [kept.keep(token(size)) for size in (5, 7, 6, 7)] == [True, True, False, False]
    assert kept.keep(token(1, epoch=2))
    assert not kept.keep(token(9, epoch=1))
    standing = KeptCheckpoint(tmp_path).read()
    assert standing is not None
    assert (standing.epoch, standing.size) == (2, 1)
    assert [each.name for each in (tmp_path / FOLDER).iterdir()] == [FILE]


def test_what_is_no_checkpoint_replaces_nothing(tmp_path: Path) -> None:
    kept = KeptCheckpoint(tmp_path)
    kept.keep(token(5))
    assert not kept.keep("a.b.c")
    standing = kept.read()
    assert standing is not None
    assert standing.size == 5


def test_a_file_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff torn")
    kept = KeptCheckpoint(tmp_path)
    assert kept.read() is None
    assert kept.keep(token(3))


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptCheckpoint(tmp_path)
    kept.keep(token(5))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            kept.keep(token(6))
    standing = kept.read()
    assert standing is not None
    assert standing.size == 5
