"""Which codes lie in view: each is dealt with once, however long it lies there."""

from dataclasses import replace
from typing import Final

from device.till.resting import Step
from device.till.signals import Light
from device.till.states import Showing, Sighting, Till, Watching

SIGHTING_GAP_S: Final = 4.0
"""A code out of view for this long was taken away; shown again, it is dealt with again."""
IN_VIEW_MAX: Final = 4
"""Two phones side by side come in turns; more than these are not held up at once."""


def is_same_sighting(refused: Sighting | None, text: str, now_s: float) -> bool:
    """Whether this is the code just refused, still lying in view."""
    return refused is not None and refused.text == text and now_s < refused.seen_at + SIGHTING_GAP_S


def still_in_view(till: Till, then: Watching) -> Step:
    """The refused code still lies there: nothing is said again."""
    phase = replace(till.phase, then=then) if isinstance(till.phase, Showing) else then
    return replace(till, phase=phase), ()


def is_in_view(till: Till, text: str, payer_id: str, now_s: float) -> bool:
    """Whether this very code lies in view, or another of a wallet the till is done with.

    A phone draws a new code as soon as the old one is used: it is still the customer before.
    """
    return any(
        now_s < each.seen_at + SIGHTING_GAP_S
        and (each.text == text or (payer_id != "" and each.payer_id == payer_id))
        for each in till.in_view
    )


def note_view(till: Till, text: str, payer_id: str, now_s: float) -> Till:
    """Remember a code as seen just now; a wallet the till is done with stays known as such."""
    done_with = next(
        (
            each.payer_id
            for each in till.in_view
            if each.text == text or (payer_id != "" and each.payer_id == payer_id)
        ),
        "",
    )
    others = tuple(
        each for each in till.in_view if each.text != text and now_s < each.seen_at + SIGHTING_GAP_S
    )
    return replace(till, in_view=(Sighting(text, now_s, done_with), *others)[:IN_VIEW_MAX])


def be_done_with(till: Till, text: str, payer_id: str, now_s: float) -> Till:
    """From now on no code of this wallet is taken unasked, until it was out of view."""
    others = tuple(each for each in till.in_view if each.text != text)
    return replace(till, in_view=(Sighting(text, now_s, payer_id), *others)[:IN_VIEW_MAX])


def welcome_again(till: Till, payer_id: str) -> Till:
    """This wallet is to show a fresh code: it is taken although the old one still lies there."""
    return replace(
        till,
        in_view=tuple(
            replace(each, payer_id="") if each.payer_id == payer_id else each
            for each in till.in_view
        ),
    )


def mind_view(before: Till, till: Till, now_s: float) -> Till:
    """While the camera does not look, nothing leaves its view: the gap counts on afterwards."""
    match _is_looking(before), _is_looking(till):
        case True, False:
            lying = tuple(each for each in till.in_view if now_s < each.seen_at + SIGHTING_GAP_S)
        case False, True:
            lying = tuple(replace(each, seen_at=now_s) for each in till.in_view)
        case _:
            return till
    return replace(till, in_view=lying)


def _is_looking(till: Till) -> bool:
    match till.phase:
        case Showing(light=light, then=then):
            return light is Light.REFRESH_QR and then is not None
        case phase:
            return isinstance(phase, Watching)
