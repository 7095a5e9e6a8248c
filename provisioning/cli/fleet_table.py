"""The fleet as a table: what stands in each cell, which are marked, and what comes first.

Whatever is coloured also has a sign: `!` is trouble, `*` a row that has just changed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from protocol.money import Money

Device = Mapping[str, Any]
"""One of `GET /v1/ops/devices`."""

CHANGED: Final = "*"
TROUBLE: Final = "!"
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_NOT_COMPARED: Final = frozenset({"last_seen_at", "uptime_s", "temperature_c", "last_sale_at"})
"""What changes with every heartbeat, or says nothing by changing."""
_STATES: Final = {
    "quarantined": "distrust",
    "still_connected": "lingers",
    "offline": "offline",
    "silent": "silent",
}
_PAPER: Final = {
    "no paper": "empty",
    "paper low": "low",
    "cover open": "open",
    "away": "away",
    "none": "-",
}
_CLOCKS: Final = {"network": "ntp"}


@dataclass(frozen=True)
class Cell:
    said: str
    is_trouble: bool = False

    @property
    def text(self) -> Text:
        """A name is text, whatever it looks like: no markup, no control characters."""
        said = "".join(each if each.isprintable() else "?" for each in self.said)
        return Text(f"{said}{TROUBLE}", "bold red") if self.is_trouble else Text(said)


@dataclass(frozen=True)
class Column:
    name: str
    width: int
    cell: Callable[[Device, datetime], Cell]
    grows: bool = False
    """It gets what is left of the line."""


def table_of(
    devices: Sequence[Device],
    now: datetime,
    width: int,
    *,
    changed: frozenset[str] = frozenset(),
    is_old: bool = False,
) -> Table:
    """As many columns as fit into `width` characters; `is_old`: the cloud does not answer."""
    columns = columns_for(width)
    spare = width - 3 - sum(each.width + 1 for each in columns)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", width=2, no_wrap=True)
    for each in columns:
        own = each.width + (max(0, spare) // 2 if each.grows else 0)
        table.add_column(each.name, width=own, no_wrap=True, overflow="ellipsis")
    for device in devices:
        is_changed = device["device_id"] in changed
        mark = (TROUBLE if device["problems"] else " ") + (CHANGED if is_changed else " ")
        cells = [each.cell(device, now).text for each in columns]
        style = "dim" if is_old else "reverse" if is_changed else ""
        table.add_row(Text(mark, "bold"), *cells, style=style)
    return table


def columns_for(width: int) -> list[Column]:
    """Eighty characters hold what one looks for first; a wider line says more."""
    columns = [column for needs, column in _COLUMNS if width >= needs]
    kept = list(columns)
    while kept and 3 + sum(each.width + 1 for each in kept) > width + 1:
        kept.pop()
    return kept


def worst_first(devices: Iterable[Device], changed: frozenset[str] = frozenset()) -> list[Device]:
    """Trouble by gravity, then what has just changed, then by name."""

    def place(device: Device) -> tuple[int, bool, str]:
        problems = device["problems"]
        gravity = _GRAVITY.get(problems[0], 0) if problems else len(_GRAVITY)
        return gravity, device["device_id"] not in changed, device["device_id"]

    return sorted(devices, key=place)


def changes(before: Mapping[str, Device], after: Mapping[str, Device]) -> frozenset[str]:
    """Whose row says something else now, by name; those that are gone too."""
    names = before.keys() | after.keys()
    return frozenset(each for each in names if _bare(before.get(each)) != _bare(after.get(each)))


def summary(devices: Sequence[Device]) -> str:
    """How many are in trouble, and are there, and what they have not sent."""
    here = [each for each in devices if each["status"] in {"active", "quarantined"}]
    count = {state: sum(each["online"] is state for each in here) for state in (True, False, None)}
    troubled = sum(bool(each["problems"]) for each in devices)
    parts = [f"{troubled} in trouble of {len(here)}", f"{count[True]} online"]
    parts.append(f"{count[False]} offline")
    if count[None]:
        parts.append(f"{count[None]} unknown")
    waiting = {each["currency"] or "" for each in here if each["queue_in_cents"]}
    for currency in sorted(waiting):
        cents = sum(
            each["queue_in_cents"] or 0 for each in here if (each["currency"] or "") == currency
        )
        parts.append(f"unsent {money_of(cents, currency)}")
    return ", ".join(parts)


def line_of(device: Device, now: datetime) -> str:
    """One appliance on one line, for where there is no terminal."""
    parts = [device["device_id"], _state(device, now).said]
    for column in (
        _SALE,
        _QUEUE,
        _CLOCK,
        _CERTIFICATE,
        _POLICY,
        _PRINTER,
        _WARMTH,
        _FIRMWARE,
        _UPDATE,
    ):
        said = column.cell(device, now)
        if said.said != "-":
            parts.append(f"{column.name.lower()} {said.text.plain}")
    problems = ", ".join(device["problems"])
    return "; ".join(parts) + (f"; trouble: {problems}" if problems else "")


def age(moment: str | None, now: datetime) -> str:
    """`12s`, `4m`, `3h`, `9d` ago; `-` for never."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    return duration(seconds)


def duration(seconds: int) -> str:
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit}"
    return f"{seconds}s"


def days_left(moment: str | None, now: datetime) -> int | None:
    if moment is None:
        return None
    return (datetime.fromisoformat(moment) - now).days


def _bare(device: Device | None) -> Device | None:
    if device is None:
        return None
    return {name: said for name, said in device.items() if name not in _NOT_COMPARED}


def _has(device: Device, problem: str) -> bool:
    return problem in device["problems"]


def _state(device: Device, _now: datetime) -> Cell:
    for problem, word in _STATES.items():
        if _has(device, problem):
            return Cell(word, is_trouble=True)
    if device["status"] != "active":
        return Cell("retired" if device["status"] == "decommissioned" else device["status"])
    return Cell({True: "online", False: "offline", None: "unknown"}[device["online"]])


def _queue(device: Device, _now: datetime) -> Cell:
    if not device["queue"] and not device["queue_in_cents"]:
        return Cell("-")
    cents = device["queue_in_cents"]
    money = f" {cents // 100}.{cents % 100:02}" if cents else ""
    return Cell(f"{device['queue'] or 0}{money}", _has(device, "money_waits"))


def _certificate(device: Device, now: datetime) -> Cell:
    days = days_left(device["certificate_expires_at"], now)
    return Cell("-" if days is None else f"{days}d", _has(device, "certificate"))


def _policy(device: Device, _now: datetime) -> Cell:
    acked, newest = device["policy_acked"], device["policy_version"]
    said = f"{newest}" if acked == newest else f"{acked}<{newest}"
    return Cell(said if newest else "-", _has(device, "policy"))


def _printer(device: Device, _now: datetime) -> Cell:
    printer = device["printer"] or "-"
    return Cell(_PAPER.get(printer, printer), _has(device, "printer"))


def _warmth(device: Device, _now: datetime) -> Cell:
    warmth = device["temperature_c"]
    return Cell("-" if warmth is None else f"{warmth}", _has(device, "hot"))


def _clock(device: Device, _now: datetime) -> Cell:
    clock = device["clock"] or "-"
    return Cell(_CLOCKS.get(clock, clock), _has(device, "clock"))


def _update(device: Device, _now: datetime) -> Cell:
    """What an older cloud does not say is not shown."""
    update: Device | None = device.get("update")
    if update is None:
        return Cell("-")
    state = str(update["state"]).replace("_", " ")
    is_under_way = state in {"fetching", "installing"}
    said = f"{state} {update['percent']}%" if is_under_way else state
    return Cell(said, _has(device, "update"))


def money_of(cents: int, currency: str | None) -> str:
    return str(Money(cents, currency)) if currency else f"{cents // 100}.{cents % 100:02}"


_GRAVITY: Final = {
    problem: place
    for place, problem in enumerate(
        (
            "quarantined",
            "still_connected",
            "offline",
            "silent",
            "money_waits",
            "clock",
            "certificate",
            "policy",
            "printer",
            "hot",
            "update",
        )
    )
}
_SALE: Final = Column("Sale", 4, lambda device, now: Cell(age(device["last_sale_at"], now)))
_QUEUE: Final = Column("Queue", 10, _queue)
_CLOCK: Final = Column("Clock", 6, _clock)
_CERTIFICATE: Final = Column("Cert", 4, _certificate)
_POLICY: Final = Column("Policy", 6, _policy)
_PRINTER: Final = Column("Paper", 6, _printer)
_WARMTH: Final = Column("°C", 3, _warmth)
_UPDATE: Final = Column("Update", 15, _update)
_FIRMWARE: Final = Column("Firmware", 9, lambda device, _: Cell(device["firmware"] or "-"))
_COLUMNS: Final[Sequence[tuple[int, Column]]] = (
    (0, Column("State", 9, _state)),
    (0, Column("Appliance", 20, lambda device, _: Cell(device["device_id"]), grows=True)),
    # Its name begins with its stall's, unless somebody chose another.
    (100, Column("Stall", 12, lambda device, _: Cell(device["stall_id"] or "-"), grows=True)),
    (0, _SALE),
    (0, _QUEUE),
    (0, _CLOCK),
    (0, _CERTIFICATE),
    (0, _POLICY),
    (0, _PRINTER),
    (0, _WARMTH),
    (108, Column("Heard", 5, lambda device, now: Cell(age(device["last_seen_at"], now)))),
    (108, _FIRMWARE),
    (124, Column("Event", 14, lambda device, _: Cell(device["event_id"] or "-"))),
    (160, Column("Image", 18, lambda device, _: Cell(device.get("image") or "-"))),
    (160, _UPDATE),
)
