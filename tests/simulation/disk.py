"""An appliance's disk: the real chain of entries, and a medium that fails when it pleases."""

from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final

from device.journal.journal import Chain
from device.till.entries import Entry, EpochBegan, decode, encode
from device.till.standing import Standing
from protocol.messages import JournalPosition
from tests.simulation.weather import Weather

UNOPENED: Final = Chain.of("not-opened-so-far")


class DiskFault(Exception):  # noqa: N818  # as device.journal.journal names it
    """Whether the entries are written is unknown until the journal is opened again."""


class Disk:
    """As the `Journal`, in memory; what `written` holds survives every power cut."""

    def __init__(self, random: Random, epoch: str) -> None:
        self.written: list[bytes] = []
        self._random = random
        self._epoch = epoch
        self._chain = UNOPENED
        self._is_open = False

    @property
    def standing(self) -> Standing:
        """As last known: a failed commit changes it only once the journal is opened again."""
        return self._chain.standing

    @property
    def position(self) -> JournalPosition:
        return self._chain.position

    @property
    def entries(self) -> list[Entry]:
        """What a person would read on it now."""
        return [decode(body) for body in self.written]

    def open(self, weather: Weather, at_ms: int) -> Standing:
        """Raises DiskFault."""
        self._is_open = False
        if self._random.random() < weather.open_fault:
            raise DiskFault
        if not self.written:
            self.written.append(encode(EpochBegan(self._epoch, at_ms)))
        chain = Chain.of(self._epoch)
        for body in self.written:
            chain = chain.after(decode(body), body)
        self._chain = chain
        self._is_open = True
        return chain.standing

    def append(self, entries: tuple[Entry, ...], weather: Weather) -> None:
        """All in one commit or none. Raises DiskFault."""
        if not self._is_open:
            raise DiskFault
        if self._random.random() < weather.commit_fault:
            self._is_open = False
            if self._random.random() < 0.5:
                self.written += [encode(each) for each in entries]
            raise DiskFault
        for entry in entries:
            body = encode(entry)
            self._chain = self._chain.after(entry, body)
            self.written.append(body)

    def fold_log(self, weather: Weather) -> None:
        """Between sales, as `Journal.rest`. Raises DiskFault."""
        if self._is_open and self._random.random() < weather.commit_fault / 4:
            self._is_open = False
            raise DiskFault

    def lose_power(self) -> None:
        self._is_open = False
        self._chain = UNOPENED

    def number_of(self, key: str) -> int:
        return self.standing.number_of(key)
