"""What is known of an appliance's updates, for a person at it or a script: reads only."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic  # noqa: TID251 -- whether the program that said it runs still

import msgspec

from device.bundles.folder import BundleFolder
from device.bundles.record import KeptRecord
from device.condition.health import is_alive, read_health
from device.credentials import CredentialsError, load_identity
from device.journal.journal import JournalFault, look_at
from device.settings import Settings
from device.slots.client import SlotsClient
from device.slots.wire import AskStatus, Told
from device.updates import image_version
from device.updating.facts import Record
from device.updating.slots import Slots
from protocol.policy import Policy, find, open_policy
from protocol.updates import Update

MIB = 1024 * 1024


class Updates(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as `--json` prints it."""

    running: str
    slots: Slots | None
    """None: nobody answers."""
    slots_trouble: str
    announced: Update | None
    bytes_fetched: int
    is_whole: bool
    doing: str
    """In the running program's own words; empty where none runs."""
    record: Record

    @property
    def is_newest(self) -> bool:
        is_announced = self.announced is None or self.announced.version == self.running
        return is_announced and self.record.trying is None


def updates_of(settings: Settings) -> Updates:
    state = settings.state.path
    health = read_health(state)
    runs = health is not None and is_alive(health, monotonic())
    announced = _announced(settings)
    bundle = BundleFolder(state).look(announced)
    answer = SlotsClient(Path(settings.updates.slots), answer_s=60.0).ask(AskStatus())
    trouble = answer if isinstance(answer, str) else ""
    return Updates(
        running=image_version(),
        slots=answer.slots if isinstance(answer, Told) else None,
        slots_trouble=trouble,
        announced=announced,
        bytes_fetched=bundle.bytes_there,
        is_whole=bundle.is_whole,
        doing=health.update if health is not None and runs else "",
        record=KeptRecord(state).read(),
    )


def ask_again(settings: Settings) -> None:
    """Raises OSError."""
    KeptRecord(settings.state.path).ask_again()


def lines_of(said: Updates) -> Iterator[tuple[str, str]]:
    yield "running", said.running or "no image of ours: updates come by hand"
    if said.slots is None:
        yield "slots", f"nobody answers: {said.slots_trouble}"
    else:
        slots = said.slots
        good = "good" if slots.is_good else "not called good so far"
        yield "slot", f"{slots.booted or 'neither'}, {good}; {slots.compatible}"
        yield "other slot", slots.other_version or "nothing that is whole"
        yield "next start", f"slot {slots.primary}" if slots.primary else "unknown"
    update = said.announced
    if update is None:
        yield "announced", "nothing"
    else:
        there = "all of it" if said.is_whole else f"{said.bytes_fetched // MIB} MiB"
        yield "announced", f"{update.version}, {update.size // MIB} MiB, channel {update.channel}"
        yield "fetched", there
    if said.record.trying is not None:
        trying = said.record.trying
        yield "trying", f"{trying.version}: {trying.stage.value}, attempt {trying.attempts}"
    for each in said.record.given_up:
        yield "given up", f"{each.version}: {each.why}"
    yield "doing", said.doing or "the program is not running"


def _announced(settings: Settings) -> Update | None:
    """By the journaled policy."""
    try:
        identity = load_identity(settings.state.path)
        chain = look_at(settings.state.path)
    except (CredentialsError, JournalFault):
        return None
    taken = None if chain is None else chain.standing.policy
    if taken is None:
        return None
    policy = open_policy(taken.token.encode(), find(identity.policy_keys), identity.device_id, 0)
    if not isinstance(policy, Policy) or not isinstance(policy.update, Update):
        return None
    return policy.update
