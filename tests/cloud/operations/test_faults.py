"""What is not known to be committed is not said; what was, is said again."""

import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from cloud.operations.till import pos
from cloud.operations.till.opening import Arrived
from cloud.operations.till.pos import SignedReply, Unanswered
from cloud.store.database import CommitUnknownError, Database
from cloud.store.locks import lock_devices
from protocol.messages import Approved, Declined, Reason
from protocol.wallet_qr import WalletToken, issue
from tests.cloud.floor import Floor, Till


def arrived(floor: Floor, till: Till, *requests: Any) -> list[Arrived]:
    return [Arrived(till.sign(each), till.device_id, floor.now()) for each in requests]


class Unsteady:
    """A database whose next COMMITs go wrong, in one of the two ways a COMMIT can."""

    def __init__(self, database: Database, *, stands: bool, times: int) -> None:
        self._transaction = database.transaction
        self.stands, self.times = stands, times

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        if self.times == 0:
            with self._transaction() as connection:
                yield connection
            return
        self.times -= 1
        if self.stands:
            with self._transaction() as connection:
                yield connection
        else:
            with suppress(ConnectionError), self._transaction() as connection:
                yield connection
                raise ConnectionError
        raise CommitUnknownError("the COMMIT was not acknowledged")


@pytest.mark.parametrize("stands", [True, False])
def test_a_commit_of_unknown_result_is_looked_up_before_anything_is_said(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sales = [till.deduct(floor.qr(guest)), till.deduct(floor.qr(guest))]
    unsteady = Unsteady(floor.database, stands=stands, times=1)
    monkeypatch.setattr(floor.database, "transaction", unsteady.transaction)
    answers = floor.answer(arrived(floor, till, *sales))
    assert unsteady.times == 0
    for answer, posted in zip(answers, floor.deducts(guest), strict=True):
        assert isinstance(answer, SignedReply)
        assert isinstance(answer.reply.outcome, Approved)
        assert answer.reply.outcome.transaction_id == str(posted.id)
    assert floor.balance(guest) == 1300


def test_while_the_database_is_away_nothing_is_said(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    floor.ask(till, till.heartbeat())
    sale = till.deduct(floor.qr(guest))

    def away() -> Any:
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    with monkeypatch.context() as cut:
        cut.setattr(floor.database.engine, "connect", away)
        answers = floor.answer(arrived(floor, till, sale, sale))
        assert [type(each) for each in answers] == [Unanswered, Unanswered]
        [unverified] = floor.answer([Arrived(b"rubbish", till.device_id, floor.now())])
        assert isinstance(unverified, Unanswered)
        [sign_in] = floor.answer(arrived(floor, till, till.sign_in(floor)))
        assert isinstance(sign_in, Unanswered)
    assert isinstance(floor.ask_one(till, sale), Approved)


def test_a_key_file_that_cannot_be_used_stops_no_sale_that_needs_it_not(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    now_s = int(floor.now().timestamp())
    token = WalletToken(guest.payer_id, "j" * 12, "n" * 12, now_s, now_s + 90)
    strange = till.deduct(issue(token, ec.generate_private_key(ec.SECP256R1()), "zzz"))
    sale = till.deduct(floor.qr(guest))
    backup = floor.keys._folder / "wallet.backup.pem"
    backup.write_text("forgotten here")
    backup.chmod(0o644)
    refused, sold = floor.ask(till, strange, sale)
    assert refused == Declined(Reason.TOKEN_UNKNOWN_KEY)
    assert isinstance(sold, Approved)


def test_a_request_that_meets_a_bug_spoils_no_other(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    good, poisoned = till.deduct(floor.qr(guest)), till.deduct(floor.qr(guest))
    decide = pos.decide_batch

    def decide_with_a_bug(facts: Any, batch: Any) -> Any:
        assert all(each.request.key != poisoned.key for each in batch), "a bug"
        return decide(facts, batch)

    monkeypatch.setattr(pos, "decide_batch", decide_with_a_bug)
    one, other = floor.answer(arrived(floor, till, poisoned, good))
    assert isinstance(one, Unanswered)
    assert isinstance(other, SignedReply)
    assert isinstance(other.reply.outcome, Approved)
    assert len(floor.deducts(guest)) == 1


def test_a_revocation_waits_for_the_batch_before_it_and_stops_the_one_after(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    revoked = threading.Event()

    def revoke() -> None:
        floor.revoke(till)
        revoked.set()

    revoking = threading.Thread(target=revoke)
    with floor.database.transaction() as connection:
        lock_devices(connection, [till.device_id])
        revoking.start()
        assert not revoked.wait(0.3)
    assert revoked.wait(20)
    revoking.join()
    assert floor.ask_one(till, sale) == Declined(Reason.DEVICE_REVOKED)


def test_many_stalls_selling_to_the_same_guests_at_once_all_get_their_answer(floor: Floor) -> None:
    """Batches that overlap in every wallet, in every order, on several connections."""
    tills = [floor.add_till(f"till-{number}") for number in range(4)]
    guests = [floor.add_guest(10_000) for _ in range(3)]
    sold: list[object] = []

    def sell(till: Till, turn: int) -> None:
        for _ in range(5):
            order = guests[turn % 3 :] + guests[: turn % 3]
            if turn % 2:
                order = order[::-1]
            sales = [till.deduct(floor.qr(guest), 100) for guest in order]
            sold.extend(floor.ask(till, *sales))

    threads = [threading.Thread(target=sell, args=(till, turn)) for turn, till in enumerate(tills)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sold) == 60
    assert all(isinstance(each, Approved) for each in sold)
    assert [floor.balance(guest) for guest in guests] == [8000] * 3
