"""A rush for hours: a sale every 4 s, while the printer fails and the network comes and goes.

Watches what only time shows: whether the appliance's memory grows, and whether any sale is lost or
posted twice. A machine too slow for the pace is reported, and is no failure.
"""

import argparse
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import Machine, describe_machine
from bench.results import keep
from protocol.money import Money
from venue.attendee import Attendee
from venue.edge import EdgeError
from venue.lights import Light
from venue.stack import CURRENCY, DOCUMENT, Appliance, Venue

SALE_EVERY_S: Final = 4.0
TROUBLE_EVERY_S: Final = 11.0
TROUBLE_S: Final = 6.0
WITHIN_S: Final = 60.0
WARM_UP: Final = 0.3
"""This part of the time memory may still grow: caches fill, every path is met once."""
GROWTH_MAX_MIB: Final = 5.0
RESIDENT_MAX_MIB: Final = 90.0
GUESTS: Final = 6
TOP_UP_IN_CENTS: Final = 5000
PRICE_IN_CENTS: Final = 100

Tell = Callable[[str], None]


class Memory(msgspec.Struct, frozen=True):
    """Proportional set size, so that what two processes share counts once."""

    at_s: float
    appliance_mib: float
    reader_mib: float
    """The process that captures and decodes."""


class Saw(msgspec.Struct, kw_only=True):
    """What the soak saw; `problems` is empty where all is well."""

    minutes: float
    machine: Machine
    attempts: int = 0
    greens: int = 0
    """Lights, of online and offline sales."""
    declined: int = 0
    faults: int = 0
    unclear: int = 0
    """Attempts that came to no word in time, and were given up."""
    behind_s: float = 0.0
    """How far the pace fell behind at worst."""
    troubles: dict[str, int] = {}
    posted: int = 0
    reversed: int = 0
    posted_twice: int = 0
    offline: int = 0
    warm_mib: float = 0.0
    end_mib: float = 0.0
    growth_mib: float = 0.0
    resident_max_mib: float = 0.0
    """The appliance's own process; the reader's libraries are the camera's."""
    memory: list[Memory] = []
    problems: list[str] = []


def soak(minutes: float, tell: Tell, folder: Path | None = None) -> Saw:
    """Run it, and say what was seen; one line a message while it goes on."""
    saw = Saw(minutes=minutes, machine=describe_machine(), troubles={}, memory=[], problems=[])
    document = DOCUMENT | {"offline": {"allowed": True}, "reply_timeout_ms": 4000}
    with Venue(folder, document=document) as venue:
        appliance = venue.appliances[0]
        appliance.counter.sign_in(venue.badge)
        guests = [venue.attendee(f"guest-{number}@example.org") for number in range(GUESTS)]
        for guest in guests:
            _fill(guest)
        rush = _Rush(venue, guests, saw, tell)
        rush.run(minutes * 60)
        rush.come_to_rest()
        _judge(venue, appliance, saw)
    return saw


class _Rush:
    def __init__(self, venue: Venue, guests: list[Attendee], saw: Saw, tell: Tell) -> None:
        self._venue = venue
        self._appliance = venue.appliances[0]
        self._guests = cycle(guests)
        self._saw = saw
        self._tell = tell
        self._troubles = cycle(_TROUBLES)
        self._trouble: str | None = None

    def run(self, seconds: float) -> None:
        began = _clock()
        sale_at = trouble_at = began
        sample_at = began
        while (now := _clock()) < began + seconds:
            if now >= trouble_at:
                trouble_at = self._next_trouble(now)
            if now >= sample_at:
                self._sample(now - began)
                sample_at = now + 2.0
            if now >= sale_at:
                self._saw.behind_s = max(self._saw.behind_s, now - sale_at)
                self._sell()
                sale_at = max(sale_at + SALE_EVERY_S, _clock() - SALE_EVERY_S)
            time.sleep(max(0.0, min(sale_at, trouble_at, sample_at) - _clock()))

    def come_to_rest(self) -> None:
        """Everything mended; until the appliance has nothing left to say."""
        self._mend()
        edge = self._appliance.counter.edge
        edge.clear()
        edge.wait_for(lambda: edge.light() is Light.READY or None, "the till to rest", WITHIN_S)
        edge.wait_for(
            lambda: _open_entries(self._appliance) == 0 or None, "all to be settled", WITHIN_S
        )

    def _next_trouble(self, now: float) -> float:
        """A trouble, then as long without one."""
        if self._trouble is not None:
            self._mend()
            return now + TROUBLE_EVERY_S - TROUBLE_S
        self._trouble = next(self._troubles)
        self._saw.troubles[self._trouble] = self._saw.troubles.get(self._trouble, 0) + 1
        edge, network = self._appliance.counter.edge, self._appliance.network
        match self._trouble:
            case "network cut":
                network.cut()
            case "network silent":
                network.silence()
            case paper:
                edge.put_printer(paper)
        return now + TROUBLE_S

    def _mend(self) -> None:
        self._appliance.network.mend()
        self._appliance.counter.edge.put_printer("ok")
        self._trouble = None

    def _sell(self) -> None:
        guest = next(self._guests)
        if guest.balance(CURRENCY).amount_in_cents < TOP_UP_IN_CENTS // 2:
            _fill(guest)
        saw, counter = self._saw, self._appliance.counter
        edge = counter.edge
        saw.attempts += 1
        try:
            edge.wait_for(lambda: edge.light() in _RESTING or None, "the till to rest", WITHIN_S)
            began = _clock()
            edge.type(f"{PRICE_IN_CENTS}#")
            asked = edge.wait_for_any_light(frozenset({Light.SHOW_QR, *_ENDS}), began, WITHIN_S)
            if asked.light is Light.SHOW_QR:
                shown = counter.show_phone(guest.fresh_qr().digits, "easy")
                edge.wait_for(lambda: self._word(shown), "a word", WITHIN_S)
            else:
                saw.declined += 1
        except EdgeError as fault:
            saw.unclear += 1
            self._tell(f"unclear: {fault}")
            edge.tap("*")
        edge.clear()

    def _word(self, since: float) -> bool | None:
        edge, saw = self._appliance.counter.edge, self._saw
        for seen in edge.lights(since):
            if seen.began_at > since and seen.light in _GREEN:
                return True
            if seen.began_at <= since or seen.light not in _ENDS:
                continue
            if seen.light is Light.FAULT:
                saw.faults += 1
            else:
                saw.declined += 1
                if seen.light is Light.REFRESH_QR:
                    edge.clear()
                    edge.tap("*")
            return False
        return None

    def _sample(self, at_s: float) -> None:
        pid = self._appliance.program.pid
        own = _pss_mib(pid)
        memory = Memory(round(at_s, 1), own, sum(map(_pss_mib, _children(pid))))
        saw = self._saw
        saw.memory.append(memory)
        saw.resident_max_mib = max(saw.resident_max_mib, _rss_mib(pid))
        saw.greens = len(self._appliance.counter.edge.approvals())
        self._tell(
            f"{int(at_s) // 60:3d}:{int(at_s) % 60:02d}  {saw.attempts} attempts, "
            f"{saw.greens} green, {saw.declined} declined, {saw.faults} faults  "
            f"{own:.1f} + {memory.reader_mib:.1f} MiB  {self._trouble or 'all well'}"
        )


_TROUBLES: Final = ("out", "network cut", "hung", "network silent", "away")
_ENDS: Final = frozenset({Light.DECLINED, Light.REFRESH_QR, Light.FAULT})
_GREEN: Final = frozenset({Light.APPROVED, Light.APPROVED_OFFLINE})
_RESTING: Final = frozenset(
    {
        Light.READY,
        Light.READY_NO_PAPER,
        Light.OFFLINE_ALLOWED,
        Light.OFFLINE_ALLOWED_NO_PAPER,
        Light.OFFLINE_NOT_ALLOWED,
        Light.OFFLINE_NOT_ALLOWED_NO_PAPER,
    }
)


def _judge(venue: Venue, appliance: Appliance, saw: Saw) -> None:
    """The books against the lamp, and memory against its beginnings."""
    saw.greens = len(appliance.counter.edge.approvals())
    deducted: list[str] = []
    with closing(_reading(venue.folder / "cloud" / "cloud.sqlite")) as books:
        for kind, key in books.execute(
            "SELECT type, idempotency_key FROM credit_transactions WHERE device_id IS NOT NULL"
        ):
            if kind == "Deduct":
                deducted.append(key)
            else:
                saw.reversed += 1
    saw.posted = len(deducted)
    saw.posted_twice = len(deducted) - len(set(deducted))
    saw.offline = _count(appliance, "sale_accepted_offline")
    saw.warm_mib, saw.end_mib = _beginning_and_end(saw.memory, saw.minutes * 60)
    saw.growth_mib = round(saw.end_mib - saw.warm_mib, 2)
    if saw.posted - saw.reversed != saw.greens:
        saw.problems.append(
            f"{saw.greens} green lights, {saw.posted} posted, {saw.reversed} reversed"
        )
    if saw.posted_twice:
        saw.problems.append(f"{saw.posted_twice} posted twice")
    if not venue.reconcile()["balanced"]:
        saw.problems.append("a balance is not the sum of its transactions")
    if saw.growth_mib >= GROWTH_MAX_MIB:
        saw.problems.append(f"memory grew by {saw.growth_mib} MiB")
    if saw.resident_max_mib >= RESIDENT_MAX_MIB:
        saw.problems.append(f"{saw.resident_max_mib:.1f} MiB resident")


def _beginning_and_end(memory: list[Memory], seconds: float) -> tuple[float, float]:
    """Medians of the first and the last quarter of what comes after the warm-up."""
    after = [each for each in memory if each.at_s >= seconds * WARM_UP]
    assert len(after) >= 2, "too short to say anything of growth"
    quarter = max(1, len(after) // 4)
    sums = [each.appliance_mib + each.reader_mib for each in after]
    return statistics.median(sums[:quarter]), statistics.median(sums[-quarter:])


def _fill(guest: Attendee) -> None:
    guest.top_up(Money(TOP_UP_IN_CENTS, CURRENCY))


def _open_entries(appliance: Appliance) -> int:
    """Sales whose last word is not journaled: those opened less those ended."""
    ended = ("sale_abandoned", "light_shown", "sale_kept", "message_closed", "sale_cancelled")
    path = appliance.folder / "journal.db"
    with closing(_reading(path)) as journal:
        rows = journal.execute("SELECT kind, key FROM entries ORDER BY number").fetchall()
    opened = {key for kind, key in rows if kind == "sale_opened"}
    closed = {key for kind, key in rows if kind == "message_closed"}
    owed = {key for kind, key in rows if kind in {"sale_accepted_offline", "sale_cancelled"}}
    done = {key for kind, key in rows if kind in {*ended, "sale_answered"}}
    return len((owed - closed) | (opened - done))


def _count(appliance: Appliance, kind: str) -> int:
    with closing(_reading(appliance.folder / "journal.db")) as journal:
        query = "SELECT count(*) FROM entries WHERE kind = ?"
        return int(journal.execute(query, (kind,)).fetchone()[0])


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end while one looks.
        with suppress(OSError):
            yield from map(int, (task / "children").read_text("ascii").split())


def _pss_mib(pid: int) -> float:
    try:
        return _mib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    except OSError:
        return 0.0  # a reader that was just replaced


def _rss_mib(pid: int) -> float:
    return _mib(Path(f"/proc/{pid}/status"), "VmRSS:")


def _mib(file: Path, name: str) -> float:
    line = next(line for line in file.read_text("utf-8").splitlines() if line.startswith(name))
    return round(int(line.split()[1]) / 1024, 2)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- a soak is in real time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    arguments = parser.parse_args()
    # One line that is drawn over on a terminal; a line each in a file.
    end = "\r" if sys.stdout.isatty() else "\n"
    saw = soak(arguments.minutes, lambda said: print(f"{said:<110}", end=end, flush=True))
    file = keep("soak", saw)
    print(
        f"\n{saw.attempts} attempts: {saw.greens} green ({saw.offline} offline), "
        f"{saw.declined} declined, {saw.faults} faults, {saw.unclear} unclear; "
        f"{saw.posted} posted, {saw.reversed} reversed; at worst {saw.behind_s:.1f} s behind\n"
        f"memory {saw.warm_mib:.1f} to {saw.end_mib:.1f} MiB ({saw.growth_mib:+.2f}), "
        f"at most {saw.resident_max_mib:.1f} MiB resident without the camera's reader\n"
        f"{file}"
    )
    for problem in saw.problems:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if saw.problems else 0)


if __name__ == "__main__":
    main()
