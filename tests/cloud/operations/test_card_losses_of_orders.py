import pytest

from tests.cloud.floor import Floor, Guest, eur
from tests.cloud.operations.box_office import BoxOffice


@pytest.fixture
def office(floor: Floor) -> BoxOffice:
    return BoxOffice(floor)


def _adjustments(office: BoxOffice, guest: Guest) -> list[tuple[str, int]]:
    return [
        (row.direction, row.amount_in_cents)
        for row in office.floor.transactions(guest)
        if row.type == "Adjustment"
    ]


def test_a_chargeback_of_an_orders_card_part_is_owed_in_the_wallet(office: BoxOffice) -> None:
    patron = office.add_patron(500)
    placed = office.place(patron)
    office.pay(placed)
    office.tell()
    dispute = office.bank.open_dispute(office.reference(placed))
    office.tell()
    assert _adjustments(office, patron.guest) == [("out", 2000)]
    assert office.floor.balance(patron.guest) == -2000
    office.bank.win_dispute(dispute)
    office.tell()
    assert office.floor.balance(patron.guest) == 0


def test_money_of_an_order_that_came_to_nothing_is_its_owners_anyway(office: BoxOffice) -> None:
    patron = office.add_patron(500)
    placed = office.place(patron)
    office.pay(placed)
    office.tell()
    office.refund(placed)
    dispute = office.bank.open_dispute(office.reference(placed))
    office.tell()
    assert _adjustments(office, patron.guest) == []
    office.bank.win_dispute(dispute)
    office.tell()
    assert _adjustments(office, patron.guest) == []
    assert office.floor.balance(patron.guest) == 500


def test_a_refund_by_hand_of_an_order_that_stands_is_owed_in_the_wallet(office: BoxOffice) -> None:
    patron = office.add_patron()
    placed = office.place(patron)
    office.pay(placed)
    office.tell()
    office.bank.refund_by_hand(office.reference(placed), eur(1000))
    office.tell()
    assert office.floor.balance(patron.guest) == -1000
