from collections import Counter
from functools import cache

import pytest

from tests.simulation.fair import hold_fair, seeds
from tests.simulation.weather import PERFECT, WORST

HAZARDS = {
    "light: approved": 1000,
    "light: declined": 200,
    "light: refresh the QR": 100,
    "light: fault: do not hand over": 100,
    "deduct: token_already_used": 50,
    "deduct: insufficient_funds": 50,
    "deduct: same answer": 50,
    "deduct: cancelled": 5,
    "deduct: device_revoked": 1,
    "cancel: reversed": 20,
    "cancel: nothing to reverse": 20,
    "cancel: same answer": 20,
    "power cut": 50,
    "disk fault": 20,
    "crash before the commit": 20,
    "crash between commit and replies": 20,
    "slip: kept": 5,
    "slip: not kept": 2,
    "review ended": 1,
    "silent cut": 20,
    "new policy": 10,
}
"""What has to come about, and at least how often, or the promise was hardly put to the test."""


@cache
def _tally(seed: int) -> Counter[str]:
    return hold_fair(seed)


@pytest.mark.parametrize("seed", seeds(30))
def test_the_light_never_lies(seed: int) -> None:
    assert _tally(seed)["sales"] > 0


@pytest.mark.parametrize("seed", seeds(6))
def test_the_light_never_lies_when_everything_goes_wrong_at_once(seed: int) -> None:
    assert hold_fair(seed, WORST)["sales"] > 0


@pytest.mark.parametrize("seed", seeds(2))
def test_on_a_perfect_day_every_sale_gets_its_answer(seed: int) -> None:
    tally = hold_fair(seed, PERFECT)
    assert tally["light: approved"] > 0
    assert tally["light: fault: do not hand over"] == tally["slip: kept"] == 0


def test_the_same_seed_tells_the_same_story() -> None:
    assert hold_fair(3, WORST) == hold_fair(3, WORST)


def test_the_fairs_meet_every_hazard() -> None:
    met = sum((_tally(seed) for seed in range(30)), Counter[str]())
    assert {what: met[what] for what, least in HAZARDS.items() if met[what] < least} == {}
