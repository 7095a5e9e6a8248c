import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud.keys import KeyRing, KeyRingError
from protocol import topics
from protocol.ids import EventId

SPRING = EventId("spring-fair")


def test_keys_are_made_once_and_found_again(tmp_path: Path) -> None:
    first = KeyRing(tmp_path / "keys")
    again = KeyRing(tmp_path / "keys")
    assert first.policy.named == again.policy.named
    assert first.reply.named == again.reply.named
    assert first.pin.named == again.pin.named
    names = {first.policy.kid, first.reply.kid, first.badge.kid, first.pin.kid}
    assert len(names) == 4


def test_only_the_clouds_user_may_read_a_key(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    ring.wallet_for(SPRING)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    files = list((tmp_path / "keys").iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert "PRIVATE" not in repr(ring.reply)


def test_a_key_that_others_may_read_is_refused_by_name(tmp_path: Path) -> None:
    KeyRing(tmp_path)
    (tmp_path / "reply.pem").chmod(0o640)
    with pytest.raises(KeyRingError, match=r"reply\.pem"):
        KeyRing(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    KeyRing(tmp_path)
    (tmp_path / "badge.pem").write_bytes(content)
    with pytest.raises(KeyRingError, match=r"badge\.pem"):
        KeyRing(tmp_path)


def test_a_wallet_key_belongs_to_one_event_and_has_a_short_name(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    spring, autumn = ring.wallet_for(SPRING), ring.wallet_for(EventId("autumn-fair"))
    assert spring.kid != autumn.kid
    assert len(spring.kid) <= 4
    found = ring.find_wallet(spring.kid)
    assert found is not None
    assert found.event_id == SPRING
    assert found.public_key.public_numbers() == spring.private.public_key().public_numbers()
    assert ring.find_wallet("???") is None
    assert ring.find_wallet("../../etc/passwd") is None


def test_a_wallet_key_that_another_process_made_is_found_without_a_restart(tmp_path: Path) -> None:
    worker, api = KeyRing(tmp_path), KeyRing(tmp_path)
    made = api.wallet_for(SPRING)
    assert worker.find_wallet(made.kid) is not None
    assert worker.wallet_for(SPRING).kid == made.kid


def test_many_processes_making_a_key_at_once_make_one(tmp_path: Path) -> None:
    def make(_: int) -> str:
        return KeyRing(tmp_path).wallet_for(SPRING).kid

    with ThreadPoolExecutor(8) as pool:
        kids = set(pool.map(make, range(16)))
    assert len(kids) == 1


def test_badges_are_checked_with_the_badge_key_alone(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    assert ring.find_badge(ring.badge.kid) is not None
    assert ring.find_badge(ring.reply.kid) is None


def test_every_worker_of_a_cloud_names_one_group_that_no_other_cloud_can_name(
    tmp_path: Path,
) -> None:
    ring = KeyRing(tmp_path / "one")
    assert ring.workers_group == KeyRing(tmp_path / "one").workers_group
    assert ring.workers_group != KeyRing(tmp_path / "other").workers_group
    assert topics.shared_requests(ring.workers_group).startswith("$share/")


def test_a_prepared_key_is_known_before_it_signs_and_the_old_one_after(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    old = ring.reply.kid
    new = ring.prepare("reply")
    assert (ring.reply.kid, ring.prepared("reply")) == (old, new)
    assert ring.find("reply", new) is not None
    assert ring.activate("reply") == new
    assert ring.reply.kid == new
    assert [each.kid for each in ring.known("reply")] == [new, old]
    assert ring.find("reply", old) is not None
    assert ring.prepared("reply") is None


def test_a_change_of_keys_that_the_power_cut_short_is_finished_by_doing_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(tmp_path)
    old, new = ring.reply.kid, ring.prepare("reply")

    with monkeypatch.context() as power:
        power.setattr("cloud.key_files.prepared_file", _unmovable)
        with pytest.raises(OSError, match="the power went"):
            ring.activate("reply")
    after = KeyRing(tmp_path)
    assert (after.reply.kid, after.prepared("reply")) == (old, new)
    assert [each.kid for each in after.known("reply")] == [old, new]
    assert after.activate("reply") == new
    assert [each.kid for each in KeyRing(tmp_path).known("reply")] == [new, old]


def _unmovable(folder: Path, _name: str) -> "_Unmovable":
    return _Unmovable(folder)


class _Unmovable:
    """A prepared key that is there, and whose move to its place the power cuts off."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reply.next.pem"

    def exists(self) -> bool:
        return self._path.exists()

    def replace(self, _target: Path) -> None:
        raise OSError("the power went")


def test_nothing_of_a_retired_key_can_sign(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.prepare("reply")
    ring.activate("reply")
    [left] = [path for path in tmp_path.iterdir() if "retired" in path.name]
    assert b"PRIVATE" not in left.read_bytes()
    assert stat.S_IMODE(left.stat().st_mode) == 0o600


def test_a_key_that_nobody_prepared_cannot_be_activated(tmp_path: Path) -> None:
    with pytest.raises(KeyRingError, match="no new key is prepared for reply"):
        KeyRing(tmp_path).activate("reply")
