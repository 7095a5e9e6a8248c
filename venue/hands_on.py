"""The person at the terminal takes over: presses keys, shows the phone, pulls the plug."""

import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from venue.attendee import Attendee
from venue.counter import Counter
from venue.demo import TOP_UP, paper_text
from venue.desk import DeskError
from venue.edge import EdgeError
from venue.lights import Light
from venue.narrator import LAMPS
from venue.stack import CURRENCY, PIN, Venue

KEYS: Final = frozenset("0123456789ABCD*#")
LOOK_EVERY_S: Final = 0.05

HELP: Final = (
    ("0-9 * # A-D", "press a key of the till"),
    ("H / S", "hold * (cancel) / hold D (then # signs out)"),
    ("p / o", "show Ada's phone with a fresh QR / the same picture once more"),
    ("b / n", f"show Mia's badge (PIN {PIN}) / nothing before the camera"),
    ("x / m", "lose the replies / mend the wire"),
    ("k", "pull the plug, and plug it in again"),
    ("t / w", f"top up {TOP_UP} / tell Ada's balance"),
    ("Ctrl-C", "go home; nothing keeps running"),
)


class HandsOn:
    """One appliance at the fingertips; what it shows, sounds and prints is told as it happens."""

    def __init__(self, venue: Venue, ada: Attendee, console: Console) -> None:
        self._venue = venue
        self._ada = ada
        self._console = console
        self._appliance = venue.appliances[0]
        self._last_digits = ""
        self._told_light: Light | None = None
        self._told_papers = len(self._counter.edge.papers)
        self._acts: dict[str, Callable[[], None]] = {
            "p": self._show_fresh,
            "o": self._show_again,
            "b": self._show_badge,
            "n": self._clear,
            "x": self._appliance.network.swallow_replies,
            "m": self._appliance.network.mend,
            "k": self._cut_power,
            "t": self._top_up,
            "w": self._tell_balance,
            "H": lambda: self._counter.edge.hold("*"),
            "S": lambda: self._counter.edge.hold("D"),
        }

    @property
    def _counter(self) -> Counter:
        return self._appliance.counter

    def run(self, link: str) -> None:
        """Until Ctrl-C. Without a terminal nothing can be pressed, but the venue stays up."""
        table = Table.grid(padding=(0, 3))
        for keys, what in HELP:
            table.add_row(Text(keys, style="bold"), what)
        self._console.print(Panel(table, title="Your turn", border_style="grey62", expand=False))
        self._console.print(f"    Ada's wallet page: {link}\n", highlight=False, soft_wrap=True)
        if not sys.stdin.isatty():
            while True:
                time.sleep(60)
        with _single_keys():
            while True:
                self._tell_news()
                if select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
                    self._press(sys.stdin.read(1))

    def _press(self, character: str) -> None:
        try:
            if character.upper() in KEYS and character not in self._acts:
                self._counter.edge.tap(character.upper())
            elif character in self._acts:
                self._acts[character]()
        except (EdgeError, DeskError) as error:
            self._console.print(f"    [red1]{error}[/]")

    def _tell_news(self) -> None:
        light = self._counter.edge.light()
        if light is not None and light is not self._told_light:
            self._told_light = light
            style, sign = LAMPS[light]
            self._console.print(Text.assemble("    ", (f"{sign} {light.value}", style)))
        papers = self._counter.edge.papers
        for paper in papers[self._told_papers :]:
            slip = Text(paper_text(paper), style="black on grey93")
            self._console.print(Panel(slip, border_style="grey62", expand=False))
        self._told_papers = len(papers)

    def _show_fresh(self) -> None:
        self._last_digits = self._ada.fresh_qr().digits
        self._counter.show_phone(self._last_digits)

    def _show_again(self) -> None:
        if self._last_digits:
            self._counter.edge.clear()
            self._counter.show_phone(self._last_digits)

    def _clear(self) -> None:
        self._counter.edge.clear()

    def _show_badge(self) -> None:
        self._counter.show_badge(self._venue.badge)

    def _cut_power(self) -> None:
        self._appliance.cut_power()
        self._console.print("    the plug is pulled ... and back in")
        self._appliance.switch_on(self._venue.rng())
        self._told_papers = 0
        self._told_light = None

    def _top_up(self) -> None:
        self._ada.top_up(TOP_UP)
        self._tell_balance()

    def _tell_balance(self) -> None:
        self._console.print(f"    Ada has {self._ada.balance(CURRENCY)}")


@contextmanager
def _single_keys() -> Generator[None]:
    """Keys arrive one by one, and Ctrl-C still ends it."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
