"""From the box to a receipt: keys, frames, lamp and paper through the guest's own kernel."""

import pytest

from image.emulation.counter import Counter, ledger
from image.emulation.stage import Stage, flat
from image.emulation.transcript import Transcript
from venue.stack import CURRENCY, Venue

pytestmark = pytest.mark.timeout(1200)


def test_a_box_enrols_by_camera_and_makes_a_sale(
    enrolled: Counter, venue: Venue, stage: Stage, transcript: Transcript
) -> None:
    guest = enrolled.guest("ada@example.org")
    before = len(ledger(venue))

    sale = enrolled.sell(guest, "500#")

    assert sale.is_green, "full green alone, read from gpio-sim's files"
    receipt = flat(sale.slip)
    assert "Total" in receipt
    assert "5.00" in receipt
    assert "Bar North" in receipt
    posted = ledger(venue)[before:]
    assert [(each.amount_in_cents, each.is_reversed) for each in posted] == [(500, False)]
    assert guest.balance(CURRENCY).amount_in_cents == 1500
    transcript.tell("lamp", f"green, {sale.took_s:.1f} s after the phone was there")
    for line in sale.slip.splitlines():
        if line.strip():
            transcript.tell("slip", line.rstrip())
    transcript.tell("ledger", "one deduct of 5.00")
    transcript.memory(stage)


def test_a_wallet_that_has_too_little_is_red_and_nothing_is_deducted(
    enrolled: Counter, venue: Venue
) -> None:
    guest = enrolled.guest("poor@example.org", 200)
    before = ledger(venue)

    sale = enrolled.sell(guest, "900#")

    assert not sale.is_green
    assert ledger(venue) == before
    assert guest.balance(CURRENCY).amount_in_cents == 200


def test_the_log_holds_no_secret(enrolled: Counter, venue: Venue, stage: Stage) -> None:
    log = stage.say("journalctl -u railtix-pos --no-pager -o cat")
    assert "sale_timed" in log
    assert venue.badge.pin not in log
    assert venue.badge.jws not in log
