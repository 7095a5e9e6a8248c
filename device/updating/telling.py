"""How far an update is, for the heartbeat and for a person at the appliance."""

from device.updating.deciding import SENTENCES, Fetch, FetchAnew, Install, Step, Wait, Why
from device.updating.facts import Known
from protocol.updates import Progress, Update, UpdateState, is_newer


def progress_of(known: Known, step: Step) -> Progress | None:
    """What the heartbeat says of the newest update that was taken up."""
    trying, slots, update = known.record.trying, known.slots, known.announced
    if slots is None:
        return known.record.newest
    if slots.installation is not None and slots.is_installing:
        installation = slots.installation
        return Progress(
            version=installation.version,
            state=UpdateState.INSTALLING,
            percent=max(0, min(100, installation.percent)),
        )
    is_on_trial = trying is not None and trying.version == known.running
    if is_on_trial or step == Wait(Why.TRYING):
        return Progress(version=known.running, state=UpdateState.TRYING)
    if update is None or not _is_to_come(known.running, update):
        # Nor is what is older refused: a newer one was paused, and this one stays what it was.
        return known.record.newest
    given_up = known.record.has_given_up(update.sha256)
    if given_up is not None:
        state = UpdateState.ROLLED_BACK if given_up.was_started else UpdateState.REFUSED
        return Progress(version=given_up.version, state=state, why=given_up.why)
    return _under_way(known, step, update)


def _is_to_come(running: str, update: Update) -> bool:
    """By the versions alone, whatever the next step is: it may be another one's turn first."""
    if update.version == running:
        return False
    return update.allow_downgrade or is_newer(update.version, running)


def _under_way(known: Known, step: Step, update: Update) -> Progress:
    why = SENTENCES[step.why] if isinstance(step, Wait) else ""
    if step == Wait(Why.NOT_FOR_US):
        return Progress(version=update.version, state=UpdateState.REFUSED, why=why)
    if isinstance(step, Install):
        return Progress(version=update.version, state=UpdateState.INSTALLING)
    if known.bundle.is_whole and not isinstance(step, FetchAnew):
        return Progress(version=update.version, state=UpdateState.FETCHED, percent=100, why=why)
    percent = min(100, known.bundle.bytes_there * 100 // update.size)
    said = "" if isinstance(step, Fetch) or known.is_fetching else why
    return Progress(version=update.version, state=UpdateState.FETCHING, percent=percent, why=said)


def sentence_of(step: Step) -> str:
    """What happens next, for a person."""
    match step:
        case Wait(why=why):
            return SENTENCES[why]
        case Fetch() | FetchAnew():
            return SENTENCES[Why.FETCHING]
        case Install():
            return SENTENCES[Why.INSTALLING]
        case _:
            return "it is at work"
