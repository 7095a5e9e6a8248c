import pytest

from device.hardware.lamp_watch import LOOK_AGAIN_S, LOOK_S, LOOKS, LampWatch

DARK = (False, False, False)


def looked(watch: LampWatch, wanted: tuple[float, float, float], *lit: bool) -> list[str | None]:
    """The lamp's green at each look; red and blue do as they are told."""
    red, _, blue = wanted
    return [watch.look(wanted, (red == 1.0, each, blue == 1.0)) for each in lit]


@pytest.mark.parametrize("part", [0.0, 0.15, 0.8])
def test_a_lead_that_is_lit_at_every_look_though_it_should_be_dark_is_stuck(part: float) -> None:
    assert looked(LampWatch(), (0.0, part, 0.0), *[True] * LOOKS) == [None] * (LOOKS - 1) + [
        "green"
    ]


def test_a_lead_that_is_dark_at_every_look_though_it_should_shine_is_stuck() -> None:
    watch = LampWatch()
    assert [watch.look((1.0, 0.0, 0.0), DARK) for _ in range(LOOKS)][-1] == "red"


@pytest.mark.parametrize(
    ("part", "lit"),
    [
        (0.0, [False] * 200),
        (1.0, [True] * 200),
        (0.8, ([True] * (LOOKS - 1) + [False]) * 5),
        (0.0, ([True] * (LOOKS - 1) + [False]) * 5),
        (0.9, [True] * 200),
        (0.9, [False] * 200),
        (0.04, [False] * 200),
    ],
)
def test_a_lead_that_may_be_as_it_is_seen_is_not(part: float, lit: list[bool]) -> None:
    assert set(looked(LampWatch(), (0.0, part, 0.0), *lit)) == {None}


def test_doubts_of_one_lead_are_not_those_of_another() -> None:
    watch = LampWatch()
    looks = [(at % 2 == 0, at % 2 == 1, False) for at in range(3 * LOOKS)]
    assert {watch.look((0.0, 0.0, 0.0), lit) for lit in looks} == {None}


def test_where_something_contradicts_it_looks_again_soon() -> None:
    watch = LampWatch()
    assert watch.pause_s == LOOK_S
    watch.look((0.0, 0.0, 0.0), (False, True, False))
    assert watch.pause_s == LOOK_AGAIN_S
    watch.look((0.0, 0.0, 0.0), DARK)
    assert watch.pause_s == LOOK_S
