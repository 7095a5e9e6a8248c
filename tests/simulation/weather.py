"""How badly one run goes: which faults strike it, and how often."""

from dataclasses import dataclass, fields, replace
from random import Random  # noqa: TID251  # seeded by the test, and handed in


@dataclass(frozen=True)
class Weather:
    """Chances between 0 and 1, each for one occasion of its kind; all 0 is a perfect day."""

    message_lost: float = 0.0
    """A message on its way, either direction."""
    message_doubled: float = 0.0
    message_late: float = 0.0
    """It takes seconds, and so arrives after others, or after the till gave up."""
    link_cut: float = 0.0
    """Each second, each appliance: noticed at once, or one direction silently dead."""
    outage: float = 0.0
    """Each second, each appliance: no network for a minute or two."""
    clock_jump: float = 0.0
    """Each second, each appliance: its wall clock is set, wrongly."""
    offline: float = 0.0
    """At each fair: whether its tills may sell alone."""
    replay: float = 0.0
    """Each second, each appliance: a message of long ago comes once more."""
    power_cut: float = 0.0
    """At each effect that a till asks for."""
    commit_fault: float = 0.0
    """At each commit of a journal; whether the entries are written is then a coin's toss."""
    open_fault: float = 0.0
    """At each opening of a journal."""
    worker_crash: float = 0.0
    """At each batch: before the commit, or between the commit and the replies."""
    worker_stall: float = 0.0
    """At each batch: it waits at the broker for seconds."""
    office: float = 0.0
    """Each second: the back office changes a policy, ends a session, revokes an appliance."""
    mischief: float = 0.0
    """At each choice: staff and attendees do what nobody should."""


PERFECT = Weather()
WORST = Weather(
    message_lost=0.1,
    message_doubled=0.1,
    message_late=0.1,
    link_cut=0.02,
    outage=0.006,
    clock_jump=0.01,
    offline=0.5,
    replay=0.1,
    power_cut=0.01,
    commit_fault=0.02,
    open_fault=0.4,
    worker_crash=0.03,
    worker_stall=0.01,
    office=0.04,
    mischief=0.2,
)

LONELY = replace(WORST, offline=1.0, outage=0.04, office=0.02, message_lost=0.05)
"""Where tills sell alone most of the time."""


def draw_weather(random: Random) -> Weather:
    """Some faults and not others, so that none always hides behind another."""
    chosen = {
        each.name: getattr(WORST, each.name) * random.uniform(0.3, 1.0)
        for each in fields(Weather)
        if random.random() < 0.6
    }
    return replace(PERFECT, **chosen)
