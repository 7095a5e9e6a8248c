"""The quick card: one printed A5 page of keys and lights, drawn from the code's own key map.

`python -m device.quick_card > docs/quick-card.html`
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from device.till.keymap import DIGITS, KEYMAP, KEYS, Deed, Work
from device.till.signals import Light


@dataclass(frozen=True)
class Row:
    """What some lights mean, how they look, and what is heard with them."""

    lights: tuple[Light, ...]
    meaning: str
    lamp: str
    sound: str = ""


LIGHTS: Final = (
    Row((Light.APPROVED,), "approved: hand over", "green, steady 2 s", "one high beep"),
    Row(
        (Light.APPROVED_OFFLINE,),
        "approved offline: hand over",
        "green, then two short amber blinks",
        "one high, one short beep",
    ),
    Row((Light.DECLINED,), "declined", "red, steady 2 s", "two low beeps"),
    Row(
        (Light.REFRESH_QR,),
        "refresh the QR",
        "red, three slow blinks",
        "three short beeps",
    ),
    Row((Light.FAULT,), "fault: do not hand over", "red, fast, longer lit than dark", "long low"),
    Row((Light.REFUNDED,), "refunded", "blue-green, two long pulses", "two rising beeps"),
    Row((Light.NOBODY_SIGNED_IN,), "nobody signed in: show a badge", "slow white breath"),
    Row((Light.READY,), "ready", "steady dim white"),
    Row((Light.SHOW_QR,), "show the QR", "blue, pulsing"),
    Row(
        (Light.KEY_THE_AMOUNT,),
        "scanned: key the amount, or the PIN",
        "cyan, two pulses and a pause",
        "one short beep",
    ),
    Row((Light.ASKING,), "asking the cloud", "blue, fast"),
    Row(
        (Light.SHOW_RECEIPT,),
        "show the receipt's QR",
        "blue, one long and one short blink, then a pause",
    ),
    Row(
        (Light.SUPERVISOR,),
        "a supervisor's badge is needed",
        "cyan, three quick blinks, then a pause",
        "two low beeps",
    ),
    Row(
        (Light.OFFLINE_ALLOWED, Light.OFFLINE_NOT_ALLOWED),
        "offline, sales allowed / not allowed",
        "amber breath, twice as fast as the white one / amber double blink",
    ),
    Row(
        (
            Light.READY_NO_PAPER,
            Light.OFFLINE_ALLOWED_NO_PAPER,
            Light.OFFLINE_NOT_ALLOWED_NO_PAPER,
        ),
        "no paper; sales go on",
        "a violet wink",
    ),
    Row(
        (Light.ENROL, Light.JOINING, Light.ENROLLED, Light.NO_WAY, Light.NOT_ENROLLED),
        "nobody yet: the slip says what to do",
        "violet that is no wink",
    ),
    Row(
        (Light.UPDATING,),
        "updating: it starts again by itself",
        "white, three short blinks, then a pause",
        "two low beeps",
    ),
    Row((Light.DARK,), "dark: no answer yet", "after a power cut"),
)

_STYLE: Final = """
@page { size: A5 portrait; margin: 6mm }
* { box-sizing: border-box; margin: 0 }
body { font: 7pt/1.15 "DejaVu Sans", Arial, sans-serif; color: #000; background: #fff;
       width: 136mm; margin: 0 auto }
h1 { font-size: 11pt } h2 { font-size: 8pt; margin: 1.3mm 0 .5mm }
p { margin: .4mm 0 }
table { border-collapse: collapse; width: 100% }
td, th { border: .3mm solid #000; padding: .5mm 1mm; text-align: left; vertical-align: top }
.pad td { width: 25%; height: 7.4mm; font-size: 6.6pt; line-height: 1.05 }
.pad b { font-size: 11pt } kbd { font: bold 8pt "DejaVu Sans Mono", monospace }
.deed { display: inline-block; margin-right: 2mm }
.small td, .small th { font-size: 6.1pt; line-height: 1.03; padding: .15mm .7mm }
.small td:first-child { width: 41mm } .small kbd { font-size: 7pt }
"""


_BEGIN: Final = (
    "<p>Sign in: badge before the camera, PIN, <kbd>#</kbd>. Sell: amount or products, "
    "<kbd>#</kbd>, the customer's QR; or the QR first, then amount and <kbd>#</kbd>.</p>"
)


def page() -> str:
    """The whole page, the same bytes every time."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Quick card</title>',
            f"<style>{_STYLE}</style></head><body>",
            "<h1>Hand over on green, and on nothing else.</h1>",
            _BEGIN,
            f"<h2>When {escape(Work.READY)}</h2>",
            _keypad(),
            "<h2>At other times</h2>",
            _other_times(),
            "<h2>Lights and sounds</h2>",
            _lights(),
            "</body></html>",
            "",
        )
    )


def _keypad() -> str:
    rows = [KEYS[at : at + 4] for at in range(0, len(KEYS), 4)]
    return _table(("".join(f"<td>{_cell(key)}</td>" for key in row) for row in rows), css="pad")


def _cell(key: str) -> str:
    # Digits say it once, on the first; `*` and `#` what they do once there is something.
    words = [each.words for each in KEYMAP[Work.READY] if key in each.keys]
    if key in DIGITS and key != "1":
        words = []
    if not words and key in "*#":
        words = [each.words for each in KEYMAP[Work.AMOUNT] if key in each.keys]
    return f"<b>{escape(key)}</b> {'<br>'.join(map(escape, words))}"


def _other_times() -> str:
    return _table(
        (
            f"<td>{escape(work)}</td><td>{' '.join(map(_said, deeds))}</td>"
            for work, deeds in _unsaid()
        ),
        css="small",
    )


def _unsaid() -> Iterator[tuple[Work, tuple[Deed, ...]]]:
    """What the keypad above does not say already."""
    said = set(KEYMAP[Work.READY])
    for work, deeds in KEYMAP.items():
        left = tuple(each for each in deeds if each not in said)
        if left:
            yield work, left


def _said(deed: Deed) -> str:
    keys = f"<kbd>{escape(_named(deed.keys))}</kbd> {escape(deed.words)}"
    return f'<span class="deed">{keys}</span>'


def _named(keys: str) -> str:
    if keys == DIGITS:
        return "0-9"
    return "" if len(keys) > len(DIGITS) else " ".join(keys)


def _lights() -> str:
    head = "<th>means</th><th>lamp</th><th>sound</th>"
    rows = (
        f"<td>{escape(row.meaning)}</td><td>{escape(row.lamp)}</td><td>{escape(row.sound)}</td>"
        for row in LIGHTS
    )
    return _table((head, *rows), css="small")


def _table(rows: Iterable[str], *, css: str) -> str:
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="{css}">\n{body}\n</table>'


if __name__ == "__main__":
    sys.stdout.write(page())
