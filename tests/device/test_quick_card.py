import subprocess
import sys
from pathlib import Path

from device.quick_card import LIGHTS, page
from device.till.keymap import KEYMAP
from device.till.signals import Light

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_card_is_what_the_code_draws() -> None:
    said = "run: python -m device.quick_card > docs/quick-card.html"
    assert (DOCS / "quick-card.html").read_text("utf-8") == page(), said


def test_the_command_writes_the_page() -> None:
    drawn = subprocess.run(
        [sys.executable, "-m", "device.quick_card"], capture_output=True, check=True
    )
    assert drawn.stdout.decode() == page()


def test_the_card_says_everything_the_key_map_says() -> None:
    drawn = page().replace("&#x27;", "'").replace("&gt;", ">")
    for work, deeds in KEYMAP.items():
        assert not deeds or work in drawn
        for deed in deeds:
            assert deed.words in drawn


def test_the_card_explains_every_light_once() -> None:
    explained = [light for row in LIGHTS for light in row.lights]
    assert sorted(explained) == sorted(Light)


def test_the_card_and_the_page_about_lights_say_the_same() -> None:
    lights = (DOCS / "lights.md").read_text("utf-8")
    for row in LIGHTS:
        for said in filter(None, (row.lamp.removeprefix("a "), row.sound)):
            assert said in lights, said
