"""What was signed is believed whole; nothing else is."""

from datetime import UTC, datetime

import pytest

from cloud.ledger.facts import KeyState
from cloud.ledger.posting_again import post_again, read_proof
from protocol.ids import StaffId, UserId
from protocol.messages import (
    Approved,
    Declined,
    JournalPosition,
    Outcome,
    PostedOffline,
    Reason,
    Reply,
    Resubmission,
    SaleContent,
    SaleLine,
)
from protocol.money import Money

USER = UserId("01980000-0000-7000-8000-000000000001")
TRANSACTION = "01980000-0000-7000-8000-0000000000aa"
AT_MS = 1_780_000_000_000
AMOUNT = Money(350, "EUR")
LINES = (SaleLine(1, 1, 350),)
APPROVED = Approved(TRANSACTION, AMOUNT, Money(1650, "EUR"), "7K2M-9QXD", AT_MS, "p" * 12, "j" * 12)
OFFLINE = PostedOffline(TRANSACTION, AMOUNT, 0, False, AT_MS, "p" * 12, "j" * 12)


def request() -> Resubmission:
    return Resubmission(
        device_id="till-1",
        key="k" * 22,
        journal=JournalPosition("e" * 22, 9, 9, "A" * 43),
        sent_at_ms=AT_MS + 1,
        session_id="s" * 22,
        event_id="fair",
        stall_id="bar",
        policy_version=3,
        entry=4,
        correlation_id="c" * 22,
        lines=LINES,
        reply="h.p.s",
    )


def reply(outcome: Outcome, device_id: str = "till-1", key: str = "k" * 22) -> Reply:
    return Reply(
        device_id=device_id,
        key=key,
        answers="deduct",
        request_hash="A" * 43,
        answered_at_ms=AT_MS,
        outcome=outcome,
    )


@pytest.mark.parametrize("outcome", [APPROVED, OFFLINE])
def test_a_reply_about_this_very_sale_proves_it(outcome: Outcome) -> None:
    assert read_proof(request(), reply(outcome)) == outcome


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (reply(APPROVED, device_id="till-2"), Reason.PROOF_IS_OF_ANOTHER),
        (reply(APPROVED, key="x" * 22), Reason.PROOF_IS_OF_ANOTHER),
        (reply(Declined(Reason.INSUFFICIENT_FUNDS)), Reason.PROOF_IS_OF_ANOTHER),
        (
            reply(Approved(TRANSACTION, AMOUNT, AMOUNT, "7K2M-9QXD", AT_MS)),
            Reason.UNKNOWN_PAYER,
        ),
    ],
)
def test_a_reply_about_anything_else_proves_nothing(said: Reply, reason: Reason) -> None:
    assert read_proof(request(), said) == reason


def test_the_sale_stands_again_under_its_id_and_at_its_time() -> None:
    again = post_again(request(), APPROVED, USER, StaffId("mia"))
    posting = again.posting
    assert (posting.id, posting.amount) == (TRANSACTION, AMOUNT)
    assert posting.created_at == datetime.fromtimestamp(AT_MS / 1000, UTC)
    assert posting.created_by == "staff:mia"
    assert posting.accepted_offline_at is None
    assert again.key.state is KeyState.APPROVED
    assert again.key.answer == APPROVED
    assert again.key.digest == SaleContent("fair", "bar", AMOUNT, LINES, "j" * 12).digest()
    assert again.spent.token_id == "j" * 12


def test_without_its_session_it_is_the_appliances_own_deed() -> None:
    again = post_again(request(), OFFLINE, USER, None)
    assert again.posting.created_by == "device:till-1"
    assert again.posting.accepted_offline_at == again.posting.created_at
    assert again.key.state is KeyState.POSTED_OFFLINE
