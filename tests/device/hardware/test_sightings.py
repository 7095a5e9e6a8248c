from device.hardware.sightings import GONE_FRAMES, REPEAT_S, Sightings


def news(*frames: str | None, every_s: float = 0.04) -> list[str | None]:
    sightings = Sightings()
    return [text for at, text in enumerate(frames) if sightings.is_news(text, at * every_s)]


def test_a_code_in_view_is_reported_once() -> None:
    assert news(*["one"] * 10) == ["one"]


def test_a_blurred_frame_is_not_a_new_phone() -> None:
    assert news("one", None, None, "one", None, "one") == ["one"]


def test_a_code_that_left_and_came_back_is_reported_again() -> None:
    assert news("one", *[None] * GONE_FRAMES, "one") == ["one", "one"]


def test_another_code_is_reported_at_once() -> None:
    assert news("one", "two", "one") == ["one", "two", "one"]


def test_a_code_that_stays_is_reported_again_after_a_while() -> None:
    assert news(*["one"] * (int(REPEAT_S / 0.04) + 2)) == ["one", "one"]


def test_what_is_in_view_is_news_to_whoever_looks_anew() -> None:
    sightings = Sightings()
    assert sightings.is_news("one", 0.0)
    sightings.forget()
    assert sightings.is_news("one", 0.1)
