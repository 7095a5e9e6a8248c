"""A bundle is in the folder whole, as its name says, or not at all; whoever uploads goes on."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from cloud.operations.refusals import Code, Refusal
from cloud.operations.updates import bundle_folder
from cloud.operations.updates.bundle_folder import DRAFTS_KEPT_S, BundleFolder, Received

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MAX = 64 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    return BundleFolder(tmp_path / "updates", MAX)


def code_of(answer: object) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


def upload(folder: BundleFolder, content: bytes = CONTENT, sha256: str = SHA256) -> Refusal | None:
    for at in range(0, len(content), 1000):
        taken = folder.take_part(sha256, at, content[at : at + 1000])
        assert isinstance(taken, Received)
    return folder.finish(sha256, len(content))


def test_a_bundle_that_came_in_parts_is_found_whole(folder: BundleFolder, tmp_path: Path) -> None:
    assert folder.received(SHA256) == Received(0, is_whole=False)
    assert upload(folder) is None
    path = folder.find(SHA256)
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in (tmp_path / "updates").iterdir()] == [f"{SHA256}.raucb"]
    assert folder.received(SHA256) == Received(len(CONTENT), is_whole=True)


def test_a_part_that_is_said_again_changes_nothing_and_a_gap_is_refused(
    folder: BundleFolder,
) -> None:
    first = CONTENT[:1000]
    assert folder.take_part(SHA256, 0, first) == Received(1000, is_whole=False)
    assert folder.take_part(SHA256, 0, first) == Received(1000, is_whole=False)
    assert code_of(folder.take_part(SHA256, 2000, b"x")) is Code.BUNDLE_PART_MISPLACED
    assert code_of(folder.take_part(SHA256, 500, CONTENT[500:1500])) is Code.BUNDLE_PART_MISPLACED
    assert folder.received(SHA256) == Received(1000, is_whole=False)


def test_a_truncated_upload_is_no_bundle_and_goes_on_where_it_ended(folder: BundleFolder) -> None:
    folder.take_part(SHA256, 0, CONTENT[:4000])
    assert code_of(folder.finish(SHA256, len(CONTENT))) is Code.BUNDLE_PART_MISPLACED
    assert folder.find(SHA256) is None
    folder.take_part(SHA256, 4000, CONTENT[4000:])
    assert folder.finish(SHA256, len(CONTENT)) is None


@pytest.mark.parametrize("content", [b"y" * len(CONTENT), CONTENT + b"more"])
def test_what_is_not_as_it_is_named_is_deleted_and_may_be_sent_again(
    folder: BundleFolder, content: bytes
) -> None:
    assert code_of(upload(folder, content)) is Code.BUNDLE_DAMAGED
    assert folder.received(SHA256) == Received(0, is_whole=False)
    assert upload(folder) is None


def test_a_whole_bundle_is_neither_written_to_nor_begun_again(
    folder: BundleFolder, tmp_path: Path
) -> None:
    assert upload(folder) is None
    assert folder.take_part(SHA256, 0, b"y" * 100) == Received(len(CONTENT), is_whole=True)
    answer = folder.take_part(SHA256, len(CONTENT), b"more")
    assert code_of(answer) is Code.BUNDLE_PART_MISPLACED
    assert folder.finish(SHA256, 1) is None
    path = folder.find(SHA256)
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert len(list((tmp_path / "updates").iterdir())) == 1


def test_nothing_larger_than_set_is_taken(folder: BundleFolder) -> None:
    assert code_of(folder.take_part(SHA256, MAX - 1, b"ab")) is Code.BUNDLE_TOO_LARGE
    assert code_of(folder.take_part(SHA256, 2**60, b"")) is Code.BUNDLE_TOO_LARGE


def test_two_who_upload_the_same_at_once_make_one_bundle(folder: BundleFolder) -> None:
    start, refusals = threading.Barrier(4), list[object]()

    def go() -> None:
        start.wait()
        for at in range(0, len(CONTENT), 500):
            folder.take_part(SHA256, at, CONTENT[at : at + 500])
        refusals.append(folder.finish(SHA256, len(CONTENT)))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals == [None] * 4
    path = folder.find(SHA256)
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_a_full_disk_is_said_and_the_upload_goes_on_once_there_is_room(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.take_part(SHA256, 0, CONTENT[:1000])
    write = os.pwrite

    def is_full(draft: int, part: bytes, at: int) -> int:
        write(draft, part[:10], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_folder.os, "pwrite", is_full)
    assert code_of(folder.take_part(SHA256, 1000, CONTENT[1000:])) is Code.STORAGE_FULL
    monkeypatch.undo()
    assert folder.received(SHA256) == Received(1000, is_whole=False)
    folder.take_part(SHA256, 1000, CONTENT[1000:])
    assert folder.finish(SHA256, len(CONTENT)) is None


def test_a_draft_that_nobody_goes_on_with_is_forgotten(
    folder: BundleFolder, tmp_path: Path
) -> None:
    folder.take_part(SHA256, 0, b"x")
    [draft] = (tmp_path / "updates").iterdir()
    at = draft.stat().st_mtime - DRAFTS_KEPT_S - 10
    os.utime(draft, (at, at))
    other = "b" * 64
    folder.take_part(other, 0, b"x")
    assert [each.name for each in (tmp_path / "updates").iterdir()] == [f".{other}.part"]


def test_a_draft_that_another_upload_takes_away_meanwhile_stops_nobody(
    folder: BundleFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glob = Path.glob

    def listed_a_moment_ago(self: Path, pattern: str) -> list[Path]:
        return [*glob(self, pattern), self / f".{'c' * 64}.part"]

    monkeypatch.setattr(Path, "glob", listed_a_moment_ago)
    assert folder.take_part(SHA256, 0, b"x") == Received(1, is_whole=False)
    assert [each.name for each in (tmp_path / "updates").iterdir()] == [f".{SHA256}.part"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", ""])
def test_no_name_leads_out_of_the_folder(folder: BundleFolder, name: str) -> None:
    with pytest.raises(AssertionError, match="no name of a bundle"):
        folder.find(name)
    with pytest.raises(AssertionError, match="no name of a bundle"):
        folder.take_part(name, 1, b"x")
