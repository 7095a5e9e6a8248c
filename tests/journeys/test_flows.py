"""Every flow of the specification, from a visitor's side, with the shipped programs."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.bar import eventually
from tests.journeys.fair import (
    DECLINED_CARD,
    PRICE,
    STANDARD,
    Fair,
    fresh_key,
    open_fair,
    text_of,
)
from venue.lights import Light
from venue.paper import plain
from venue.programs import ProgramError, run_to_end
from venue.servers import Postgres
from venue.stack import CLOUD, EVENT, STALL

DATABASES = [
    pytest.param("sqlite", marks=pytest.mark.xdist_group("fair-sqlite")),
    pytest.param(
        "postgresql", marks=[pytest.mark.xdist_group("fair-postgresql"), pytest.mark.postgres]
    ),
]


@pytest.fixture(scope="module", params=DATABASES)
def fair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fair]:
    folder: Path = tmp_path_factory.mktemp("fair")
    if request.param == "sqlite":
        with open_fair(folder, None) as fair:
            yield fair
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = f"fair_{secrets.token_hex(4)}"
    url = postgres.create_database(name)
    try:
        with open_fair(folder, url) as fair:
            yield fair
    finally:
        postgres.drop_database(name)


def kinds(rows: list[Any]) -> list[tuple[str, int]]:
    return [(row.type, row.amount_in_cents) for row in rows]


def test_top_up_pay_by_card_webhook_purchase_balance_receipt(fair: Fair) -> None:
    visitor = fair.visitor()
    assert visitor.balance() == 0
    visitor.top_up(2000)
    assert visitor.balance() == 2000
    [purchase] = fair.postings(visitor)
    assert (purchase.type, purchase.amount_in_cents, purchase.currency) == ("Purchase", 2000, "EUR")
    receipt = visitor.letter("receipt")
    assert "20.00" in text_of(receipt)
    assert purchase.reference in text_of(receipt)


def test_a_declined_card_credits_nothing_and_the_next_one_does(fair: Fair) -> None:
    visitor = fair.visitor()
    wanted = {"amount_in_cents": 1500, "currency": "EUR"}
    opened = visitor.ask("POST", "/v1/topups", wanted, fresh_key())
    visitor.pay(opened["card_page"], DECLINED_CARD)
    eventually(
        lambda: visitor.ask("GET", f"/v1/topups/{opened['id']}")["status"] == "declined" or None,
        "the decline",
    )
    assert visitor.balance() == 0
    visitor.pay(opened["card_page"])
    eventually(lambda: visitor.balance() == 1500 or None, "the credit")


def test_tickets_for_credits_alone(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(2 * PRICE + 100)
    order = visitor.order(2)
    assert order["card_page"] is None
    assert visitor.balance() == 100
    [_, deduct] = fair.postings(visitor)
    assert (deduct.type, str(deduct.order_id)) == ("Deduct", order["order_id"])
    paid = visitor.order_in("paid", order["order_id"])
    codes = [ticket["code"] for ticket in paid["tickets"]]
    assert len(set(codes)) == 2
    assert {ticket["ticket_type_id"] for ticket in paid["tickets"]} == {STANDARD}
    letter = visitor.letter("ticket")
    assert all(code in text_of(letter) for code in codes)
    with fair.person("supervisor") as door:
        checked = door.post(f"/v1/console/events/{EVENT}/tickets/check", json={"code": codes[0]})
        assert checked.status_code == 200, checked.text
        assert checked.json()["verdict"] == "valid"


def test_tickets_for_credits_and_card(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(1000)
    order = visitor.order(1, credits_in_cents=1000)
    assert order["credits_part"]["amount_in_cents"] == 1000
    assert order["card_part"]["amount_in_cents"] == PRICE - 1000
    assert visitor.balance() == 0
    visitor.pay(order["card_page"])
    paid = visitor.order_in("paid", order["order_id"])
    assert len(paid["tickets"]) == 1
    assert kinds(fair.postings(visitor)) == [("Purchase", 1000), ("Deduct", 1000)]


def test_an_order_that_is_given_up_gives_the_credits_back_by_name(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(1000)
    order = visitor.order(1, credits_in_cents=1000)
    visitor.ask("POST", f"/v1/orders/{order['order_id']}/cancel", key=fresh_key())
    visitor.order_in("closed", order["order_id"])
    assert visitor.balance() == 1000
    _, deduct, refund = fair.postings(visitor)
    assert (refund.type, refund.reversal_of_transaction_id) == ("Refund", deduct.id)
    visitor.letter("closed")


def test_a_sale_at_the_stall_and_its_receipt_on_paper_and_by_e_mail(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.ask("PATCH", "/v1/me", {"pos_receipts": True})
    visitor.top_up(2000)
    sale = fair.counter.sell("A1A3#", visitor.qr())
    assert sale.light is Light.APPROVED
    assert sale.paper is not None
    assert "13.00" in plain(sale.paper.printed)
    assert visitor.balance() == 2000 - 700
    [_, deduct] = fair.postings(visitor)
    assert (deduct.type, deduct.amount_in_cents, deduct.stall_id) == ("Deduct", 700, STALL)
    assert (deduct.staff_id, deduct.device_id) == ("mia", fair.counter.device_id)
    letter = visitor.letter("receipt: €7.00")
    assert deduct.reference in text_of(letter)


def test_too_little_money_is_declined_and_after_a_top_up_it_is_not(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(300)
    assert fair.counter.sell("500#", visitor.qr()).light is Light.DECLINED
    visitor.top_up(400)
    assert fair.counter.sell("500#", visitor.qr()).light is Light.APPROVED
    assert visitor.balance() == 200


def test_a_mistaken_sale_is_given_back_at_the_console(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(1000)
    fair.counter.sell("600#", visitor.qr())
    deduct = fair.postings(visitor)[-1]
    with fair.person("supervisor") as supervisor:
        refunded = supervisor.post(
            "/v1/console/refunds",
            json={
                "sale": {"device_id": deduct.device_id, "key": deduct.idempotency_key},
                "amount": {"amount_in_cents": 400, "currency": "EUR"},
                "reason": "one plate too many",
            },
            headers={"Idempotency-Key": fresh_key()},
        )
    assert refunded.is_success, refunded.text
    assert visitor.balance() == 800
    assert fair.postings(visitor)[-1].reversal_of_transaction_id == deduct.id


def test_unspent_credits_go_back_to_the_card(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(1200)
    asked = visitor.ask("POST", "/v1/wallet/cash-outs", {"currency": "EUR"}, fresh_key())

    def paid() -> Any:
        found = visitor.ask("GET", f"/v1/wallet/cash-outs/{asked['id']}")
        return found if found["state"] == "paid" else None

    ended = eventually(paid, "the cash-out")
    assert ended["paid"]["amount_in_cents"] == 1200
    assert visitor.balance() == 0
    visitor.letter("on its way to your card")


def test_figures_add_up_and_the_audit_log_proves_itself(fair: Fair, tmp_path: Path) -> None:
    visitor = fair.visitor()
    visitor.top_up(900)
    fair.counter.sell("250#", visitor.qr())
    deduct = fair.postings(visitor)[-1]

    reconciled = json.loads(fair.program("reconcile", "--json").splitlines()[-1])
    assert reconciled["balanced"] is True
    settled = json.loads(fair.program("settlement", EVENT, "--json"))
    assert settled["event_id"] == EVENT
    exported = tmp_path / "out.jsonl"
    fair.program("export", "--format", "jsonl", "--out", str(exported))
    rows = [json.loads(line) for line in exported.read_text("utf-8").splitlines()]
    assert [row for row in rows if row["id"] == str(deduct.id)]

    def proof() -> str | None:
        """Once the sequencer has taken the sale into the tree."""
        path = tmp_path / "proof.json"
        try:
            fair.program("audit", "prove", str(deduct.id), "--out", str(path))
        except ProgramError:
            return None
        return str(path)

    proved = eventually(proof, "the proof")
    run_to_end([*CLOUD, "audit", "check", proved])
    fair.program("audit", "verify")


def test_the_wallet_shows_what_was_bought_and_spent(fair: Fair) -> None:
    visitor = fair.visitor()
    visitor.top_up(700)
    fair.counter.sell("100#", visitor.qr())
    wallet = visitor.ask("GET", "/v1/wallet")
    assert wallet["balances"] == [{"amount_in_cents": 600, "currency": "EUR"}]
    assert [entry["type"] for entry in wallet["recent"]] == ["Deduct", "Purchase"]
