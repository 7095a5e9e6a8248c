"""The certificate changes while something waits: it goes out again, under the new one."""

from device.till.contents import AskToCancel
from device.till.outbox import sign_anew
from protocol.messages import Cancelled
from tests.device.stage import cancelling


def test_a_cancel_that_waits_is_signed_again_and_the_answer_to_that_closes_it() -> None:
    stage = cancelling()
    before = stage.last(AskToCancel)
    stage.till = sign_anew(stage.till)
    stage.answer(Cancelled(None), before)
    (message,) = stage.till.outbox
    assert (message.content, message.request_hash) == (before.content, None)
    stage.wait(61)
    again = stage.last(AskToCancel)
    assert again.content == before.content
    assert again.request_hash != before.request_hash
    stage.answer(Cancelled(None), again)
    assert stage.till.outbox == ()
