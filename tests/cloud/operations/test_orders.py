from collections import Counter

import pytest
from sqlalchemy import delete, select, update

from cloud.operations.cards.card_payments import WebhookOutcome
from cloud.operations.orders.check_ticket import Verdict
from cloud.operations.orders.checkout import Basket, PlacedOrder, Shop, place_order
from cloud.operations.orders.refund_order import OrderRefunded
from cloud.operations.refusals import Code, Refusal
from cloud.payments.built_in import DECLINED_CARD
from cloud.store.tables import events, ticket_types, tickets
from cloud.tickets.codes import TicketClaims, sign_ticket
from cloud.tickets.life import OPEN_FOR, OrderState
from protocol.ids import EventId, IdempotencyKey
from tests.cloud.floor import EVENT, START, eur
from tests.cloud.operations.box_office import BoxOffice


def test_credits_alone_pay_at_once_and_the_tickets_are_issued(office: BoxOffice) -> None:
    patron = office.add_patron(6000, has_email=True)
    placed = office.place(patron, 2, children=1)
    assert (placed.total, placed.card_page, placed.expires_at) == (eur(5000), None, None)
    order = office.look(patron, placed)
    assert order.state is OrderState.PAID
    assert Counter(ticket.ticket_type_id for ticket in order.tickets) == {"adult": 2, "child": 1}
    assert all(ticket.code for ticket in order.tickets)

    assert office.floor.balance(patron.guest) == 1000
    [deduct] = office.floor.deducts(patron.guest)
    assert str(deduct.order_id) == deduct.reference == str(placed.order_id)
    assert (deduct.amount_in_cents, deduct.event_id) == (5000, EVENT)
    [letter] = office.letters()
    assert letter["kind"] == "order_paid"
    assert letter["ticket_codes"] == [ticket.code for ticket in order.tickets]
    assert [row.outcome for row in office.floor.audit(action="order_placed")] == ["done"]
    assert [row.outcome for row in office.floor.audit(action="order_paid")] == ["done"]
    office.check()


def test_free_tickets_need_neither_credits_nor_a_card(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron, 0, children=2)
    assert office.look(patron, placed).state is OrderState.PAID
    assert office.floor.transactions(patron.guest) == []
    assert office.provider.asked == []
    office.check()


def test_a_split_takes_the_credits_at_once_and_waits_for_the_card(office: BoxOffice) -> None:
    patron = office.add_patron(1200, has_email=True)
    placed = office.place(patron, 2)
    assert (placed.split.credits_part, placed.split.card_part) == (eur(1200), eur(3800))
    assert placed.card_page is not None
    assert placed.expires_at == START + OPEN_FOR
    order = office.look(patron, placed)
    assert (order.state, order.tickets, order.card_page) == (
        OrderState.OPEN,
        (),
        placed.card_page,
    )
    assert office.floor.balance(patron.guest) == 0
    assert office.taken() == 2
    office.check()

    assert office.pay(placed) == "paid"
    office.tell()
    order = office.look(patron, placed)
    assert (order.state, len(order.tickets), order.card_page) == (OrderState.PAID, 2, None)
    [letter] = office.letters()
    assert (letter["credits_part"], letter["card_part"]) == (
        {"amount_in_cents": 1200, "currency": "EUR"},
        {"amount_in_cents": 3800, "currency": "EUR"},
    )
    office.check()
    # Nothing is left to time out.
    office.floor.pass_time(hours=1)
    assert office.close_expired() == 0
    assert office.look(patron, placed).state is OrderState.PAID


def test_a_webhook_told_again_issues_nothing_more(office: BoxOffice) -> None:
    patron = office.add_patron(0, has_email=True)
    placed = office.place(patron)
    office.pay(placed)
    [(_, body)] = office.bank.untold()
    outcomes = office.at_once(20, lambda _: office.take(body))
    assert Counter(outcomes)[WebhookOutcome.KNOWN_ALREADY] == 19
    other = body.replace(b'"id":"evt_', b'"id":"another_')
    assert office.take(other) is WebhookOutcome.KNOWN_ALREADY
    assert len(office.letters()) == 1
    assert len(office.look(patron, placed).tickets) == 1
    office.check()


def test_a_declined_card_leaves_the_order_open_for_another(office: BoxOffice) -> None:
    patron = office.add_patron(1000)
    placed = office.place(patron)
    assert office.pay(placed, DECLINED_CARD) == "declined"
    office.tell()
    assert office.look(patron, placed).state is OrderState.OPEN
    assert office.pay(placed) == "paid"
    office.tell()
    assert office.look(patron, placed).state is OrderState.PAID
    office.check()


def test_the_same_key_gets_the_same_order_whatever_became_of_it(office: BoxOffice) -> None:
    patron = office.add_patron(1000)
    first = office.place(patron, 2, key="k" * 20)
    assert office.place(patron, 2, key="k" * 20) == first
    office.pay(first)
    office.tell()
    assert office.place(patron, 2, key="k" * 20) == first
    assert office.provider.asked == ["open_checkout"]
    assert office.taken() == 2
    assert len(office.floor.deducts(patron.guest)) == 1
    office.check()


def test_the_same_key_for_another_order_is_refused(office: BoxOffice) -> None:
    patron = office.add_patron(9000)
    office.place(patron, 2, key="k" * 20)
    for changes in ({"adults": 1}, {"adults": 2, "asked": 0}, {"adults": 2, "children": 1}):
        other = office.order(patron, key="k" * 20, **changes)  # pyright: ignore[reportArgumentType]  # numbers alone
        assert isinstance(other, Refusal)
        assert other.code is Code.KEY_REUSED
    assert office.taken() == 2
    assert isinstance(office.order(office.add_patron(9000), 1, key="k" * 20), PlacedOrder)


def test_a_refusal_stays_the_answer_under_its_key(office: BoxOffice) -> None:
    patron = office.add_patron(100)
    first = office.order(patron, asked=2500, key="k" * 20)
    assert isinstance(first, Refusal)
    assert first.code is Code.INSUFFICIENT_CREDITS
    with office.floor.database.transaction() as connection:
        connection.execute(update(ticket_types).values(price_in_cents=100))
    assert office.order(patron, asked=2500, key="k" * 20) == first
    [row] = office.floor.audit(action="order_placed")
    assert row.outcome == "insufficient_credits"
    assert office.taken() == 0
    office.check()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"adults": 11}, Code.TOO_MANY_TICKETS),
        ({"adults": 1, "asked": 2501}, Code.CREDITS_ABOVE_TOTAL),
        ({"adults": 1, "asked": 2460}, Code.CARD_PART_TOO_SMALL),
    ],
)
def test_what_cannot_be_ordered_changes_nothing(
    office: BoxOffice, changes: dict[str, int], code: Code
) -> None:
    patron = office.add_patron(9000)
    refused = office.order(patron, **changes)  # pyright: ignore[reportArgumentType]  # numbers alone
    assert isinstance(refused, Refusal)
    assert refused.code is code
    assert office.floor.balance(patron.guest) == 9000
    assert office.taken() == 0
    office.check()


def test_tickets_are_sold_in_their_window_of_an_event_that_goes_on(office: BoxOffice) -> None:
    patron = office.add_patron(9000)

    def answer() -> str:
        placed = office.order(patron)
        return placed.code.value if isinstance(placed, Refusal) else "placed"

    with office.floor.database.transaction() as connection:
        connection.execute(
            update(ticket_types).values(on_sale_from=START + OPEN_FOR, on_sale_until=None)
        )
    assert answer() == "not_on_sale"
    office.floor.pass_time(minutes=15)
    assert answer() == "placed"
    with office.floor.database.transaction() as connection:
        connection.execute(update(events).values(ends_at=START + OPEN_FOR))
    assert answer() == "event_closed"


def test_without_a_card_provider_credits_alone_pay(office: BoxOffice) -> None:
    patron = office.add_patron(2600)
    assert isinstance(office.order(patron, has_provider=False), PlacedOrder)
    refused = office.order(patron, has_provider=False)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.PAYMENTS_OFF
    office.check()


def test_an_unknown_event_or_kind_is_named(office: BoxOffice) -> None:
    patron = office.add_patron(9000)
    with office.floor.database.transaction() as connection:
        connection.execute(delete(ticket_types).where(ticket_types.c.ticket_type_id == "child"))
    refused = office.order(patron, children=1)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.TICKET_TYPE_UNKNOWN
    basket = Basket(EventId("no-such-event"), {"adult": 1}, "all")
    refused = place_order(
        Shop(office.floor.database, office.floor.keys, None),
        patron.attendee,
        basket,
        key=IdempotencyKey("k" * 20),
        return_url="",
        now=office.floor.now(),
    )
    assert isinstance(refused, Refusal)
    assert refused.code is Code.EVENT_UNKNOWN


# Given back by someone of the event's.


def test_a_paid_order_is_given_back_whole_and_its_tickets_let_nobody_in(office: BoxOffice) -> None:
    patron = office.add_patron(1200, has_email=True)
    placed = office.place(patron, 2)
    office.pay(placed)
    office.tell()
    [code, _] = [ticket.code for ticket in office.look(patron, placed).tickets]
    assert code is not None
    refunded = office.refund(placed, key="k" * 20)
    assert refunded == OrderRefunded(placed.order_id, OrderState.CANCELLED, eur(1200), eur(3800))
    assert office.floor.balance(patron.guest) == 1200
    [deduct] = office.floor.deducts(patron.guest)
    [back] = [row for row in office.floor.transactions(patron.guest) if row.type == "Refund"]
    assert (back.reversal_of_transaction_id, back.created_by) == (deduct.id, "finance:ida")
    assert back.correlation_id == deduct.correlation_id
    assert office.taken() == 0
    assert office.check_code(code).verdict is Verdict.VOID
    order = office.look(patron, placed)
    assert {(ticket.state, ticket.code) for ticket in order.tickets} == {("void", None)}
    [record] = office.floor.audit(action="order_cancelled")
    assert (record.actor, record.detail["reason"]) == ("finance:ida", "rained off")

    office.make_refunds()
    [refund] = office.card_refunds()
    assert (refund.reason, refund.state, refund.amount_in_cents) == (
        "cancelled_order",
        "done",
        3800,
    )
    assert office.payment(placed).state == "refunded"
    assert [letter["kind"] for letter in office.letters()] == ["order_paid", "order_closed"]
    # The same request, the same answer; another one finds nothing left to give.
    assert office.refund(placed, key="k" * 20) == refunded
    again = office.refund(placed)
    assert again == OrderRefunded(placed.order_id, OrderState.CANCELLED, eur(0), eur(0))
    assert len(office.card_refunds()) == 1
    office.check()


def test_an_order_that_was_never_paid_is_not_given_back(office: BoxOffice) -> None:
    placed = office.place(office.add_patron(1200))
    refused = office.refund(placed)
    assert isinstance(refused, Refusal)
    assert refused.code is Code.ORDER_NOT_PAID
    assert office.card_refunds() == []
    office.check()


def test_what_was_given_back_at_the_provider_is_not_given_back_again(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron, 2)
    office.pay(placed)
    office.tell()
    office.bank.refund_by_hand(office.reference(placed), eur(1500))
    office.tell()
    # They keep the tickets, so the wallet owes what the card got back.
    assert office.floor.balance(patron.guest) == -1500
    refunded = office.refund(placed)
    assert isinstance(refunded, OrderRefunded)
    assert (refunded.card_back, refunded.credits_back) == (eur(3500), eur(1500))
    office.make_refunds()
    assert office.payment(placed).refunded_in_cents == 5000
    assert office.floor.balance(patron.guest) == 0
    office.check()


def test_a_disputed_order_that_is_given_back_leaves_no_debt(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron, 2)
    office.pay(placed)
    office.tell()
    dispute = office.bank.open_dispute(office.reference(placed))
    office.tell()
    assert office.floor.balance(patron.guest) == -5000
    refunded = office.refund(placed)
    assert isinstance(refunded, OrderRefunded)
    assert (refunded.card_back, refunded.credits_back) == (eur(0), eur(5000))
    assert office.floor.balance(patron.guest) == 0
    # The bank takes it from the card after all: there are no tickets for it, so it is Credits.
    office.bank.win_dispute(dispute)
    office.tell()
    office.make_refunds()
    assert office.floor.balance(patron.guest) == 5000
    assert office.card_refunds() == []
    office.check()


def test_a_dispute_that_was_won_before_leaves_all_to_the_card(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron, 2)
    office.pay(placed)
    office.tell()
    office.bank.win_dispute(office.bank.open_dispute(office.reference(placed)))
    office.tell()
    refunded = office.refund(placed)
    assert isinstance(refunded, OrderRefunded)
    assert (refunded.card_back, refunded.credits_back) == (eur(5000), eur(0))
    assert office.floor.balance(patron.guest) == 0


def test_one_of_a_hundred_refunds_at_once_takes_effect(office: BoxOffice) -> None:
    patron = office.add_patron(1200)
    placed = office.place(patron, 2)
    office.pay(placed)
    office.tell()
    answers = office.at_once(100, lambda _: office.refund(placed))
    given = [each.card_back for each in answers if isinstance(each, OrderRefunded)]
    assert sorted(given) == [eur(0)] * 99 + [eur(3800)]
    assert office.floor.balance(patron.guest) == 1200
    office.make_refunds()
    assert len(office.card_refunds()) == 1
    office.check()


# At the door.


def test_the_door_tells_valid_from_void_and_unknown_and_consumes_nothing(
    office: BoxOffice,
) -> None:
    patron = office.add_patron(2500)
    [ticket] = office.look(patron, office.place(patron)).tickets
    assert ticket.code is not None
    for _ in range(2):
        checked = office.check_code(ticket.code)
        assert (checked.verdict, checked.ticket_id) == (Verdict.VALID, ticket.ticket_id)
        assert (checked.ticket_type_id, checked.ticket_type_name) == ("adult", "Adult")
    for code in ("nonsense", ticket.code[:-4] + "AAAA", "é" * 40):
        assert office.check_code(code).verdict is Verdict.UNKNOWN
    assert office.check_code(ticket.code, "another-fair").verdict is Verdict.UNKNOWN
    outcomes = [row.outcome for row in office.floor.audit(action="ticket_checked")]
    assert Counter(outcomes) == {"valid": 2, "unknown": 4}


def test_a_ticket_that_is_only_held_lets_nobody_in(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron)
    with office.floor.database.reading() as connection:
        code = connection.execute(
            select(tickets.c.code).where(tickets.c.order_id == placed.order_id)
        ).scalar_one()
    assert office.check_code(code).verdict is Verdict.VOID
    assert office.look(patron, placed).tickets == ()


def test_a_code_of_ours_for_a_ticket_that_is_not_there_is_unknown(office: BoxOffice) -> None:
    key = office.floor.keys.ticket
    claims = TicketClaims(1, "A" * 22, EVENT, "adult", "A" * 22)
    code = sign_ticket(claims, key.private, key.kid)
    assert office.check_code(code).verdict is Verdict.UNKNOWN
    # 22 characters that are not 16 bytes' one spelling.
    odd = sign_ticket(TicketClaims(1, "_" * 22, EVENT, "adult", "A" * 22), key.private, key.kid)
    assert office.check_code(odd).verdict is Verdict.UNKNOWN
