"""An appliance's status for people: plain lines for a pipe, a table with colours on a terminal."""

from collections.abc import Iterator
from typing import Final

from device.condition.standstill import Why
from device.condition.status import Queue, Status, moment
from device.journal.retention import MIB
from protocol.money import Money

WIDTH: Final = 13
_MOVES: Final = {Why.NOTHING_WAITS.value, Why.MOVING.value}


def lines_of(status: Status) -> Iterator[tuple[str, str, str]]:
    """Each line's name, what it says, and its colour on a terminal."""
    yield from (("trouble", each, "bold red") for each in status.troubles)
    yield "appliance", _appliance(status), _good(bool(status.device_id))
    yield "program", _program(status), _good(status.is_running)
    if status.image:
        yield "image", f"{status.image}{_after('; ', status.update)}", ""
    yield "broker", f"{status.broker}{_after(', ', status.link)}", ""
    yield "open", _open(status.queue), "" if status.queue.to_send == 0 else "yellow"
    if status.queue.to_send:
        yield "", _owed(status), "yellow"
    yield "moving", status.why_said, "green" if status.why in _MOVES else "yellow"
    if status.paper is not None:
        paper = status.paper
        state = _after(", ", paper.state)
        oldest = (
            "" if paper.oldest_at_ms is None else f", the oldest of {moment(paper.oldest_at_ms)}"
        )
        said = f"{paper.printer}{state}, {paper.waiting} slips wait{oldest}"
        yield "printer", said, "yellow" if paper.waiting else ""
    if status.scanner:
        yield "scanner", status.scanner, ""
    yield "policy", _policy(status), _good(status.policy is not None)
    yield "signed in", status.signed_in or "nobody", ""
    if status.clock:
        yield "clock", status.clock, ""
    yield "journal", _journal(status), ""
    if status.journal is not None:
        yield "epoch", status.journal.epoch, ""
        for each in status.journal.set_aside:
            yield "set aside", f"{each}: damaged, and kept", "yellow"
    yield "disk", f"{status.disk_free_mib} MiB free", ""
    yield "checkpoint", status.checkpoint or "none yet", ""


def plain(status: Status) -> str:
    return "\n".join(f"{name:<{WIDTH}}{said}".rstrip() for name, said, _ in lines_of(status))


def show(status: Status) -> None:
    """On a terminal. Raises nothing: whatever a name holds is text, and no markup."""
    # Only here: a pipe has no use for it, and it takes longer to load than all the rest.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, said, colour in lines_of(status):
        table.add_row(name, Text(said, style=colour))
    Console().print(table)


def _appliance(status: Status) -> str:
    if not status.device_id:
        return "no identity"
    until = moment(status.certificate_expires_at_ms)
    return f"{status.device_id}, certificate valid until {until}: {status.certificate_days} days"


def _program(status: Status) -> str:
    return f"running, {status.firmware}" if status.is_running else "not running"


def _open(queue: Queue) -> str:
    return (
        f"{queue.undecided} undecided, {queue.unseen} approved and perhaps not shown, "
        f"{queue.cancels} cancels, {queue.refunds} refunds and {queue.sign_outs} sign-outs "
        f"unanswered, {queue.offline} offline sales to upload"
    )


def _owed(status: Status) -> str:
    queue = status.queue
    parts: list[str] = []
    if queue.offline:
        parts.append(f"{Money(queue.offline_in_cents, queue.currency)} sold offline")
    if queue.oldest_at_ms is not None:
        parts.append(f"the oldest of {moment(queue.oldest_at_ms)}")
        parts.append(f"{_age(status.at_ms - queue.oldest_at_ms)} ago")
    return ", ".join(parts)


def _policy(status: Status) -> str:
    policy = status.policy
    if policy is None:
        return "none yet"
    if policy.refused:
        return f"version {policy.version}, no longer believed: {policy.refused}"
    offline = "offline sales allowed" if policy.offline_allowed else "no offline sales"
    return f"version {policy.version}: {policy.stall}, {policy.event}; {offline}"


def _journal(status: Status) -> str:
    journal = status.journal
    if journal is None:
        return "none that can be read"
    size = f"{journal.size_bytes / MIB:.1f} MiB"
    return f"{journal.entries} entries, settled below {journal.settled_below}, {size}"


def _age(ms: int) -> str:
    minutes = max(0, ms) // 60_000
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} days"


def _after(comma: str, said: str) -> str:
    return f"{comma}{said}" if said else ""


def _good(is_good: bool) -> str:
    return "" if is_good else "yellow"
