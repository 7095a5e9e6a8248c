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
