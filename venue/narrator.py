"""What the person at the terminal sees: every scene of the venue, in words, colours and paper."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic  # noqa: TID251 -- a spinner's seconds are the person's own
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from venue.lights import Light

LAMPS: Final[dict[Light, tuple[str, str]]] = {
    Light.DARK: ("grey30", "○"),
    Light.NOBODY_SIGNED_IN: ("grey70", "◌"),
    Light.READY: ("grey85", "●"),
    Light.SHOW_QR: ("dodger_blue1", "◍"),
    Light.KEY_THE_AMOUNT: ("cyan", "◍"),
    Light.ASKING: ("blue", "◉"),
    Light.APPROVED: ("green3", "●"),
    Light.APPROVED_OFFLINE: ("green3", "●"),
    Light.DECLINED: ("red3", "●"),
    Light.REFRESH_QR: ("red1", "○"),
    Light.FAULT: ("red1", "◉"),
    Light.OFFLINE_ALLOWED: ("orange3", "◌"),
    Light.OFFLINE_NOT_ALLOWED: ("orange3", "◌"),
    Light.ENROL: ("purple", "◌"),
    Light.JOINING: ("purple", "◉"),
    Light.ENROLLED: ("purple", "●"),
    Light.NO_WAY: ("purple", "○"),
    Light.NOT_ENROLLED: ("purple", "○"),
    Light.UPDATING: ("white", "◌"),
}

STAGES: Final = ("frame", "decode", "sign", "wire", "cloud", "journal", "light")


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds from the frame's capture to the lamp, by stage."""

    ms: dict[str, float]
    total_ms: float


class Narrator:
    """Tells the story on a terminal; on anything else it tells it without colour."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def title(self, text: str, subtitle: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"), Text(subtitle, style="grey62"))
        self.console.print()

    def scene(self, number: int, text: str) -> None:
        self.console.print()
        self.console.rule(
            Text.assemble((f" {number} ", "bold reverse"), " ", (text, "bold")),
            align="left",
            style="grey39",
        )

    @contextmanager
    def doing(self, what: str) -> Generator[list[str]]:
        """A spinner while it takes, then a tick, what was said of it, and the seconds."""
        said: list[str] = []
        began = monotonic()
        with self.console.status(f"{what} ..."):
            yield said
        detail = f"  {' · '.join(said)}" if said else ""
        self.console.print(
            Text.assemble(
                ("  ✓ ", "green3"),
                f"{what:<22}",
                (f"{monotonic() - began:4.1f} s", "grey42"),
                (detail, "grey62"),
            ),
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        self.console.print(f"    {text}", highlight=False)

    def act(self, who: str, does: str) -> None:
        self.console.print(
            Text.assemble("    ", (f"{who:<11}", "bold cyan"), " ", does), highlight=False
        )

    def lamp(self, light: Light, meaning: str) -> None:
        style, sign = LAMPS[light]
        self.console.print(
            Text.assemble("    ", (f"{'lamp':<11}", "bold cyan"), (f" {sign} ", style), meaning)
        )

    def sale(
        self, light: Light, meaning: str, sound: str, receipt: str | None, times: StageTimes | None
    ) -> None:
        """Lamp, sound, the receipt as it came out, and where the milliseconds went."""
        style, sign = LAMPS[light]
        seen: list[RenderableType] = [
            Text.assemble(
                (f"{sign * 3}  ", style), (light.value.upper(), f"bold {style}"), f"  {meaning}"
            ),
            Text(f" ♪   {sound}", style="grey62"),
            Text(),
        ]
        if times is not None:
            seen.append(_times_table(times))
        parts: list[RenderableType] = [Group(*seen)]
        if receipt is not None:
            slip = Text(receipt, style="black on grey93")
            parts.append(Panel(slip, border_style="grey62", expand=False))
        self.console.print(Padding(self._side_by_side(parts), (0, 0, 0, 4)))

    def _side_by_side(self, parts: list[RenderableType]) -> RenderableType:
        """Next to each other where the terminal is wide enough, else one below the other."""
        widths = [self.console.measure(part).maximum for part in parts]
        if sum(widths) + 8 > self.console.width:
            return Group(*parts)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(*parts)
        return grid

    def tally(self, rows: Sequence[tuple[str, str, bool | None]]) -> None:
        """What was counted in the end; True and False are marked as right and wrong."""
        table = Table(show_header=False, box=None, padding=(0, 2))
        for name, value, is_right in rows:
            mark = {True: "[green3]✓[/]", False: "[red1]✗[/]", None: " "}[is_right]
            table.add_row(mark, name, f"[bold]{value}[/]")
        self.console.print(Panel(table, title="In the end", border_style="grey62", expand=False))


def _times_table(times: StageTimes) -> Table:
    longest = max(times.ms.values(), default=0.0) or 1.0
    table = Table.grid(padding=(0, 2))
    for stage in STAGES:
        if stage in times.ms:
            ms = times.ms[stage]
            bar = "▇" * max(1, round(18 * ms / longest)) if ms > 0 else ""
            table.add_row(stage, f"{ms:7.1f} ms", Text(bar, style="grey50"))
    table.add_row("[bold]frame to light[/]", f"[bold]{times.total_ms:7.1f} ms[/]", "")
    return table
