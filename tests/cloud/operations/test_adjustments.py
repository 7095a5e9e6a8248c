"""Finance puts wallets right, on both databases."""

import secrets
from typing import Any

from cloud.access.roles import Holder
from cloud.ledger.postings import Direction, Wallet
from cloud.operations.desk.adjust_wallet import Adjusted, Adjustment, adjust_wallet, set_offline_use
from cloud.operations.desk.decide_approval import list_approvals
from cloud.operations.desk.refund_sale import Asked
from cloud.operations.refusals import Code
from protocol.ids import EventId, IdempotencyKey, UserId
from protocol.money import Money
from tests.cloud.floor import EVENT, Floor, Guest, eur
from tests.cloud.operations.console import FAY, GUS, SUE, at_once, decide, new_key, refuses


def adjust(
    floor: Floor,
    guest: Guest,
    cents: int,
    direction: Direction = Direction.IN,
    *,
    holder: Holder = FAY,
    key: IdempotencyKey | None = None,
    **changes: Any,
) -> Any:
    said: dict[str, Any] = {
        "event_id": EVENT,
        "user_id": UserId(guest.user_id),
        "direction": direction,
        "amount": eur(cents),
        "reason": "charged twice",
    }
    return adjust_wallet(
        floor.database,
        Adjustment(**(said | changes)),
        holder=holder,
        key=key or new_key(),
        now=floor.now(),
    )


def test_finance_adjusts_with_a_reason(floor: Floor) -> None:
    guest, key = floor.add_guest(2000), new_key()
    done = adjust(floor, guest, 1200, key=key)
    assert (done.state, done.amount) == (Asked.DONE, eur(1200))
    assert adjust(floor, guest, 1200, key=key) == done
    refuses(adjust(floor, guest, 1201, key=key), Code.KEY_REUSED)
    assert floor.balance(guest) == 3200
    row = floor.transactions(guest)[-1]
    assert (row.type, row.direction, row.created_by) == ("Adjustment", "in", "console:fay")
    [record] = floor.audit(action="wallet_adjusted")
    assert (record.actor, record.subject) == ("console:fay", done.transaction_id)
    assert record.detail["reason"] == "charged twice"


def test_someone_who_never_topped_up_gets_a_wallet(floor: Floor) -> None:
    guest = floor.add_guest(0)
    assert adjust(floor, guest, 100).state is Asked.DONE
    assert floor.balance(guest) == 100


def test_an_adjustment_out_may_leave_a_wallet_owing(floor: Floor) -> None:
    guest = floor.add_guest(100)
    assert adjust(floor, guest, 300, Direction.OUT).state is Asked.DONE
    assert floor.balance(guest) == -200


def test_above_the_limit_another_in_finance_grants(floor: Floor) -> None:
    guest = floor.add_guest(2000)
    asked = adjust(floor, guest, 5001, Direction.OUT)
    assert asked.state is Asked.WAITING
    assert floor.balance(guest) == 2000
    refuses(decide(floor, asked.approval_id, FAY), Code.SAME_PERSON)
    refuses(decide(floor, asked.approval_id, SUE), Code.APPROVAL_UNKNOWN)
    page = list_approvals(floor.database, SUE, state=None, limit=9, cursor=None)
    assert page == ([], None)
    decide(floor, asked.approval_id, GUS)
    refuses(decide(floor, asked.approval_id, GUS), Code.APPROVAL_ENDED)
    assert floor.balance(guest) == -3001
    assert floor.transactions(guest)[-1].created_by == "console:fay"
    [record] = floor.audit(action="wallet_adjusted")
    assert (record.actor, record.detail["asked_by"]) == ("console:gus", "console:fay")


def test_what_is_refused_is_not_posted(floor: Floor) -> None:
    guest = floor.add_guest(2000)
    asked = adjust(floor, guest, 5001)
    decide(floor, asked.approval_id, GUS, grant=False)
    refuses(decide(floor, asked.approval_id, GUS), Code.APPROVAL_ENDED)
    assert floor.balance(guest) == 2000


def test_small_parts_are_no_way_around_the_limit(floor: Floor) -> None:
    guest = floor.add_guest(2000)
    assert adjust(floor, guest, 3000).state is Asked.DONE
    assert adjust(floor, guest, 2000).state is Asked.DONE
    assert adjust(floor, guest, 1).state is Asked.WAITING
    assert adjust(floor, guest, 5000, holder=GUS).state is Asked.DONE
    floor.pass_time(hours=24)
    assert adjust(floor, guest, 5000).state is Asked.DONE


def test_parts_at_once_are_no_way_around_it_either(floor: Floor) -> None:
    guest = floor.add_guest(2000)
    answers = at_once([lambda: adjust(floor, guest, 2000)] * 20)
    done = [each for each in answers if isinstance(each, Adjusted) and each.state is Asked.DONE]
    assert len(done) == 2
    assert floor.balance(guest) == 6000


def test_of_a_hundred_times_the_same_adjustment_at_once_one_takes_effect(floor: Floor) -> None:
    guest, key = floor.add_guest(2000), new_key()
    answers = at_once([lambda: adjust(floor, guest, 10, key=key)] * 100)
    assert answers == [answers[0]] * 100
    assert floor.balance(guest) == 2010


def test_each_refusal_has_its_name(floor: Floor) -> None:
    guest = floor.add_guest(2000)
    nobody = UserId("01920000-0000-7000-8000-000000000000")
    refuses(adjust(floor, guest, 10, event_id=EventId("winter-fair")), Code.EVENT_UNKNOWN)
    refuses(adjust(floor, guest, 10, amount=Money(10, "CHF")), Code.WRONG_CURRENCY)
    refuses(adjust(floor, guest, 10, user_id=nobody), Code.WALLET_UNKNOWN)
    assert floor.balance(guest) == 2000


def test_a_wallet_is_frozen_for_offline_use_until_a_person_lifts_it(floor: Floor) -> None:
    guest = floor.add_guest(2000)

    def set_use(guest: Guest, *, allowed: bool) -> Any:
        return set_offline_use(
            floor.database,
            EVENT,
            UserId(guest.user_id),
            allowed=allowed,
            reason=f"photographed codes {secrets.token_hex(2)}",
            holder=FAY,
            now=floor.now(),
        )

    wallet = set_use(guest, allowed=False)
    assert isinstance(wallet, Wallet)
    assert wallet.offline_frozen
    assert set_use(guest, allowed=False) == wallet
    assert not set_use(guest, allowed=True).offline_frozen
    refuses(set_use(floor.add_guest(0), allowed=False), Code.WALLET_UNKNOWN)
    assert [record.outcome for record in floor.audit(action="offline_use_set")] == [
        "frozen",
        "frozen",
        "allowed",
    ]
