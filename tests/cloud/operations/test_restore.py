"""A database brought back from a backup: what was sold since is posted again, exactly once."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import update
from sqlalchemy.engine import make_url

from cloud.keys import KeyRing
from cloud.operations.desk.end_review import Ending
from cloud.operations.proof.restore import VERSIONS_SKIPPED, Restored, note_restore
from cloud.operations.refusals import Refusal
from cloud.operations.till.opening import Arrived
from cloud.operations.till.pos import SignedReply
from cloud.store.tables import devices
from protocol.messages import (
    Approved,
    Cancelled,
    Declined,
    Deduct,
    HeartbeatAnswered,
    JournalPosition,
    Outcome,
    PostedOffline,
    Reason,
    Request,
    Resend,
    Resubmission,
    UnderReview,
)
from tests.cloud.floor import Floor, Till
from tests.cloud.operations.console import end


@dataclass
class Backup:
    """The database as it was when this was made; `restore` puts it back under the server."""

    floor: Floor
    folder: Path

    def __post_init__(self) -> None:
        self.floor.database.close()
        if self.floor.database.dialect == "sqlite":
            with (
                closing(sqlite3.connect(self._path)) as source,
                closing(sqlite3.connect(self._kept)) as kept,
            ):
                source.backup(kept)
        else:
            self._copy(self._name, f"{self._name}_backup")

    def restore(self) -> Restored:
        self.floor.database.close()
        if self.floor.database.dialect == "sqlite":
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            shutil.copy(self._kept, self._path)
        else:
            self._copy(f"{self._name}_backup", self._name)
        self.floor.desk.remembered.payers.clear()
        with self.floor.database.transaction() as connection:
            return note_restore(
                connection,
                self.floor.keys,
                backup_at=self.floor.now(),
                reason="the disk died",
                actor="system:test",
                now=self.floor.now(),
            )

    def drop(self) -> None:
        if self.floor.database.dialect == "postgresql":
            self._ask(f'DROP DATABASE IF EXISTS "{self._name}_backup"')

    @property
    def _path(self) -> str:
        return str(self.floor.database.url.database)

    @property
    def _kept(self) -> str:
        return str(self.folder / "backup.sqlite")

    @property
    def _name(self) -> str:
        return str(self.floor.database.url.database)

    def _copy(self, source: str, target: str) -> None:
        self._ask(f'DROP DATABASE IF EXISTS "{target}"')
        self._ask(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')

    def _ask(self, statement: str) -> None:
        url = make_url(self.floor.url).set(drivername="postgresql", database="postgres")
        address = url.render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


@pytest.fixture
def backups(floor: Floor, tmp_path: Path) -> Iterator[Any]:
    made: list[Backup] = []

    def make() -> Backup:
        made.append(Backup(floor, tmp_path))
        return made[-1]

    yield make
    for backup in made:
        backup.drop()


def sign_and_sell(floor: Floor, till: Till, sale: Request) -> SignedReply:
    [answer] = floor.answer([Arrived(till.sign(sale), till.device_id, floor.now())])
    assert isinstance(answer, SignedReply), answer
    return answer


def again(till: Till, sale: Deduct, reply: SignedReply | str, **changes: Any) -> Resubmission:
    recorded: dict[str, Any] = {
        name: getattr(sale, name)
        for name in Resubmission.__struct_fields__
        if name not in {"reply", "v"}
    }
    jws = reply if isinstance(reply, str) else reply.jws
    recorded |= {"reply": jws, "journal": till.position()}
    return Resubmission(**(recorded | changes))


def say(floor: Floor, till: Till, request: Resubmission) -> Outcome:
    return floor.ask_one(till, request)


def test_a_sale_that_the_backup_did_not_hold_is_posted_again_and_once(
    floor: Floor, backups: Any
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    backup = backups()
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    [before] = floor.deducts(guest)
    backup.restore()
    assert floor.balance(guest) == 2000
    request = again(till, sale, reply)
    for _ in range(3):
        assert say(floor, till, request) == reply.reply.outcome
    assert floor.balance(guest) == 1650
    [after] = floor.deducts(guest)
    assert after._asdict() == before._asdict()


def test_a_sale_that_the_backup_held_is_not_posted_twice(floor: Floor, backups: Any) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    backup = backups()
    backup.restore()
    assert say(floor, till, again(till, sale, reply)) == reply.reply.outcome
    assert floor.balance(guest) == 1650


def test_its_key_and_its_qr_count_as_before(floor: Floor, backups: Any) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest(2000)
    backup = backups()
    shown = floor.qr(guest)
    sale = till.deduct(shown, 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    say(floor, till, again(till, sale, reply))
    assert floor.ask_one(till, sale) == reply.reply.outcome
    assert floor.ask_one(other, other.deduct(shown)) == Declined(Reason.TOKEN_ALREADY_USED)
    assert floor.ask_one(till, till.cancel(sale)) == Cancelled(sale.amount)
    assert floor.balance(guest) == 2000


def test_a_cancel_that_the_backup_did_not_hold_reverses_the_deduct_that_it_did(
    floor: Floor, backups: Any
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    sign_and_sell(floor, till, sale)
    backup = backups()
    floor.ask_one(till, till.cancel(sale))
    backup.restore()
    assert floor.balance(guest) == 1650
    floor.ask_one(till, till.cancel(sale))
    assert floor.balance(guest) == 2000


def test_an_offline_sale_is_posted_again_as_one(floor: Floor, backups: Any) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    backup = backups()
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, till.accept_offline(sale))
    assert isinstance(reply.reply.outcome, PostedOffline)
    backup.restore()
    assert say(floor, till, again(till, sale, reply)) == reply.reply.outcome
    [deduct] = floor.deducts(guest)
    assert deduct.accepted_offline_at is not None


def test_the_goods_are_gone_so_funds_that_the_backup_lost_leave_a_debt(
    floor: Floor, backups: Any
) -> None:
    till, guest = floor.add_till(), floor.add_guest(300)
    backup = backups()
    first, second = (till.deduct(floor.qr(guest), 150) for _ in range(2))
    replies = [sign_and_sell(floor, till, each) for each in (first, second)]
    backup.restore()
    third = till.deduct(floor.qr(guest), 200)
    assert isinstance(floor.ask_one(till, third), Approved)
    for sale, reply in zip((first, second), replies, strict=True):
        say(floor, till, again(till, sale, reply))
    assert floor.balance(guest) == -200


def test_a_guest_whom_the_backup_does_not_know_is_a_persons_to_judge(
    floor: Floor, backups: Any
) -> None:
    till = floor.add_till()
    backup = backups()
    guest = floor.add_guest(2000)
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    request = again(till, sale, reply)
    outcome = say(floor, till, request)
    assert isinstance(outcome, UnderReview)
    assert say(floor, till, request) == outcome
    [entry] = floor.reviews()
    assert (entry.kind, entry.reason) == ("resubmission", "unknown_payer")
    assert entry.amount_in_cents == 350


def test_a_revoked_appliances_sale_goes_to_review(floor: Floor, backups: Any) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    backup = backups()
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    floor.revoke(till)
    assert isinstance(say(floor, till, again(till, sale, reply)), UnderReview)
    assert floor.balance(guest) == 2000


def test_only_the_clouds_own_word_on_this_very_sale_is_believed(
    floor: Floor, backups: Any, tmp_path: Path
) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest(2000)
    backup = backups()
    sale, twin = till.deduct(floor.qr(guest), 350), till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    declined = sign_and_sell(floor, till, till.deduct(floor.qr(guest), 900_00))
    beat = sign_and_sell(floor, till, till.heartbeat())
    backup.restore()
    forger = KeyRing(tmp_path / "forger")
    forged = floor.desk.__class__(floor.database, forger, floor.now).sign(
        Arrived(b"", till.device_id, floor.now()),
        till.device_id,
        sale.key,
        "deduct",
        reply.reply.outcome,
    )

    def said(request: Resubmission, by: Till = till) -> Outcome:
        return say(floor, by, request)

    own = Declined(Reason.PROOF_IS_OF_ANOTHER)
    assert said(again(till, twin, reply)) == own
    assert said(again(other, sale, reply, device_id="till-2"), other) == own
    assert said(again(till, sale, declined)) == own
    assert said(again(till, sale, beat)) == own
    assert said(again(till, sale, forged)) == Declined(Reason.PROOF_NOT_OURS)
    assert said(again(till, sale, "x.y.z")) == Declined(Reason.PROOF_NOT_OURS)
    assert floor.balance(guest) == 2000
    assert floor.audit(action="resubmission", outcome="posted_again") == []


def test_a_reply_signed_by_a_retired_key_is_still_the_clouds_word(
    floor: Floor, backups: Any
) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    backup = backups()
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    floor.keys.prepare("reply")
    floor.keys.activate("reply")
    assert say(floor, till, again(till, sale, reply)) == reply.reply.outcome


def test_appliances_are_asked_from_where_the_backup_knew_their_journal(
    floor: Floor, backups: Any
) -> None:
    till = floor.add_till()
    quiet = floor.add_till("never-heard")
    till.entry = 7
    floor.ask_one(till, till.heartbeat())
    backup = backups()
    till.entry = 40
    floor.ask_one(till, till.heartbeat())
    restored = backup.restore()
    assert restored.appliances == 2
    for _ in range(2):
        answer = floor.ask_one(till, till.heartbeat())
        assert answer.resend == Resend(str(restored.restore_id), 8)
    assert floor.ask_one(quiet, quiet.heartbeat()).resend.from_entry == 0
    other_epoch = JournalPosition("n" * 22, 3, 3, "B" * 43)
    assert floor.ask_one(till, till.heartbeat(journal=other_epoch)).resend.from_entry == 0
    done = till.heartbeat(resent_for=str(restored.restore_id))
    assert floor.ask_one(till, done).resend is None
    answer = floor.ask_one(till, till.heartbeat())
    assert isinstance(answer, HeartbeatAnswered)
    assert answer.resend is None


def test_new_policies_are_above_any_that_an_appliance_may_hold(floor: Floor, backups: Any) -> None:
    till = floor.add_till()
    backup = backups()
    backup.restore()
    assert floor.ask_one(till, till.heartbeat()).policy_version == 1 + VERSIONS_SKIPPED + 1


def test_a_revoked_appliance_is_asked_for_nothing(floor: Floor, backups: Any) -> None:
    till = floor.add_till()
    floor.revoke(till)
    assert backups().restore().appliances == 0
    with floor.database.transaction() as connection:
        connection.execute(update(devices).values(status="active"))
    assert floor.ask_one(till, till.heartbeat()).resend is None


def test_what_a_restored_database_says_of_itself_is_on_record(floor: Floor, backups: Any) -> None:
    floor.add_till()
    backups().restore()
    [deed] = floor.audit(action="database_restored")
    assert deed.detail["reason"] == "the disk died"


def test_a_person_posts_what_a_revoked_appliance_proved(floor: Floor, backups: Any) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    backup = backups()
    sale = till.deduct(floor.qr(guest), 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    floor.revoke(till)
    say(floor, till, again(till, sale, reply))
    [entry] = floor.reviews()
    ended = end(floor, str(entry.review_id), Ending.POST)
    assert not isinstance(ended, Refusal), ended
    assert floor.balance(guest) == 1650
    [deduct] = floor.deducts(guest)
    assert isinstance(reply.reply.outcome, Approved)
    assert str(deduct.id) == reply.reply.outcome.transaction_id == ended.transaction_id


def test_nobody_can_be_charged_for_a_guest_who_is_gone(floor: Floor, backups: Any) -> None:
    till = floor.add_till()
    backup = backups()
    sale = till.deduct(floor.qr(floor.add_guest(2000)), 350)
    reply = sign_and_sell(floor, till, sale)
    backup.restore()
    say(floor, till, again(till, sale, reply))
    [entry] = floor.reviews()
    refused = end(floor, str(entry.review_id), Ending.POST)
    assert isinstance(refused, Refusal)
    assert not isinstance(end(floor, str(entry.review_id), Ending.WRITE_OFF), Refusal)
