"""One appliance's way to the cloud and back: it delays, drops, doubles, reorders and is cut."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final

from tests.simulation.clock import Clock
from tests.simulation.weather import Weather

REMEMBERED: Final = 400
"""How many old messages a replay may choose from, each way."""


@dataclass(frozen=True)
class Letter:
    """A request at the broker."""

    device_id: str
    token: bytes
    expires_at_ms: float


class Wire:
    """`is_connected` is what the appliance notices; a direction may be dead all the same."""

    def __init__(
        self,
        device_id: str,
        clock: Clock,
        random: Random,
        to_cloud: Callable[[Letter], None],
        to_appliance: Callable[[bytes], None],
    ) -> None:
        self.is_connected = False
        self.is_dead_up = False
        self.is_dead_down = False
        self._device_id = device_id
        self._clock = clock
        self._random = random
        self._to_cloud = to_cloud
        self._to_appliance = to_appliance
        self._requests: list[bytes] = []
        self._replies: list[bytes] = []

    def publish(self, token: bytes, expiry_s: int | None, weather: Weather) -> bool:
        """From the appliance; False, and nothing is kept, while the link is down."""
        if not self.is_connected:
            return False
        self._requests = [*self._requests, token][-REMEMBERED:]
        if not self.is_dead_up:
            for _ in range(self._copies(weather)):
                self._clock.plan(self._delay_ms(weather), lambda: self._reach(token, expiry_s))
        return True

    def reply(self, token: bytes, weather: Weather) -> None:
        """From the cloud."""
        self._replies = [*self._replies, token][-REMEMBERED:]
        for _ in range(self._copies(weather)):
            self._clock.plan(self._delay_ms(weather), lambda: self._return(token))

    def replay(self) -> None:
        """Something of long ago, once more."""
        if self._random.random() < 0.5 and self._requests:
            self._reach(self._random.choice(self._requests[-40:]), None)
        elif self._replies:
            self._return(self._random.choice(self._replies[-40:]))

    def mend(self) -> None:
        self.is_dead_up = self.is_dead_down = False

    def _reach(self, token: bytes, expiry_s: int | None) -> None:
        """At the broker, whose expiry counts from here."""
        lasts_ms = float("inf") if expiry_s is None else expiry_s * 1000
        self._to_cloud(Letter(self._device_id, token, self._clock.now_ms + lasts_ms))

    def _return(self, token: bytes) -> None:
        """The broker keeps nothing for whoever is not there."""
        if self.is_connected and not self.is_dead_down:
            self._to_appliance(token)

    def _copies(self, weather: Weather) -> int:
        if self._random.random() < weather.message_lost:
            return 0
        return 2 if self._random.random() < weather.message_doubled else 1

    def _delay_ms(self, weather: Weather) -> float:
        if self._random.random() < weather.message_late:
            return self._random.uniform(400, 9000)
        return self._random.uniform(3, 60)
