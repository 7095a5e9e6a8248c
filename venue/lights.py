"""What the lamp said, read from its pin levels alone: the device is not asked.

Colour and rhythm decide, and strength where those would take long to tell: what speaks about a
sale shines in full, what tells the till's state is dimmer, and "ready" is one steady dim white.
A violet wink between two darks belongs to the light around it: there is no paper. All other violet
is an appliance that is nobody yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final


class Light(StrEnum):
    """The lights by the names the appliance gives them too (a test compares the two)."""

    DARK = "dark"
    NOBODY_SIGNED_IN = "nobody signed in"
    READY = "ready"
    SHOW_QR = "show the QR"
    KEY_THE_AMOUNT = "scanned: key the amount"
    ASKING = "asking the cloud"
    APPROVED = "approved"
    APPROVED_OFFLINE = "approved offline"
    DECLINED = "declined"
    REFRESH_QR = "refresh the QR"
    FAULT = "fault: do not hand over"
    OFFLINE_ALLOWED = "offline, sales allowed"
    OFFLINE_NOT_ALLOWED = "offline, sales not allowed"
    READY_NO_PAPER = "ready, no paper"
    OFFLINE_ALLOWED_NO_PAPER = "offline, sales allowed, no paper"
    OFFLINE_NOT_ALLOWED_NO_PAPER = "offline, sales not allowed, no paper"
    SHOW_RECEIPT = "show the receipt's QR"
    SUPERVISOR = "a supervisor's badge"
    REFUNDED = "refunded"
    ENROL = "show me a code"
    JOINING = "joining the Wi-Fi"
    ENROLLED = "enrolled"
    NO_WAY = "no way to the cloud"
    NOT_ENROLLED = "not enrolled: read the slip"
    UPDATING = "updating"


@dataclass(frozen=True)
class Level:
    """The lamp's colour from a moment on; strengths 0 to 1, monotonic seconds."""

    red: float
    green: float
    blue: float
    at: float


@dataclass(frozen=True)
class Seen:
    """One showing of a light. `light` is None while, or where, the levels do not tell which."""

    light: Light | None
    began_at: float
    ended_at: float | None
    """None while it lasts."""


class _Hue(Enum):
    DARK = auto()
    WHITE = auto()
    RED = auto()
    GREEN = auto()
    BLUE = auto()
    CYAN = auto()
    AMBER = auto()
    DIM_AMBER = auto()
    VIOLET = auto()
    OTHER = auto()


READY_STRENGTH: Final = 0.15
"""The breath of "nobody signed in" passes beside this strength, never through it."""

UPDATING_STRENGTH: Final = 0.7
"""Of white blinks; no breath comes up to it."""

DOUBLE_BLINK_STRENGTH: Final = 0.6
"""The breath of "offline, sales allowed" stays below."""

WINKING_STRENGTHS: Final = (0.12, 0.55)
"""Steady white or amber, and amber blinks, between which the lamp winks: no breath meets them."""

WINK_PAUSE_MAX_S: Final = 0.4
"""The dark beside a wink lasts 0.12 s."""

WORD_PAUSE_MAX_S: Final = 0.75
"""A dark longer than this ends a word about a sale: the slowest of those blinks is 0.4 s."""

STATE_PAUSE_MAX_S: Final = 1.5
"""The double blink rests for a second between its pairs."""

STEADY_S: Final = 0.7
"""Red for this long is steady; the slow blink's is 0.4 s."""

FAST_PERIOD_S: Final = 0.45
"""Between the fast blink's 0.2 s and the slow one's 0.8 s."""


def approvals(levels: Iterable[Level]) -> tuple[float, ...]:
    """When the lamp turned green: each is one approval, known from its first edge.

    Full green alone is in no other light, not even in passing from one colour to another.
    """
    edges: list[float] = []
    was_green = False
    for level in levels:
        is_green = _hue(level) is _Hue.GREEN
        if is_green and not was_green:
            edges.append(level.at)
        was_green = is_green
    return tuple(edges)


def recognise(levels: Iterable[Level], now: float) -> tuple[Seen, ...]:
    """The lights shown, oldest first, as far as they can be told at `now`."""
    showings = _showings(list(levels), now)
    ends = [*(following[0].at for following in showings[1:]), None]
    return tuple(
        Seen(_name(showing, now if end is None else end), showing[0].at, end)
        for showing, end in zip(showings, ends[: len(showings)], strict=True)
    )


def _hue(level: Level) -> _Hue:
    match (level.red > 0, level.green > 0, level.blue > 0):
        case (False, False, False):
            return _Hue.DARK
        case (True, True, True):
            return _Hue.WHITE
        case (True, False, False):
            return _Hue.RED
        case (False, True, False):
            return _Hue.GREEN if level.green == 1 else _Hue.OTHER
        case (False, False, True):
            return _Hue.BLUE
        case (False, True, True):
            return _Hue.CYAN
        case (True, True, False):
            return _Hue.AMBER if level.red == 1 else _Hue.DIM_AMBER
        case (True, False, True):
            return _Hue.VIOLET


def _blue(level: Level) -> Light:
    match level.blue:
        case 1:
            return Light.ASKING
        case 0.8:
            return Light.SHOW_RECEIPT
        case _:
            return Light.SHOW_QR


def _cyan(level: Level) -> Light:
    match level.green, level.blue:
        case (0.9, 1):
            return Light.SUPERVISOR
        case (0.9, 0.5):
            return Light.REFUNDED
        case _:
            return Light.KEY_THE_AMOUNT


def _violet(level: Level) -> Light | None:
    """By strength; None is a wink's."""
    match level.blue:
        case 1:
            return Light.JOINING
        case 0.9:
            return Light.ENROLLED
        case 0.7:
            return Light.NO_WAY
        case 0.6:
            return Light.NOT_ENROLLED
        case 0.8:
            return None
        case _:
            return Light.ENROL


def _white(level: Level) -> Light:
    if level.red == READY_STRENGTH:
        return Light.READY
    return Light.UPDATING if level.red == UPDATING_STRENGTH else Light.NOBODY_SIGNED_IN


def _is_double_blink(level: Level) -> bool:
    return _hue(level) is _Hue.DIM_AMBER and level.red == DOUBLE_BLINK_STRENGTH


def _is_winking(level: Level) -> bool:
    return _hue(level) in {_Hue.WHITE, _Hue.DIM_AMBER} and level.red in WINKING_STRENGTHS


def _showings(levels: list[Level], now: float) -> list[list[Level]]:
    """Cut the levels where one light ends and the next begins."""
    showings: list[list[Level]] = []
    ends = [*(level.at for level in levels[1:]), now]
    for level, ends_at in zip(levels, ends[: len(levels)], strict=True):
        if showings and _goes_on(showings[-1], level, ends_at - level.at):
            showings[-1].append(level)
        else:
            showings.append([level])
    return showings


def _goes_on(showing: list[Level], level: Level, lasts_s: float) -> bool:
    """Whether a level is one more of the same light."""
    hue = _hue(level)
    last = next((one for one in reversed(showing) if _hue(one) is not _Hue.DARK), None)
    if last is None:
        return hue is _Hue.DARK
    if _is_winking(showing[0]) and hue is not _Hue.DARK:
        is_wink = hue is _Hue.VIOLET and _violet(level) is None
        return is_wink or (hue, level.red) == (_hue(showing[0]), showing[0].red)
    if _is_winking(level):
        return False
    if hue is _Hue.DARK:
        return lasts_s < _pause_max_s(last)
    match _hue(last):
        case _Hue.GREEN:
            # Green and then full amber is one word; green again is the next approval.
            return hue is _Hue.AMBER
        case _Hue.RED:
            # Steady red ends in the dark: red after it is the next word.
            return hue is _Hue.RED and showing[-1].at - last.at < STEADY_S
        case _Hue.BLUE:
            return hue is _Hue.BLUE and _blue(level) is _blue(last)
        case _Hue.CYAN:
            return hue is _Hue.CYAN and _cyan(level) is _cyan(last)
        case _Hue.WHITE:
            return hue is _Hue.WHITE and _white(level) is _white(last)
        case _Hue.DIM_AMBER:
            return hue is _Hue.DIM_AMBER and _is_double_blink(level) == _is_double_blink(last)
        case _Hue.VIOLET:
            return hue is _Hue.VIOLET and _violet(level) is _violet(last)
        case _Hue.AMBER | _Hue.DARK | _Hue.OTHER:
            return hue is _hue(last)


def _pause_max_s(last: Level) -> float:
    """How long a dark after this colour may be and still belong to the same light."""
    if _is_winking(last):
        return WINK_PAUSE_MAX_S if last.red == WINKING_STRENGTHS[0] else WORD_PAUSE_MAX_S
    match _hue(last):
        case _Hue.VIOLET:
            return WINK_PAUSE_MAX_S if _violet(last) is None else STATE_PAUSE_MAX_S
        case _Hue.RED | _Hue.GREEN | _Hue.AMBER:
            return WORD_PAUSE_MAX_S
        case _Hue.BLUE:
            return 0 if _blue(last) is Light.SHOW_QR else STATE_PAUSE_MAX_S
        case _Hue.CYAN:
            return 0 if _cyan(last) is Light.KEY_THE_AMOUNT else STATE_PAUSE_MAX_S
        case _Hue.DIM_AMBER:
            return STATE_PAUSE_MAX_S if _is_double_blink(last) else 0
        case _Hue.WHITE:
            return STATE_PAUSE_MAX_S if _white(last) is Light.UPDATING else 0
        case _Hue.DARK | _Hue.OTHER:
            return 0


def _name(showing: list[Level], until: float) -> Light | None:
    first = showing[0]
    hues = [_hue(level) for level in showing]
    if _is_winking(first):
        return _without_paper(first)
    match hues[0]:
        case _Hue.DARK:
            return Light.DARK
        case _Hue.GREEN:
            return Light.APPROVED_OFFLINE if _Hue.AMBER in hues else Light.APPROVED
        case _Hue.BLUE:
            return _blue(first)
        case _Hue.CYAN:
            return _cyan(first)
        case _Hue.RED:
            return _red(showing, until)
        case _Hue.WHITE:
            return _white(first)
        case _Hue.DIM_AMBER:
            is_double = _is_double_blink(first)
            return Light.OFFLINE_NOT_ALLOWED if is_double else Light.OFFLINE_ALLOWED
        case _Hue.VIOLET:
            return _violet(first)
        case _Hue.AMBER | _Hue.OTHER:
            return None


def _without_paper(first: Level) -> Light:
    if _hue(first) is _Hue.WHITE:
        return Light.READY_NO_PAPER
    is_steady = first.red == WINKING_STRENGTHS[0]
    return Light.OFFLINE_ALLOWED_NO_PAPER if is_steady else Light.OFFLINE_NOT_ALLOWED_NO_PAPER


def _red(showing: list[Level], until: float) -> Light | None:
    edges = [level.at for level in showing if _hue(level) is _Hue.RED]
    if len(edges) > 1:
        period_s = (edges[-1] - edges[0]) / (len(edges) - 1)
        return Light.FAULT if period_s < FAST_PERIOD_S else Light.REFRESH_QR
    dark = next((level.at for level in showing if _hue(level) is _Hue.DARK), None)
    if (until if dark is None else dark) - edges[0] >= STEADY_S:
        return Light.DECLINED
    return None
