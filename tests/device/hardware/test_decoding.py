import builtins
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import segno
from PIL import Image, ImageFilter

from device.hardware import decoding
from device.hardware.decoding import Reading, load_decoders, read_qr, threshold
from venue.phone import empty_counter, phone

if TYPE_CHECKING:
    from numpy.typing import NDArray

WALLET = "".join(f"{(at * 37) % 78:02d}" for at in range(282))
"""As long as a wallet QR: 282 characters as digit pairs."""


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def without_zxing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real_import = builtins.__import__

    def refuse(
        name: str,
        globals_: dict[str, object] | None = None,
        locals_: dict[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name == "zxingcpp":
            raise ImportError(name)
        return real_import(name, globals_, locals_, fromlist, level)

    decoding._zxing.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    yield
    decoding._zxing.cache_clear()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("difficulty", ["easy", "normal"])
def test_a_wallet_qr_on_a_phone_is_read(difficulty: str, seed: int) -> None:
    grey = phone(WALLET, rng(seed), "easy" if difficulty == "easy" else "normal")
    assert read_qr(grey) == Reading(WALLET, "zxing-cpp")


@pytest.mark.parametrize("seed", range(2))
def test_without_zxing_zbar_reads_the_easy_phones(without_zxing: None, seed: int) -> None:
    load_decoders()
    grey = phone(WALLET, rng(seed), "easy")
    readings = [read_qr(grey, turn) for turn in range(3)]
    assert Reading(WALLET, "zbar") in readings


def test_without_zxing_an_inverted_code_has_its_turn(without_zxing: None) -> None:
    inverted = 255 - phone("https://example.org", rng(2), "easy")
    readings = [read_qr(inverted, turn) for turn in range(3)]
    assert readings[:2] == [None, None]
    assert readings[2] == Reading("https://example.org", "zbar")


def test_what_zxing_misses_zbar_reads_behind_the_threshold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def miss(view: memoryview, *, is_two_toned: bool = False) -> None: ...

    monkeypatch.setattr(decoding, "_read_with_zxing", miss)
    grey = phone("https://example.org", rng(2), "easy")
    assert [read_qr(grey, turn) for turn in range(3)] == [
        Reading("https://example.org", "zbar"),
        Reading("https://example.org", "zbar"),
        None,
    ]


def test_the_beat_of_a_screens_pixels_is_softened_away_in_its_turn() -> None:
    grey = phone(WALLET, rng(3), "normal").astype(float)
    y, x = np.mgrid[:720, :1280]
    beat = (0.75 + 0.25 * np.sin(x * 2.8)) * (0.8 + 0.2 * np.sin((y + 0.1 * x) * 2.2))
    seen = np.clip(grey * beat, 0, 255).astype(np.uint8)
    assert Reading(WALLET, "zxing-cpp") in [read_qr(seen, turn) for turn in range(3)]


def test_a_blurred_phone_is_read_within_three_frames() -> None:
    soft = [
        np.asarray(
            Image.fromarray(phone(WALLET, rng(seed), "hard")).filter(ImageFilter.GaussianBlur(1.5))
        )
        for seed in range(4)
    ]
    readings = [[read_qr(grey, turn) for turn in range(3)] for grey in soft]
    assert sum(Reading(WALLET, "zxing-cpp") in each for each in readings) >= 3


def test_the_threshold_follows_the_light() -> None:
    ramp = np.tile(np.linspace(40, 220, 400).astype(np.uint8), (240, 1))
    ramp[100:110, ::40] -= 30
    black = np.asarray(threshold(Image.fromarray(ramp))) == 0
    assert black[100:110, ::40].all()
    assert black.mean() < 0.05


def test_an_empty_counter_is_no_reading() -> None:
    assert [read_qr(empty_counter(rng(1)), turn) for turn in range(3)] == [None, None, None]


@pytest.mark.parametrize(
    "content", ["WIFI:T:WPA;S=Fair;P:secret;;", "https://example.org/x", "Grüße €", "x" * 1200]
)
def test_any_other_qr_is_read_as_it_stands(content: str) -> None:
    code = segno.make(content, error="l", micro=False)
    rows = np.array([list(row) for row in code.matrix_iter(border=4)], np.uint8)
    grey = np.kron(np.where(rows, 0, 255), np.ones((5, 5))).astype(np.uint8)
    reading = read_qr(grey)
    assert reading is not None
    assert reading.text == content


@pytest.mark.parametrize(
    "poison",
    [
        np.zeros((0, 0), np.uint8),
        np.zeros((3, 4, 3), np.uint8),
        np.zeros((4, 4), np.float64),
        np.zeros((8, 8), np.uint8)[:, ::2],
        b"a line, not a picture",
    ],
)
def test_what_is_no_grey_picture_is_refused(poison: "NDArray[np.uint8] | bytes") -> None:
    with pytest.raises(ValueError, match="not a grey picture"):
        read_qr(poison)


def test_a_reading_does_not_show_what_it_read() -> None:
    assert "secret" not in repr(Reading("secret", "zbar"))
