import numpy as np
import pytest

from device.hardware.decoding import read_qr
from venue.phone import Difficulty, badge, empty_counter, phone

WALLET = "".join(f"{(at * 31) % 78:02d}" for at in range(282))
LEVELS: tuple[Difficulty, ...] = ("easy", "normal", "hard")


@pytest.mark.parametrize("difficulty", LEVELS)
def test_a_frame_is_what_the_camera_gives(difficulty: Difficulty) -> None:
    for picture in (
        phone(WALLET, np.random.default_rng(3), difficulty),
        empty_counter(np.random.default_rng(3)),
    ):
        assert (picture.shape, picture.dtype) == ((720, 1280), np.uint8)


def test_the_same_seed_draws_the_same_frame() -> None:
    one, two = (phone(WALLET, np.random.default_rng(7)) for _ in range(2))
    other = phone(WALLET, np.random.default_rng(8))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(5))
def test_every_easy_phone_with_a_wallet_qr_is_read(seed: int) -> None:
    reading = read_qr(phone(WALLET, np.random.default_rng(seed), "easy"))
    assert reading is not None
    assert reading.text == WALLET


@pytest.mark.parametrize("content", ["0", "https://example.org/", "WIFI:T:WPA;S=Fair;P:x;;"])
def test_a_phone_shows_any_text(content: str) -> None:
    reading = read_qr(phone(content, np.random.default_rng(1)))
    assert reading is not None
    assert reading.text == content


def test_a_badge_is_read_as_a_phone_is() -> None:
    content = "railtix-badge." + "A1b2C3d4" * 30
    reading = read_qr(badge(content, np.random.default_rng(1)))
    assert reading is not None
    assert reading.text == content


def test_harder_frames_are_noisier() -> None:
    noise = [
        float(
            np.abs(np.diff(phone(WALLET, np.random.default_rng(4), level)[:60].astype(int))).mean()
        )
        for level in LEVELS
    ]
    assert noise == sorted(noise)
