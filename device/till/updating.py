"""While the appliance is being updated: nothing begins, and whoever presses a key is told why."""

from dataclasses import replace

from device.till.effects import Effects, Look, MakeSound, Note, Print
from device.till.events import KeyPressed, Now
from device.till.notices import updating_slip
from device.till.resting import Step, pass_over
from device.till.signals import Sound
from device.till.states import NobodySignedIn, Ready, Till, Updating, is_unfinished


def begin_update(till: Till) -> Step:
    """What is in the middle of something goes on to its end: the lock is its own until then."""
    if till.updating is not None:
        return till, ()
    till = replace(till, updating=Updating())
    looks: Effects = (Look(False),) if isinstance(till.phase, Ready | NobodySignedIn) else ()
    return till, (*looks, Note("updating"))


def end_update(till: Till) -> Step:
    if till.updating is None:
        return till, ()
    till = replace(till, updating=None)
    looks: Effects = (Look(True),) if isinstance(till.phase, Ready | NobodySignedIn) else ()
    return till, (*looks, Note("updating_over"))


def is_kept_from(till: Till) -> bool:
    """Whether this key or code would begin something."""
    return till.updating is not None and not is_unfinished(till)


def tell_of_update(till: Till, event: KeyPressed, now: Now) -> Step:
    """Two low beeps each time, and a slip once."""
    assert till.updating is not None, "it is kept from nothing else"
    has_told = till.updating.has_told
    till, _ = pass_over(replace(till, updating=Updating(has_told=True)), event, now)
    told: Effects = () if has_told else (Print(updating_slip()),)
    return till, (MakeSound(Sound.DECLINED), *told)
