from collections import Counter
from functools import cache

import pytest

from tests.simulation.fair import hold_fair, seeds
from tests.simulation.weather import LONELY, PERFECT, WORST

HAZARDS = (
    "light: approved",
    "light: declined",
    "light: refresh the QR",
    "light: fault: do not hand over",
    "deduct: token_already_used",
    "deduct: insufficient_funds",
    "deduct: device_revoked",
    "deduct: same answer",
    "deduct: cancelled",
    "cancel: reversed",
    "cancel: nothing to reverse",
    "cancel: same answer",
    "cancel: under_review",
    "power cut",
    "disk fault",
    "crash before the commit",
    "crash between commit and replies",
    "slip: kept",
    "slip: not kept",
    "review ended",
    "silent cut",
    "new policy",
    "session ended by the office",
    "clock jump",
)
"""What has to come about, or the promise was hardly put to the test."""

HAZARDS_ALONE = (
    "light: approved offline",
    "light: offline, sales allowed",
    "light: fault: do not hand over",
    "offline_acceptance: posted_offline",
    "offline_acceptance: approved",
    "offline_acceptance: same answer",
    "offline_acceptance: under_review",
    "deduct: posted_offline",
    "cancel: reversed",
    "slip: kept",
    "slip: not kept",
    "review ended",
)
WORST_FAIRS = 17
LONELY_FAIRS = 12


@cache
def _hold_worst_fair(seed: int) -> Counter[str]:
    return hold_fair(seed, WORST)


@cache
def _hold_lonely_fair(seed: int) -> Counter[str]:
    return hold_fair(seed, LONELY)


@pytest.mark.parametrize("seed", seeds(26))
def test_the_light_never_lies(seed: int) -> None:
    assert hold_fair(seed)["sales"] > 0


@pytest.mark.parametrize("seed", seeds(WORST_FAIRS))
def test_the_light_never_lies_when_everything_goes_wrong_at_once(seed: int) -> None:
    assert _hold_worst_fair(seed)["sales"] > 0


@pytest.mark.parametrize("seed", seeds(LONELY_FAIRS))
def test_the_light_never_lies_while_tills_sell_alone(seed: int) -> None:
    assert _hold_lonely_fair(seed)["sales"] > 0


@pytest.mark.parametrize("seed", seeds(2))
def test_on_a_perfect_day_every_sale_gets_its_answer(seed: int) -> None:
    tally = hold_fair(seed, PERFECT)
    assert tally["light: approved"] > 0
    assert tally["light: fault: do not hand over"] == tally["slip: kept"] == 0


def test_the_same_seed_tells_the_same_story() -> None:
    assert _hold_worst_fair(1) == hold_fair(1, WORST)


def test_the_fairs_meet_every_hazard() -> None:
    met = sum((_hold_worst_fair(seed) for seed in range(WORST_FAIRS)), Counter[str]())
    met += sum((_hold_lonely_fair(seed) for seed in range(LONELY_FAIRS)), Counter[str]())
    assert [hazard for hazard in HAZARDS if met[hazard] < 1] == []
    assert met["sales"] > 300


def test_the_lonely_fairs_meet_every_hazard() -> None:
    met = sum((_hold_lonely_fair(seed) for seed in range(LONELY_FAIRS)), Counter[str]())
    assert [hazard for hazard in HAZARDS_ALONE if met[hazard] < 1] == []
    assert met["light: approved offline"] > 50
