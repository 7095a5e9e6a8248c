"""The next step of an update: one function of all that is known, asked again and again.

announced --> fetch --whole--> wait until nobody needs the till --> install --> reboot
--> trying --a heartbeat answered, the self-test over--> confirmed --> the slot is marked good
trying --three starts without that--> the version before runs: given up

Whatever is cut off anywhere, the next look goes by what the disk and the slots say then.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from msgspec import structs

from device.updating.facts import GIVEN_UP_MAX, GivenUp, Known, Record, Stage, Trying, Use
from device.updating.slots import FINAL, Failure, Installation, Slots
from protocol.updates import Progress, Update, UpdateState, is_newer

LEFT_ALONE_S: Final = 60.0
"""Nobody is signed in: the next shift may be on its way to the till."""
UNUSED_S: Final = 15 * 60.0
"""Somebody is signed in, and has keyed nothing for this long."""
ATTEMPTS_MAX: Final = 3
ROOM_FOR_THE_JOURNAL: Final = 256 * 1024 * 1024
"""Bytes that no update may take: what is sold must always find room."""
WHY_CHARS_MAX: Final = 120
CONFIRMED_MAX: Final = 2


class Why(StrEnum):
    """What the next step waits for."""

    NO_SLOTS = "no_slots"
    NOTHING_ANNOUNCED = "nothing_announced"
    UP_TO_DATE = "up_to_date"
    GIVEN_UP = "given_up"
    NOT_FOR_US = "not_for_us"
    OLDER = "older"
    NO_ROOM = "no_room"
    FETCHING = "fetching"
    LATER = "later"
    IN_USE = "in_use"
    INSTALLING = "installing"
    TRYING = "trying"


SENTENCES: Final = {
    Why.NO_SLOTS: "railtix-slots does not answer, or this is no image with two slots",
    Why.NOTHING_ANNOUNCED: "no update is announced",
    Why.UP_TO_DATE: "it runs the version that is announced",
    Why.GIVEN_UP: "it was given up, and is not tried again by itself",
    Why.NOT_FOR_US: "what is announced is for other appliances",
    Why.OLDER: "what is announced is no newer than what runs",
    Why.NO_ROOM: "there is not enough room on the disk",
    Why.FETCHING: "it is being fetched",
    Why.LATER: "it is tried again in a while",
    Why.IN_USE: "it is installed when nobody needs the till",
    Why.INSTALLING: "it is being installed",
    Why.TRYING: "it runs, and has to prove itself",
}


@dataclass(frozen=True)
class Wait:
    why: Why


@dataclass(frozen=True)
class MarkGood:
    """The slot that runs is the one to start from."""


@dataclass(frozen=True)
class Write:
    """Put the record on the disk; what follows from it is asked anew."""

    record: Record


@dataclass(frozen=True)
class Fetch:
    update: Update


@dataclass(frozen=True)
class FetchAnew:
    """What lies there is not what was announced, so it goes; once `record` is on the disk."""

    record: Record
    sha256: str


@dataclass(frozen=True)
class Install:
    """Ask for it, once `record` is on the disk."""

    update: Update
    record: Record


@dataclass(frozen=True)
class Stay:
    """The next start is from the slot that runs."""


@dataclass(frozen=True)
class Reboot:
    pass


Step = Wait | MarkGood | Write | Fetch | FetchAnew | Install | Stay | Reboot


def decide(known: Known) -> Step:
    """What is to be done now."""
    slots = known.slots
    if slots is None or not slots.booted:
        return Wait(Why.NO_SLOTS)
    if slots.is_installing:
        return Wait(Why.INSTALLING)
    trying = known.record.trying
    is_on_trial = _is_on_trial(known.record, known.running)
    if is_on_trial or not (known.is_marked or is_believed(known.record, known.running)):
        return Write(_confirmed(known)) if known.is_proved else Wait(Why.TRYING)
    if not known.is_marked:
        # Whatever becomes of a new one, this is what to come back to.
        return MarkGood()
    return _take_up(known, slots) if trying is None else _go_on(known, slots, trying)


def is_believed(record: Record, running: str) -> bool:
    """Whether it may be called good because it runs, without a word from the cloud: a bar without
    a network must not flip back."""
    if _is_on_trial(record, running):
        return False
    return not record.confirmed or running in record.confirmed


def _is_on_trial(record: Record, running: str) -> bool:
    return record.trying is not None and record.trying.version == running


def is_quiet(use: Use) -> bool:
    """Whether nobody would miss the till for some minutes."""
    if not use.is_at_rest:
        return False
    return use.untouched_s >= (UNUSED_S if use.is_signed_in else LEFT_ALONE_S)


def give_up(record: Record, given_up: GivenUp) -> Record:
    """It is over with this bundle."""
    state = UpdateState.ROLLED_BACK if given_up.was_started else UpdateState.REFUSED
    others = tuple(each for each in record.given_up if each.sha256 != given_up.sha256)
    return structs.replace(
        record,
        trying=None,
        given_up=(*others, given_up)[-GIVEN_UP_MAX:],
        newest=Progress(version=given_up.version, state=state, why=given_up.why),
    )


def try_again(record: Record) -> Record:
    """A person says so: whatever was given up may be tried once more."""
    return structs.replace(record, given_up=(), newest=None)


def _go_on(known: Known, slots: Slots, trying: Trying) -> Step:
    """A version was to be installed, and another one runs."""
    if trying.stage is not Stage.INSTALLING and trying.boot_id != known.boot_id:
        why = "it did not prove itself in three starts"
        return Write(give_up(known.record, _given_up(trying, why, was_started=True)))
    is_written = slots.starts_other and slots.other_version == trying.version
    if trying.stage is Stage.UNWANTED:
        return Stay() if is_written else Write(structs.replace(known.record, trying=None))
    update = known.announced
    if update is None or update.sha256 != trying.sha256:
        if is_written and known.has_policy:
            # Paused: whoever paused it wants nobody to start it.
            return Write(_at_stage(Stage.UNWANTED, known, trying))
        return _take_up(known, slots)
    if is_written:
        return _start(known, trying)
    installation = slots.installation
    if installation is not None and installation.sha256 == trying.sha256:
        return _after_failure(known, slots, update, trying, installation)
    return _try(known, slots, update, trying.attempts)


def _start(known: Known, trying: Trying) -> Step:
    if trying.stage is Stage.INSTALLING:
        # From here on the version before coming back means that this one failed.
        return Write(_at_stage(Stage.INSTALLED, known, trying))
    is_free = known.use.is_at_rest and known.is_updating
    return Reboot() if is_free or is_quiet(known.use) else Wait(Why.IN_USE)


def _at_stage(stage: Stage, known: Known, trying: Trying) -> Record:
    there = structs.replace(trying, stage=stage, boot_id=known.boot_id)
    return structs.replace(known.record, trying=there)


def _after_failure(
    known: Known, slots: Slots, update: Update, trying: Trying, installation: Installation
) -> Step:
    failure = installation.failure or Failure.OTHER
    if failure is Failure.CLOCK:
        # No fault of the bundle's: it is tried again until the clock is right.
        return _try(known, slots, update, trying.attempts - 1)
    if failure in FINAL or trying.attempts >= ATTEMPTS_MAX:
        why = f"{failure.value}: {installation.detail}"[:WHY_CHARS_MAX]
        return Write(give_up(known.record, _given_up(trying, why)))
    if failure is Failure.CHANGED and trying.fetched_anew < trying.attempts:
        again = structs.replace(trying, fetched_anew=trying.attempts)
        return FetchAnew(structs.replace(known.record, trying=again), trying.sha256)
    return _try(known, slots, update, trying.attempts, trying.fetched_anew)


def _take_up(known: Known, slots: Slots) -> Step:
    update = known.announced
    if update is None:
        return Wait(Why.NOTHING_ANNOUNCED)
    if update.version == known.running:
        return Wait(Why.UP_TO_DATE)
    if known.record.has_given_up(update.sha256) is not None:
        return Wait(Why.GIVEN_UP)
    return _try(known, slots, update, 0)


def _try(known: Known, slots: Slots, update: Update, attempts: int, fetched_anew: int = 0) -> Step:
    if update.compatible != slots.compatible:
        return Wait(Why.NOT_FOR_US)
    if not (update.allow_downgrade or is_newer(update.version, known.running)):
        return Wait(Why.OLDER)
    if not known.bundle.is_whole:
        return _fetch(known, update)
    if known.free_bytes < update.size + ROOM_FOR_THE_JOURNAL:
        return Wait(Why.NO_ROOM)
    if known.now_s < known.install_at:
        return Wait(Why.LATER)
    if not is_quiet(known.use):
        return Wait(Why.IN_USE)
    if attempts >= ATTEMPTS_MAX:
        # Cut off so often: perhaps it is what cuts it off.
        trying = Trying(version=update.version, sha256=update.sha256)
        why = "it was cut off three times"
        return Write(give_up(known.record, _given_up(trying, why)))
    trying = Trying(
        version=update.version,
        sha256=update.sha256,
        boot_id=known.boot_id,
        attempts=attempts + 1,
        fetched_anew=fetched_anew,
    )
    confirmed = _with(known.record.confirmed, known.running)
    return Install(update, structs.replace(known.record, trying=trying, confirmed=confirmed))


def _fetch(known: Known, update: Update) -> Step:
    if known.is_fetching:
        return Wait(Why.FETCHING)
    missing = update.size - min(known.bundle.bytes_there, update.size)
    # `railtix-slots` installs from a copy of its own.
    if known.free_bytes < missing + update.size + ROOM_FOR_THE_JOURNAL:
        return Wait(Why.NO_ROOM)
    return Wait(Why.LATER) if known.now_s < known.fetch_at else Fetch(update)


def _confirmed(known: Known) -> Record:
    record, newest = known.record, Progress(version=known.running, state=UpdateState.CONFIRMED)
    trying = None if _is_on_trial(record, known.running) else record.trying
    confirmed = _with(record.confirmed, known.running)
    return structs.replace(record, trying=trying, newest=newest, confirmed=confirmed)


def _with(confirmed: tuple[str, ...], version: str) -> tuple[str, ...]:
    return (*(each for each in confirmed if each != version), version)[-CONFIRMED_MAX:]


def _given_up(trying: Trying, why: str, *, was_started: bool = False) -> GivenUp:
    return GivenUp(version=trying.version, sha256=trying.sha256, why=why, was_started=was_started)
