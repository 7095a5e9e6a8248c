import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from device.bundles import fetch as fetching
from device.bundles.fetch import Failure, Pace, Trouble, Way, fetch
from device.bundles.folder import BundleFolder
from device.identity.exchange import Address
from device.updating.facts import Bundle
from protocol.updates import Update, bundle_path
from tests.device.bundles.conftest import Papers
from tests.device.bundles.serving_bundles import Shelf, serving

CONTENT = bytes(range(256)) * 3000
SHA = hashlib.sha256(CONTENT).hexdigest()
UPDATE = Update(
    version="0.2.0",
    sha256=SHA,
    size=len(CONTENT),
    compatible="railtix-pos-debian",
    channel="stable",
    rollout_percent=100,
)
FAST = 1e12

Open = Callable[..., tuple[Shelf, Way]]


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    (tmp_path / "state").mkdir()
    return BundleFolder(tmp_path / "state")


@pytest.fixture
def cloud(cloud_papers: Papers) -> Iterator[Open]:
    with ExitStack() as stack:

        def begin(shelf: Shelf | None = None, believed: Path | None = None) -> tuple[Shelf, Way]:
            shelf = shelf or Shelf(CONTENT, etag=f'"{SHA}"')
            way = serving(
                shelf,
                cloud_papers.certificate,
                cloud_papers.key,
                believed or cloud_papers.certificate,
            )
            return shelf, stack.enter_context(way)

        yield begin


def get(way: Way, folder: BundleFolder, pace: Pace | None = None) -> Failure | None:
    return fetch(way, UPDATE, folder, pace or Pace(FAST))


def trouble(way: Way, folder: BundleFolder) -> Trouble | None:
    failure = get(way, folder)
    return None if failure is None else failure.trouble


def is_whole(folder: BundleFolder) -> bool:
    return folder.look(UPDATE) == Bundle(len(CONTENT), is_whole=True)


def test_a_bundle_is_fetched_whole_and_called_so_only_once_it_is_right(
    folder: BundleFolder, cloud: Open
) -> None:
    shelf, way = cloud()
    assert get(way, folder) is None
    assert is_whole(folder)
    assert folder.whole(SHA).read_bytes() == CONTENT
    assert folder.whole(SHA).stat().st_mode & 0o777 == 0o600
    assert not folder.part(SHA).exists()
    assert shelf.asked[0]["path"] == bundle_path(SHA)
    assert "Range" not in shelf.asked[0]


@pytest.mark.parametrize("there", [1, 4095, 4096, 65_536, len(CONTENT) - 1])
def test_it_goes_on_from_whatever_byte_a_power_cut_left(
    folder: BundleFolder, cloud: Open, there: int
) -> None:
    shelf, way = cloud()
    folder.path.mkdir()
    folder.part(SHA).write_bytes(CONTENT[:there])
    assert folder.look(UPDATE) == Bundle(there)
    assert get(way, folder) is None
    assert is_whole(folder)
    assert shelf.asked[0]["Range"] == f"bytes={there}-"
    assert shelf.asked[0]["If-Range"] == f'"{SHA}"'


def test_a_network_that_is_cut_again_and_again_costs_no_byte_twice(
    folder: BundleFolder, cloud: Open
) -> None:
    shelf, way = cloud()
    shelf.cut_after = 100_000
    tries = 0
    while (failure := get(way, folder)) is not None:
        assert failure.trouble is Trouble.NO_WAY
        tries += 1
        assert tries < 20
    assert is_whole(folder)
    assert tries == len(CONTENT) // 100_000


def test_all_that_was_there_before_the_name_was_changed_is_only_looked_at(
    folder: BundleFolder,
) -> None:
    """The power went between the last byte and the rename: nobody need be asked."""
    folder.path.mkdir()
    folder.part(SHA).write_bytes(CONTENT)
    nowhere = Way(Address("127.0.0.1", 9), fetching.ssl.create_default_context())
    assert get(nowhere, folder) is None
    assert is_whole(folder)


@pytest.mark.parametrize("damaged", [CONTENT[:-1] + b"?", CONTENT + b"and more"])
def test_what_a_power_cut_damaged_is_thrown_away_and_fetched_anew(
    folder: BundleFolder, cloud: Open, damaged: bytes
) -> None:
    _, way = cloud()
    folder.path.mkdir()
    folder.part(SHA).write_bytes(damaged)
    if len(damaged) == len(CONTENT):
        assert trouble(way, folder) is Trouble.CHANGED
        assert not folder.part(SHA).exists()
    assert get(way, folder) is None
    assert is_whole(folder)


def test_a_server_that_ignores_ranges_is_begun_with_anew(folder: BundleFolder, cloud: Open) -> None:
    shelf, way = cloud()
    shelf.ignores_range = True
    folder.path.mkdir()
    folder.part(SHA).write_bytes(b"?" * 5000)
    assert get(way, folder) is None
    assert is_whole(folder)


def test_another_etag_means_that_all_of_it_comes(folder: BundleFolder, cloud: Open) -> None:
    shelf, way = cloud()
    shelf.etag = '"another"'
    folder.path.mkdir()
    folder.part(SHA).write_bytes(CONTENT[:5000])
    assert get(way, folder) is None
    assert folder.whole(SHA).read_bytes() == CONTENT


def test_other_bytes_under_the_same_name_are_never_called_whole(
    folder: BundleFolder, cloud: Open
) -> None:
    shelf, way = cloud()
    shelf.content = b"?" * len(CONTENT)
    assert trouble(way, folder) is Trouble.CHANGED
    assert folder.look(UPDATE) == Bundle()


def test_a_server_that_has_less_of_it_is_begun_with_anew(folder: BundleFolder, cloud: Open) -> None:
    shelf, way = cloud()
    folder.path.mkdir()
    folder.part(SHA).write_bytes(CONTENT[:5000])
    shelf.content = CONTENT[:100]
    assert trouble(way, folder) is Trouble.CHANGED
    shelf.content = CONTENT
    assert get(way, folder) is None


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, Trouble.REFUSED),
        (403, {}, Trouble.REFUSED),
        (404, {}, Trouble.GONE),
        (503, {"Retry-After": "77"}, Trouble.BUSY),
        (429, {"Retry-After": "x" * 50}, Trouble.BUSY),
        (302, {"Location": "https://elsewhere.example/"}, Trouble.STRANGE),
        (500, {}, Trouble.STRANGE),
        (200, {"Content-Length": "17"}, Trouble.STRANGE),
        (206, {"Content-Range": "bytes 1-2/3"}, Trouble.STRANGE),
        (206, {}, Trouble.STRANGE),
    ],
)
def test_what_else_it_may_answer_leaves_what_was_fetched(
    folder: BundleFolder, cloud: Open, status: int, headers: dict[str, str], expected: Trouble
) -> None:
    shelf, way = cloud()
    shelf.status, shelf.headers, shelf.ignores_range = status, headers, True
    folder.path.mkdir()
    folder.part(SHA).write_bytes(CONTENT[:5000])
    failure = get(way, folder)
    assert failure is not None
    assert failure.trouble is expected
    assert folder.part(SHA).read_bytes() == CONTENT[:5000]
    if headers.get("Retry-After") == "77":
        assert failure.wait_s == 77


def test_whoever_is_not_our_cloud_is_told_nothing(
    folder: BundleFolder, cloud: Open, other_papers: Papers
) -> None:
    shelf, way = cloud(believed=other_papers.certificate)
    assert trouble(way, folder) is Trouble.NOT_BELIEVED
    assert shelf.asked == []


def test_nobody_there_is_no_way(folder: BundleFolder, cloud: Open) -> None:
    _, way = cloud()
    assert trouble(Way(Address("127.0.0.1", 9), way.context), folder) is Trouble.NO_WAY


def test_a_disk_that_is_full_loses_the_bundle_and_not_the_journal(
    folder: BundleFolder, cloud: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way = cloud()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching.os, "pwrite", full)
    assert trouble(way, folder) is Trouble.NO_ROOM
    monkeypatch.undo()
    assert not folder.part(SHA).exists()


def test_it_ends_while_there_is_still_room_for_what_is_sold(
    folder: BundleFolder, cloud: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way = cloud()

    def nearly_full(_: BundleFolder) -> int:
        return fetching.FREE_MIN - 1

    monkeypatch.setattr(BundleFolder, "free_bytes", nearly_full)
    assert trouble(way, folder) is Trouble.NO_ROOM
    assert folder.look(UPDATE) == Bundle()


def test_a_disk_that_fails_is_told_from_a_network_that_does(
    folder: BundleFolder, cloud: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way = cloud()

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fetching.os, "fdatasync", broken)
    assert trouble(way, folder) is Trouble.DISK
    monkeypatch.undo()
    folder.path.rename(folder.state / "moved")
    folder.path.write_text("a file where the folder should be")
    assert trouble(way, folder) is Trouble.DISK


def test_it_keeps_to_its_pace_and_waits_while_a_customer_does(
    folder: BundleFolder, cloud: Open
) -> None:
    _, way = cloud()
    slept: list[float] = []
    pace = Pace(bytes_per_s=len(CONTENT) / 30, is_held=True)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            pace.is_held = False

    pace.sleep = sleep
    assert get(way, folder, pace) is None
    assert 0.1 in slept
    assert max(slept) > 20, "all of it in half a minute"


def test_what_was_held_up_is_not_made_up_for_at_the_next_sales_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr("device.bundles.fetch.monotonic", lambda: now_s)
    pace = Pace(bytes_per_s=10.0, sleep=sleep)
    assert not pace.take(10)
    now_s += 60.0
    since = now_s
    for _ in range(20):
        pace.take(10)
    assert now_s - since == pytest.approx(19.0)


def test_one_that_is_stopped_ends_and_goes_on_later(folder: BundleFolder, cloud: Open) -> None:
    _, way = cloud()
    pace = Pace(bytes_per_s=1.0)

    def sleep(_seconds: float) -> None:
        pace.is_stopped = True

    pace.sleep = sleep
    failure = get(way, folder, pace)
    assert failure is not None
    assert failure.trouble is Trouble.STOPPED
    assert 0 < folder.look(UPDATE).bytes_there < len(CONTENT)
    assert get(way, folder) is None


def test_never_much_waits_to_be_written_before_a_sales_own_flush(
    folder: BundleFolder, cloud: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, way = cloud()
    written = [0]
    at_work = (os.pwrite, os.fdatasync)

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        written[0] += len(data)
        assert written[0] < 2 * fetching.FLUSH_BYTES
        return at_work[0](descriptor, data, at)

    def fdatasync(descriptor: int) -> None:
        written[0] = 0
        at_work[1](descriptor)

    monkeypatch.setattr(fetching.os, "pwrite", pwrite)
    monkeypatch.setattr(fetching.os, "fdatasync", fdatasync)
    assert get(way, folder) is None


def test_only_bundles_are_ever_let_go(folder: BundleFolder) -> None:
    folder.path.mkdir()
    kept = ["record.json", "again", f"{SHA}.raucb", "notes.txt", f"{SHA}.raucb.bak"]
    for name in (*kept, f"{'a' * 64}.raucb", f"{'b' * 64}.part"):
        (folder.path / name).touch()
    (folder.state / "journal.db").touch()
    assert folder.keep_only(frozenset({SHA})) == 2
    assert sorted(each.name for each in folder.path.iterdir()) == sorted(kept)
    assert (folder.state / "journal.db").exists()
    assert BundleFolder(folder.state / "nothing").keep_only(frozenset()) == 0
    assert BundleFolder(folder.state / "nothing").free_bytes() == 0
    assert folder.look(None) == Bundle()
