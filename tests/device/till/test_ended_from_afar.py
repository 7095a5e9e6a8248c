"""Somebody's session was ended at the desk: an idle till learns of it by its heartbeat."""

from collections.abc import Callable

import pytest

from device.till.contents import AskForHeartbeat, AskToSignIn
from device.till.entries import SessionEnded
from device.till.signals import Light
from device.till.states import LeaveAsked, NobodySignedIn, Ready, Scanning
from tests.device.stage import (
    PIN,
    Stage,
    a_badge,
    a_session,
    ready,
    scanning,
    with_policy,
)

SESSION = a_session().session_id


def leaving() -> Stage:
    stage = ready()
    # So that the heartbeat falls into the ten seconds in which `#` signs out.
    stage.wait(8)
    stage.hold("D")
    assert isinstance(stage.till.phase, LeaveAsked)
    return stage


def keyed(keys: str) -> Callable[[], Stage]:
    def stand() -> Stage:
        stage = ready()
        stage.press(keys)
        return stage

    return stand


def tell(stage: Stage, over: str | None) -> None:
    """By the next heartbeat's answer."""
    stage.session_over = over
    beats = sum(isinstance(each.content, AskForHeartbeat) for each in stage.sent)
    while sum(isinstance(each.content, AskForHeartbeat) for each in stage.sent) == beats:
        stage.wait(1)


def test_a_heartbeat_says_whose_session_the_till_believes_in() -> None:
    stage = with_policy()
    assert [
        each.content.session_id for each in stage.sent if isinstance(each.content, AskForHeartbeat)
    ][-1] is None
    stage = ready()
    tell(stage, None)
    sent = stage.last(AskForHeartbeat).content
    assert isinstance(sent, AskForHeartbeat)
    assert sent.session_id == SESSION
    assert stage.till.phase == Ready()


@pytest.mark.parametrize(
    "stand", [ready, keyed("12"), keyed("A1"), keyed("B"), keyed("C"), leaving]
)
def test_whoever_was_revoked_is_signed_out_where_nothing_is_under_way(
    stand: Callable[[], Stage],
) -> None:
    stage = stand()
    tell(stage, SESSION)
    assert stage.till.phase == NobodySignedIn()
    assert stage.light is Light.NOBODY_SIGNED_IN
    assert stage.till.session is None
    assert stage.journal[-1] == SessionEnded(SESSION, None)
    assert stage.notes[-1].what == "session_over"
    # Also after a power cut nobody is back.
    stage.cut_power()
    assert stage.till.phase == NobodySignedIn()


def test_a_sale_that_was_begun_is_not_torn_from_their_hands() -> None:
    stage = scanning()
    tell(stage, SESSION)
    assert isinstance(stage.till.phase, Scanning)
    assert stage.till.session is not None
    stage.press("*")
    tell(stage, SESSION)
    assert stage.till.phase == NobodySignedIn()


def test_the_end_of_a_session_before_ends_no_other() -> None:
    stage = ready()
    tell(stage, "session-of-yesterday")
    assert stage.till.phase == Ready()
    stage = with_policy()
    tell(stage, SESSION)
    assert stage.till.phase == NobodySignedIn()
    stage.show(a_badge())
    stage.press(f"{PIN}#")
    stage.answer(a_session(), stage.last(AskToSignIn))
    assert stage.till.phase == Ready()
