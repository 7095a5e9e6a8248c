from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.hardware.lamp import pattern_of
from device.till import signals
from venue.lights import Level, Light, Seen, approvals, recognise

WORDS = {Light.APPROVED, Light.APPROVED_OFFLINE, Light.DECLINED, Light.REFRESH_QR, Light.FAULT}


def play(*shows: tuple[Light, float], late: float = 0.0) -> tuple[list[Level], float]:
    """The pin levels of lights shown one after the other for some seconds each.

    Every step of a pattern comes `late` seconds late; the first of each is never late.
    """
    levels, begins = list[Level](), 100.0
    for light, seconds in shows:
        at = begins
        for step in pattern_of(signals.Light(light.value)).steps():
            when = at if at == begins else at + late
            if when >= begins + seconds:
                break
            if not levels or step.colour != (levels[-1].red, levels[-1].green, levels[-1].blue):
                levels.append(Level(*step.colour, at=when))
            at += step.seconds or seconds
        begins += seconds
    return levels, begins


def named(seen: tuple[Seen, ...]) -> list[Light | None]:
    return [one.light for one in seen]


def test_the_venue_and_the_appliance_call_the_lights_by_the_same_names() -> None:
    assert [light.value for light in Light] == [light.value for light in signals.Light]


@pytest.mark.parametrize("late", [0.0, 0.05])
@pytest.mark.parametrize("light", Light)
def test_every_light_is_told_from_its_pins_alone(light: Light, late: float) -> None:
    levels, now = play((Light.READY, 1.0), (light, 2.6), late=late)
    seen = [one for one in recognise(levels, now) if one.light is not Light.READY]
    if light is Light.READY:
        assert seen == []
    else:
        assert (seen[0].light, seen[0].began_at) == (light, 101.0)
        assert named(tuple(seen[1:])) in ([], [Light.DARK])


# Between two sales the till always shows another light, so no word about one follows its like.
PAIRS = [
    (first, second)
    for first, second in permutations(sorted(set(Light) - {Light.DARK}), 2)
    if not {first, second} <= {Light.APPROVED, Light.APPROVED_OFFLINE}
    and not {first, second} <= {Light.DECLINED, Light.REFRESH_QR, Light.FAULT}
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_one_light_after_another_is_two_lights(first: Light, second: Light) -> None:
    levels, now = play((first, 3.1), (second, 2.6))
    names = [name for name in named(recognise(levels, now)) if name is not Light.DARK]
    assert names == [first, second]


@pytest.mark.parametrize("light", [Light.APPROVED, Light.APPROVED_OFFLINE])
def test_an_approval_is_known_from_its_first_edge(light: Light) -> None:
    levels, _ = play((Light.ASKING, 0.25), (light, 0.01))
    assert approvals(levels) == (100.25,)


def test_each_sale_is_counted_once() -> None:
    sale = ((Light.READY, 0.5), (Light.SHOW_QR, 0.7), (Light.ASKING, 0.01), (Light.APPROVED, 2.2))
    offline = (*sale[:2], (Light.ASKING, 4.0), (Light.APPROVED_OFFLINE, 2.5))
    levels, now = play(*sale, *sale, *offline, *sale[:3], (Light.DECLINED, 1.0))
    assert len(approvals(levels)) == 3
    words = [name for name in named(recognise(levels, now)) if name in WORDS]
    assert words == [
        *(Light.APPROVED, Light.APPROVED, Light.APPROVED_OFFLINE),
        Light.DECLINED,
    ]


@given(
    st.lists(
        st.sampled_from(sorted(set(Light) - {Light.APPROVED, Light.APPROVED_OFFLINE})), max_size=8
    ),
    st.floats(0.01, 3.0),
)
def test_without_an_approval_nothing_is_counted(lights: list[Light], seconds: float) -> None:
    levels, _ = play(*((light, seconds) for light in lights))
    assert approvals(levels) == ()


def test_red_that_was_cut_short_is_left_unnamed() -> None:
    levels, now = play((Light.DECLINED, 0.3), (Light.READY, 1.0))
    assert named(recognise(levels, now)) == [None, Light.READY]


def test_nothing_seen_is_nothing_named() -> None:
    assert recognise([], 5.0) == ()
