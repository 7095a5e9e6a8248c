"""Runs one fair and judges it; what a test asks for."""

import os
from collections import Counter
from random import Random  # noqa: TID251  # the one place where a seed becomes chance
from typing import Final

from tests.simulation.promise import check_promise
from tests.simulation.weather import Weather, draw_weather
from tests.simulation.world import Parts, World

SEED_VARIABLE: Final = "RAILTIX_SEED"
REAL: Final = Parts()


def seeds(count: int) -> list[int]:
    """0, 1, 2 ... or the one that is to be looked at again."""
    chosen = os.environ.get(SEED_VARIABLE)
    return list(range(count)) if chosen is None else [int(chosen)]


def hold_fair(seed: int, weather: Weather | None = None, parts: Parts = REAL) -> Counter[str]:
    """How often each thing came about. Raises PromiseBrokenError.

    Without a weather the seed draws one.
    """
    world = World(seed, weather or draw_weather(Random(seed)), parts)
    world.run()
    check_promise(world)
    tally = Counter(world.history.tally)
    tally["sales"] = len(world.witness.sales)
    return tally
