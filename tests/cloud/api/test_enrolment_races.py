"""Appliances that enrol at the same moment, on PostgreSQL: exactly one has its way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import httpx
import pytest

from cloud.operations.enrolment import enrol_claim
from tests.cloud.api.enrolment_office import Office, certificates_in

pytestmark = pytest.mark.postgres
_AT_ONCE = 4


@pytest.fixture
def busy(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """Where nobody stores before everybody was issued a certificate."""
    office = Office(postgres_url, tmp_path)
    everybody = Barrier(_AT_ONCE)
    issue = enrol_claim.certify

    def issue_and_wait(*asked: object) -> object:
        issued = issue(*asked)  # pyright: ignore[reportArgumentType]
        everybody.wait(60)
        return issued

    monkeypatch.setattr(enrol_claim, "certify", issue_and_wait)
    yield office
    office.close()


def _at_once(asked: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(_AT_ONCE) as hands:
        return list(hands.map(asked, range(_AT_ONCE)))


def _codes(answers: list[httpx.Response]) -> list[str]:
    return sorted("" if each.is_success else each.json()["code"] for each in answers)


def test_of_keys_that_race_for_one_claim_exactly_one_wins(busy: Office) -> None:
    claim = busy.claim(device_id="raced-1")
    boxes = [busy.box() for _ in range(_AT_ONCE)]
    answers = _at_once(lambda number: busy.enrol(boxes[number], claim))
    assert _codes(answers) == ["", *["claim_used"] * (_AT_ONCE - 1)]
    assert len(busy.certificates_of("raced-1")) == 1


def test_one_key_that_asks_twice_at_once_is_given_one_certificate(busy: Office) -> None:
    claim, box = busy.claim(device_id="raced-2"), busy.box()
    answers = _at_once(lambda _: busy.enrol(box, claim))
    assert _codes(answers) == [""] * _AT_ONCE
    assert len({certificates_in(each)[0] for each in answers}) == 1
    assert len(busy.certificates_of("raced-2")) == 1


def test_of_names_that_race_with_one_key_exactly_one_has_it(busy: Office) -> None:
    claims = [busy.claim(device_id=f"raced-3-{number}") for number in range(_AT_ONCE)]
    box = busy.box()
    answers = _at_once(lambda number: busy.enrol(box, claims[number]))
    assert _codes(answers) == ["", *["key_on_another_device"] * (_AT_ONCE - 1)]


def test_appliances_that_take_each_others_places_do_not_wait_for_each_other(busy: Office) -> None:
    """In a circle: each replaces the one that the next one enrols again."""
    names = [f"circle-{number}" for number in range(_AT_ONCE)]
    for name in names:
        busy.floor.add_till(name)
    claims = [
        busy.claim(device_id=name, replaces=names[(number + 1) % _AT_ONCE])
        for number, name in enumerate(names)
    ]
    boxes = [busy.box() for _ in names]
    answers = _at_once(lambda number: busy.enrol(boxes[number], claims[number]))
    active = [name for name in names if busy.device(name).status == "active"]
    assert 1 <= len(active) < _AT_ONCE
    assert set(_codes(answers)) <= {"", "device_revoked"}


def test_claims_made_at_once_promise_names_of_their_own(postgres_url: str, tmp_path: Path) -> None:
    office = Office(postgres_url, tmp_path)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as hands:
            made = [hands.submit(office.claim) for _ in range(_AT_ONCE)]
            claims = [each.result() for each in made]
        names = sorted(office.look(claim)["device_id"] for claim in claims)
    finally:
        office.close()
    assert names == [f"bar-{number}" for number in range(1, _AT_ONCE + 1)]
