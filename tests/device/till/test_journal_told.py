"""What the cloud says it knows of the journal is said again: that tells an old copy from a late
heartbeat."""

from device.till.contents import AskForHeartbeat
from device.till.events import LinkDown, LinkUp
from protocol.messages import HeartbeatAnswered, JournalKnown
from tests.device.stage import Stage, ready

KNOWN = JournalKnown("e" * 22, 99, 0)


def told(stage: Stage) -> JournalKnown | None:
    content = stage.last(AskForHeartbeat).content
    assert isinstance(content, AskForHeartbeat)
    return content.journal_told


def beats(stage: Stage) -> int:
    return sum(isinstance(each.content, AskForHeartbeat) for each in stage.sent)


def beating() -> Stage:
    stage = ready()
    stage.is_answered = False
    stage.wait(16)
    return stage


def test_what_the_cloud_knows_is_said_again_at_once_and_from_then_on() -> None:
    stage = beating()
    before = beats(stage)
    stage.answer(HeartbeatAnswered(0, 1, journal_known=KNOWN), stage.last(AskForHeartbeat))
    stage.wait(0.1)
    assert beats(stage) == before + 1
    assert told(stage) == KNOWN
    stage.take(LinkDown())
    stage.take(LinkUp())
    assert told(stage) == KNOWN


def test_what_was_told_before_makes_no_hurry_and_the_newest_counts() -> None:
    stage = beating()
    stage.answer(HeartbeatAnswered(0, 1, journal_known=KNOWN), stage.last(AskForHeartbeat))
    stage.wait(0.1)
    before = beats(stage)
    stage.answer(HeartbeatAnswered(0, 1, journal_known=KNOWN), stage.last(AskForHeartbeat))
    stage.wait(5)
    assert beats(stage) == before
    stage.wait(11)
    newer = JournalKnown("e" * 22, 100, 0)
    stage.answer(HeartbeatAnswered(0, 1, journal_known=newer), stage.last(AskForHeartbeat))
    stage.wait(0.1)
    assert told(stage) == newer
