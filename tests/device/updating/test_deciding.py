from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from device.updating.deciding import (
    ATTEMPTS_MAX,
    ROOM_FOR_THE_JOURNAL,
    Fetch,
    FetchAnew,
    Install,
    MarkGood,
    Reboot,
    Stay,
    Wait,
    Why,
    Write,
    decide,
    is_believed,
    try_again,
)
from device.updating.facts import (
    GIVEN_UP_MAX,
    LOST,
    Bundle,
    GivenUp,
    Known,
    Record,
    Stage,
    Trying,
    Use,
)
from device.updating.slots import Failure, Installation, Slots
from device.updating.telling import progress_of, sentence_of
from protocol.updates import Progress, Update, UpdateState

OLD = "0.1.0+202611200000"
NEW = "0.2.0+202611230300"
NEWER = "0.3.0+202611240300"
SHA = "a" * 64
GIB = 1024**3
QUIET = Use(is_at_rest=True, is_signed_in=False, untouched_s=60.0)
IDLE = Use(is_at_rest=True, is_signed_in=True, untouched_s=900.0)
BUSY = Use(is_at_rest=False, is_signed_in=True, untouched_s=9000.0)
SLOTS = Slots(compatible="railtix-pos-debian", booted="A", primary="A")
UPDATE = Update(
    version=NEW,
    sha256=SHA,
    size=300_000_000,
    compatible="railtix-pos-debian",
    channel="stable",
    rollout_percent=100,
)
WHOLE = Bundle(UPDATE.size, is_whole=True)
TRYING = Trying(version=NEW, sha256=SHA, boot_id="boot-1")
INSTALLED = structs.replace(TRYING, stage=Stage.INSTALLED)


def known(**changes: Any) -> Known:
    """An appliance that runs well, has an update announced and nothing of it so far."""
    base = Known(
        running=OLD,
        boot_id="boot-1",
        slots=SLOTS,
        announced=UPDATE,
        use=QUIET,
        is_marked=True,
        free_bytes=4 * GIB,
        now_s=1000.0,
    )
    return replace(base, **changes)


def slots(**changes: Any) -> Slots:
    return structs.replace(SLOTS, **changes)


def failed(failure: Failure | None, sha256: str = SHA) -> Slots:
    return slots(
        installation=Installation(
            version=NEW, sha256=sha256, is_over=True, failure=failure, detail="said so"
        )
    )


def test_where_there_are_no_slots_nothing_is_ever_done() -> None:
    assert decide(known(slots=None)) == Wait(Why.NO_SLOTS)
    assert decide(known(slots=slots(booted=""))) == Wait(Why.NO_SLOTS)


def test_an_image_that_tries_nothing_is_marked_good_as_soon_as_the_firmware_runs() -> None:
    """A bar without network must not flip back to the version before."""
    assert decide(known(is_marked=False, announced=None, use=BUSY)) == MarkGood()


def test_what_runs_without_having_been_confirmed_is_on_trial_whatever_else_is_tried() -> None:
    """Written and never started; then another one came, and was refused."""
    unproved = known(running=NEW, record=Record(confirmed=(OLD,)), is_marked=False, announced=None)
    for trying in (None, structs.replace(TRYING, version=NEWER, sha256="b" * 64)):
        trial = replace(unproved, record=Record(confirmed=(OLD,), trying=trying))
        assert decide(trial) == Wait(Why.TRYING)
        step = decide(replace(trial, is_proved=True))
        assert isinstance(step, Write)
        assert (step.record.confirmed, step.record.trying) == ((OLD, NEW), trying)
        assert decide(replace(trial, record=step.record)) == MarkGood()
    assert decide(replace(unproved, record=LOST)) == Wait(Why.TRYING)
    assert decide(replace(unproved, record=Record(confirmed=(NEW,)))) == MarkGood()


def test_what_is_on_trial_is_believed_by_nobody() -> None:
    assert not is_believed(Record(trying=INSTALLED, confirmed=(NEW,)), NEW)
    assert is_believed(Record(trying=INSTALLED), OLD)


def test_the_first_update_says_what_ran_before_it() -> None:
    step = decide(known(bundle=WHOLE))
    assert isinstance(step, Install)
    assert step.record.confirmed == (OLD,)


def test_the_version_before_is_believed_too_should_the_other_slot_break_one_day() -> None:
    both = Record(confirmed=(OLD, NEW))
    assert decide(known(record=both, is_marked=False, announced=None)) == MarkGood()
    third = decide(known(running=NEWER, record=both, is_marked=False, is_proved=True))
    assert isinstance(third, Write)
    assert third.record.confirmed == (NEW, NEWER)


def test_a_new_version_is_marked_good_only_once_it_has_proved_itself() -> None:
    trial = known(running=NEW, record=Record(trying=INSTALLED), is_marked=False, boot_id="boot-2")
    assert decide(trial) == Wait(Why.TRYING)
    step = decide(replace(trial, is_proved=True))
    assert isinstance(step, Write)
    assert step.record.trying is None
    assert step.record.newest == Progress(version=NEW, state=UpdateState.CONFIRMED)
    # On the disk first: cut off here, the next start marks it good without a network.
    assert decide(replace(trial, record=step.record)) == MarkGood()


def test_while_a_version_is_tried_no_other_one_takes_the_place_of_what_it_falls_back_to() -> None:
    trial = known(
        running=NEW,
        record=Record(trying=INSTALLED),
        announced=structs.replace(UPDATE, version=NEWER, sha256="b" * 64),
    )
    assert decide(trial) == Wait(Why.TRYING)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"announced": None}, Why.NOTHING_ANNOUNCED),
        ({"running": NEW}, Why.UP_TO_DATE),
        ({"announced": structs.replace(UPDATE, compatible="railtix-pos-rpios")}, Why.NOT_FOR_US),
        ({"running": NEWER}, Why.OLDER),
        ({"is_fetching": True}, Why.FETCHING),
        ({"fetch_at": 1001.0}, Why.LATER),
        ({"free_bytes": 2 * UPDATE.size + ROOM_FOR_THE_JOURNAL - 1}, Why.NO_ROOM),
        ({"bundle": WHOLE, "free_bytes": UPDATE.size + ROOM_FOR_THE_JOURNAL - 1}, Why.NO_ROOM),
        ({"bundle": WHOLE, "install_at": 1001.0}, Why.LATER),
        ({"bundle": WHOLE, "use": BUSY}, Why.IN_USE),
        ({"bundle": WHOLE, "use": replace(QUIET, untouched_s=59.0)}, Why.IN_USE),
        ({"bundle": WHOLE, "use": replace(IDLE, untouched_s=899.0)}, Why.IN_USE),
        (
            {"slots": slots(installation=Installation(version=NEW, sha256=SHA))},
            Why.INSTALLING,
        ),
    ],
)
def test_what_the_next_step_waits_for(changes: dict[str, Any], why: Why) -> None:
    assert decide(known(**changes)) == Wait(why)


def test_what_is_announced_is_fetched_while_people_sell() -> None:
    assert decide(known(use=BUSY)) == Fetch(UPDATE)
    half = Bundle(UPDATE.size // 2)
    room = UPDATE.size // 2 + UPDATE.size + ROOM_FOR_THE_JOURNAL
    assert decide(known(bundle=half, free_bytes=room)) == Fetch(UPDATE)
    assert decide(known(bundle=half, free_bytes=room - 1)) == Wait(Why.NO_ROOM)


@pytest.mark.parametrize("use", [QUIET, IDLE])
def test_it_is_installed_when_nobody_needs_the_till(use: Use) -> None:
    step = decide(known(bundle=WHOLE, use=use))
    assert step == Install(UPDATE, Record(trying=TRYING, confirmed=(OLD,)))


def test_an_older_version_is_installed_only_where_ops_said_so() -> None:
    back = structs.replace(UPDATE, allow_downgrade=True)
    assert decide(known(running=NEWER, announced=back)) == Fetch(back)


def test_what_was_written_is_started_and_the_disk_knows_it_first() -> None:
    other = slots(primary="B", other_version=NEW)
    step = decide(known(slots=other, record=Record(trying=TRYING)))
    assert step == Write(Record(trying=INSTALLED))
    written = known(slots=other, record=Record(trying=INSTALLED))
    assert decide(written) == Reboot()
    assert decide(replace(written, use=BUSY)) == Wait(Why.IN_USE)
    recent = replace(QUIET, untouched_s=1.0)
    assert decide(replace(written, use=recent)) == Wait(Why.IN_USE)
    assert decide(replace(written, use=recent, is_updating=True)) == Reboot()


@pytest.mark.parametrize("trying", [TRYING, INSTALLED])
@pytest.mark.parametrize(
    "announced", [None, structs.replace(UPDATE, version=NEWER, sha256="b" * 64)]
)
def test_what_was_paused_after_it_was_written_is_not_started(
    trying: Trying, announced: Update | None
) -> None:
    other = slots(primary="B", other_version=NEW)
    paused = known(slots=other, record=Record(trying=trying), announced=announced, use=BUSY)
    step = decide(paused)
    unwanted = structs.replace(trying, stage=Stage.UNWANTED)
    assert step == Write(Record(trying=unwanted))
    withdrawn = replace(paused, record=Record(trying=unwanted))
    assert decide(withdrawn) == Stay()
    stays = replace(withdrawn, slots=slots(other_version=NEW))
    assert decide(stays) == Write(Record())


def test_without_a_policy_nobody_has_paused_anything() -> None:
    other = slots(primary="B", other_version=NEW)
    unknown = known(slots=other, record=Record(trying=INSTALLED), announced=None, has_policy=False)
    assert decide(unknown) == Wait(Why.NOTHING_ANNOUNCED)


def test_what_was_paused_and_started_all_the_same_is_on_trial_or_was() -> None:
    unwanted = Record(trying=structs.replace(INSTALLED, stage=Stage.UNWANTED))
    trial = known(running=NEW, record=unwanted, boot_id="boot-2", is_marked=False)
    assert decide(trial) == Wait(Why.TRYING)
    back = decide(known(record=unwanted, boot_id="boot-5", announced=None))
    assert isinstance(back, Write)
    assert back.record.has_given_up(SHA) is not None


def test_a_version_that_came_back_is_given_up_and_never_tried_again_by_itself() -> None:
    back = known(record=Record(trying=INSTALLED), boot_id="boot-5", bundle=WHOLE)
    step = decide(back)
    assert isinstance(step, Write)
    assert step.record.trying is None
    assert step.record.newest is not None
    assert step.record.newest.state is UpdateState.ROLLED_BACK
    again = replace(back, record=step.record)
    assert decide(again) == Wait(Why.GIVEN_UP)
    assert decide(replace(again, use=IDLE, now_s=1e9)) == Wait(Why.GIVEN_UP)
    other = structs.replace(UPDATE, sha256="b" * 64)
    released_anew = replace(again, announced=other, bundle=Bundle())
    assert decide(released_anew) == Fetch(other)
    forced = replace(again, record=try_again(step.record))
    assert isinstance(decide(forced), Install)


def test_a_boot_environment_that_lies_leads_to_no_endless_restarts() -> None:
    """RAUC says the other slot is next, and U-Boot starts this one all the same."""
    other = slots(primary="B", other_version=NEW)
    step = decide(known(slots=other, record=Record(trying=INSTALLED), boot_id="boot-2"))
    assert isinstance(step, Write)
    assert step.record.trying is None


def test_the_version_that_came_back_is_marked_good_before_anything_else() -> None:
    back = known(record=Record(trying=INSTALLED), boot_id="boot-5", is_marked=False)
    assert decide(back) == MarkGood()


def test_an_installation_that_was_cut_off_is_begun_anew_three_times_at_most() -> None:
    here = known(record=Record(trying=TRYING), bundle=WHOLE, boot_id="boot-2")
    for attempt in range(2, ATTEMPTS_MAX + 1):
        step = decide(here)
        assert isinstance(step, Install)
        assert step.record.trying is not None
        assert step.record.trying.attempts == attempt
        here = replace(here, record=step.record)
    step = decide(here)
    assert isinstance(step, Write)
    assert step.record.has_given_up(SHA) is not None
    assert decide(replace(here, record=step.record)) == Wait(Why.GIVEN_UP)


def test_another_bundle_takes_the_place_of_one_that_was_never_started() -> None:
    newer = structs.replace(UPDATE, version=NEWER, sha256="b" * 64)
    here = known(record=Record(trying=TRYING), announced=newer, bundle=WHOLE)
    step = decide(here)
    assert isinstance(step, Install)
    assert step.record.trying == Trying(version=NEWER, sha256="b" * 64, boot_id="boot-1")


@pytest.mark.parametrize("failure", [Failure.SIGNATURE, Failure.COMPATIBLE, Failure.OTHER_VERSION])
def test_what_cannot_become_better_is_given_up_at_once(failure: Failure) -> None:
    step = decide(known(slots=failed(failure), record=Record(trying=TRYING), bundle=WHOLE))
    assert isinstance(step, Write)
    assert step.record.newest == Progress(
        version=NEW, state=UpdateState.REFUSED, why=f"{failure.value}: said so"
    )


@pytest.mark.parametrize("failure", [Failure.SPACE, Failure.OTHER, Failure.TIMED_OUT, None])
def test_what_may_become_better_is_tried_again(failure: Failure | None) -> None:
    here = known(slots=failed(failure), record=Record(trying=TRYING), bundle=WHOLE)
    step = decide(here)
    assert isinstance(step, Install)
    last = structs.replace(TRYING, attempts=ATTEMPTS_MAX)
    step = decide(replace(here, record=Record(trying=last)))
    assert isinstance(step, Write)
    assert step.record.has_given_up(SHA) is not None


def test_a_clock_that_is_wrong_costs_a_bundle_none_of_its_attempts() -> None:
    last = structs.replace(TRYING, attempts=ATTEMPTS_MAX)
    here = known(slots=failed(Failure.CLOCK), record=Record(trying=last), bundle=WHOLE)
    step = decide(here)
    assert isinstance(step, Install)
    assert step.record.trying == last


def test_a_bundle_that_changed_on_the_disk_is_fetched_anew_once_an_attempt() -> None:
    here = known(slots=failed(Failure.CHANGED), record=Record(trying=TRYING), bundle=WHOLE)
    step = decide(here)
    assert isinstance(step, FetchAnew)
    here = replace(here, record=step.record, bundle=Bundle())
    assert decide(here) == Fetch(UPDATE)
    step = decide(replace(here, bundle=WHOLE))
    assert isinstance(step, Install)
    assert step.record.trying is not None
    assert (step.record.trying.attempts, step.record.trying.fetched_anew) == (2, 1)


def test_what_became_of_another_bundle_is_nothing_to_this_one() -> None:
    here = known(slots=failed(Failure.SIGNATURE, "b" * 64), record=Record(trying=TRYING))
    assert decide(here) == Fetch(UPDATE)


def test_only_so_many_are_remembered_as_given_up() -> None:
    given_up = tuple(GivenUp(version=NEW, sha256=f"{n:064x}") for n in range(GIVEN_UP_MAX))
    here = known(record=Record(trying=INSTALLED, given_up=given_up), boot_id="boot-2")
    step = decide(here)
    assert isinstance(step, Write)
    assert len(step.record.given_up) == GIVEN_UP_MAX
    assert step.record.given_up[-1].sha256 == SHA


@settings(deadline=None)
@given(
    running=st.sampled_from([OLD, NEW, NEWER]),
    trying=st.none()
    | st.builds(
        Trying,
        version=st.sampled_from([NEW, NEWER]),
        sha256=st.sampled_from([SHA, "b" * 64]),
        stage=st.sampled_from(Stage),
        boot_id=st.sampled_from(["boot-1", "boot-2"]),
        attempts=st.integers(1, 4),
        fetched_anew=st.integers(0, 4),
    ),
    primary=st.sampled_from(["", "A", "B"]),
    other=st.sampled_from(["", NEW, NEWER]),
    installation=st.none()
    | st.builds(
        Installation,
        version=st.sampled_from([NEW, NEWER]),
        sha256=st.sampled_from([SHA, "b" * 64]),
        is_over=st.booleans(),
        failure=st.none() | st.sampled_from(Failure),
    ),
    announced=st.none()
    | st.sampled_from([UPDATE, structs.replace(UPDATE, version=NEWER, sha256="b" * 64)]),
    bundle=st.sampled_from([Bundle(), Bundle(5), WHOLE]),
    use=st.sampled_from([QUIET, IDLE, BUSY, replace(QUIET, untouched_s=1.0)]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    free=st.sampled_from([0, 4 * GIB]),
)
def test_whatever_is_known_no_sale_is_broken_into_and_no_trial_is_skipped(
    *,
    running: str,
    trying: Trying | None,
    primary: str,
    other: str,
    installation: Installation | None,
    announced: Update | None,
    bundle: Bundle,
    use: Use,
    flags: tuple[bool, bool, bool, bool],
    free: int,
) -> None:
    is_fetching, is_updating, is_proved, is_marked = flags
    here = known(
        running=running,
        record=Record(trying=trying),
        slots=slots(primary=primary, other_version=other, installation=installation),
        announced=announced,
        bundle=bundle,
        use=use,
        is_fetching=is_fetching,
        is_updating=is_updating,
        is_proved=is_proved,
        is_marked=is_marked,
        free_bytes=free,
    )
    step = decide(here)
    if isinstance(step, Install | Reboot):
        assert use.is_at_rest
        assert is_marked, "what to come back to was called good first"
    if isinstance(step, Install):
        assert bundle.is_whole
        assert step.record.trying is not None, "on the disk before it is asked for"
        assert step.record.trying.version != running
        assert free >= ROOM_FOR_THE_JOURNAL
    if isinstance(step, Reboot):
        assert trying is not None
        assert (trying.stage, trying.boot_id) == (Stage.INSTALLED, here.boot_id)
    if isinstance(step, MarkGood):
        assert trying is None or trying.version != running
    if isinstance(step, Write):
        assert step.record != here.record, "it would be asked again for ever"
    progress = progress_of(here, step)
    assert progress is None or 0 <= progress.percent <= 100
    assert sentence_of(step)


def test_what_the_heartbeat_says_of_it() -> None:
    def told(here: Known) -> Progress | None:
        return progress_of(here, decide(here))

    def says(here: Known, state: UpdateState, percent: int = 0) -> None:
        progress = told(here)
        assert progress is not None
        assert (progress.version, progress.state, progress.percent) == (NEW, state, percent)

    confirmed = Progress(version=OLD, state=UpdateState.CONFIRMED)
    assert told(known(announced=None)) is None
    assert told(known(slots=None, record=Record(newest=confirmed))) == confirmed
    assert told(known(announced=None, record=Record(newest=confirmed))) == confirmed
    assert told(known(running=NEW, record=Record(newest=confirmed))) == confirmed
    says(known(), UpdateState.FETCHING)
    says(known(is_fetching=True, bundle=Bundle(150_000_000)), UpdateState.FETCHING, 50)
    no_room = told(known(free_bytes=0))
    assert no_room is not None
    assert no_room.why == "there is not enough room on the disk"
    says(known(bundle=WHOLE, use=BUSY), UpdateState.FETCHED, 100)
    says(known(bundle=WHOLE), UpdateState.INSTALLING)
    under_way = Installation(version=NEW, sha256=SHA, percent=140)
    says(known(slots=slots(installation=under_way)), UpdateState.INSTALLING, 100)
    says(known(running=NEW, record=Record(trying=INSTALLED)), UpdateState.TRYING)
    changed = known(slots=failed(Failure.CHANGED), record=Record(trying=TRYING), bundle=WHOLE)
    says(changed, UpdateState.FETCHING, 100)
    for was_started, state in ((True, UpdateState.ROLLED_BACK), (False, UpdateState.REFUSED)):
        given_up = GivenUp(version=NEW, sha256=SHA, why="it did not", was_started=was_started)
        says(known(record=Record(given_up=(given_up,))), state)


def test_what_is_said_to_a_person() -> None:
    assert sentence_of(decide(known())) == "it is being fetched"
    assert sentence_of(decide(known(bundle=WHOLE))) == "it is being installed"
    assert sentence_of(MarkGood()) == "it is at work"
