"""The fleet's table, drawn again as it changes; or a line for each change, without a terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import sleep
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from provisioning.cli.fleet_feed import Away, Told
from provisioning.cli.fleet_table import (
    Device,
    changes,
    line_of,
    summary,
    table_of,
    worst_first,
)

_LINES_AROUND: Final = 5
"""The head, the table's own, what was left out, and the foot."""


class Telling(Protocol):
    def ask(self) -> Told | Away: ...


@dataclass(frozen=True)
class View:
    """What is on the screen: the newest answer, what it changed, and since when there is none."""

    devices: Mapping[str, Device] = field(default_factory=dict[str, Device])
    told_at: datetime | None = None
    changed: frozenset[str] = frozenset()
    away: str = ""

    def after(self, told: Told | Away) -> "View":
        if isinstance(told, Away):
            return replace(self, away=told.why, changed=frozenset())
        devices = {each["device_id"]: each for each in told.devices}
        # At first everything is new, and nothing has changed.
        changed = frozenset[str]() if self.told_at is None else changes(self.devices, devices)
        return View(devices, told.at, changed)


def watch_table(
    console: Console, feed: Telling, every_s: float, wait: Callable[[float], None] = sleep
) -> None:
    """Until KeyboardInterrupt, which leaves the terminal as it was, and the last table on it."""
    view = View()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            view = view.after(feed.ask())
            live.update(draw(view, console.width, console.height), refresh=True)
            wait(every_s)


def watch_lines(
    feed: Telling,
    every_s: float,
    say: Callable[[str], None],
    wait: Callable[[float], None] = sleep,
) -> None:
    """Every appliance once, then each that changed; each line begins with the cloud's time."""
    view = View()
    while True:
        before, told = view, feed.ask()
        view = view.after(told)
        for said in _lines(before, view):
            say(said)
        wait(every_s)


def _lines(before: View, view: View) -> Sequence[str]:
    if view.told_at is None or view.away:
        is_news = bool(view.away) and not before.away
        return [f"the cloud does not answer: {view.away}"] if is_news else []
    at = f"{view.told_at:%Y-%m-%dT%H:%M:%SZ}"
    is_first = before.told_at is None
    names = view.devices if is_first else sorted(view.changed)
    lines = [f"{at} {_line(name, view, view.told_at)}" for name in names]
    if is_first or view.changed:
        lines.append(f"{at} {summary(list(view.devices.values()))}")
    return [f"{at} the cloud answers again", *lines] if before.away else lines


def _line(name: str, view: View, at: datetime) -> str:
    device = view.devices.get(name)
    return f"{name}; no longer among these" if device is None else line_of(device, at)


def draw(view: View, width: int, height: int) -> RenderableType:
    """One screen: the worst first, as many as fit, and how many were left out."""
    if view.told_at is None:
        said = view.away or "nobody asked yet"
        return Text(f"! The cloud does not answer: {said}. Trying again; Ctrl-C ends.")
    devices = worst_first(view.devices.values(), view.changed)
    room = max(1, height - _LINES_AROUND)
    shown = devices[:room]
    head = Text(f"{view.told_at:%H:%M:%S} UTC  {summary(devices)}", "bold", no_wrap=True)
    head.truncate(width, overflow="ellipsis")
    parts: list[RenderableType] = [head]
    if view.away:
        text = Text(f"! The cloud does not answer ({view.away}): this is how it was.", "bold red")
        text.truncate(width, overflow="ellipsis")
        parts.append(text)
    table = table_of(shown, view.told_at, width, changed=view.changed, is_old=bool(view.away))
    parts.append(table)
    left = len(devices) - len(shown)
    if left:
        troubled = sum(bool(each["problems"]) for each in devices[room:])
        how = f"{troubled} of them in trouble" if troubled else "all well"
        parts.append(Text(f"and {left} more, {how}", "dim"))
    parts.append(Text("! trouble   * just changed   Ctrl-C ends", "dim"))
    return Group(*parts)
