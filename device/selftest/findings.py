"""What a self-test found: as a table, as JSON, and as a slip."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from device.till.receipt import Columns, Rule, Slip, SlipKind, Text

if TYPE_CHECKING:
    from rich.table import Table


class Part(StrEnum):
    """In the order they are tried: what the later ones need comes first."""

    CERTIFICATE = "certificate"
    DISK = "disk"
    CLOCK = "clock"
    NETWORK = "network"
    KEYS = "keys"
    LAMP = "lamp"
    BUZZER = "buzzer"
    CAMERA = "camera"
    PRINTER = "printer"

    @property
    def is_hardware(self) -> bool:
        return self in {Part.KEYS, Part.LAMP, Part.BUZZER, Part.CAMERA, Part.PRINTER}


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True):
    """One part, and in a few lines what was seen of it and what to do about it."""

    part: Part
    verdict: Verdict
    told: tuple[str, ...]


def ok(part: Part, *told: str) -> Finding:
    return Finding(part, Verdict.OK, told)


def failed(part: Part, *told: str) -> Finding:
    return Finding(part, Verdict.FAILED, told)


def skipped(part: Part, *told: str) -> Finding:
    return Finding(part, Verdict.SKIPPED, told)


def is_sound(findings: Sequence[Finding]) -> bool:
    return not any(each.verdict is Verdict.FAILED for each in findings)


def table_of(findings: Sequence[Finding]) -> "Table":
    from rich.table import Table  # noqa: PLC0415 -- a quarter of a second that `run` does not pay
    from rich.text import Text as Cell  # noqa: PLC0415

    table = Table("part", "result", "what was seen")
    styles = {Verdict.OK: "green", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}
    for each in findings:
        style = styles[each.verdict]
        # Cells, not markup: a host name in brackets is no colour.
        cells = (Cell(each.part), Cell(each.verdict, style=style), Cell("\n".join(each.told)))
        table.add_row(*cells)
    return table


def slip_of(findings: Sequence[Finding], device_id: str, when: str) -> Slip:
    lines: list[Text | Columns | Rule] = [
        Text("Self-test", bold=True, large=True, centred=True),
        Columns(device_id, when),
        Rule(),
    ]
    for each in findings:
        lines.append(Columns(each.part, each.verdict, bold=each.verdict is Verdict.FAILED))
        lines += [Text(told) for told in each.told if each.verdict is Verdict.FAILED]
    return Slip(tuple(lines), SlipKind.NOTICE)
