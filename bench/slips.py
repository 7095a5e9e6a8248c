"""Every kind of slip, drawn as the printer would print it, into docs/pictures.

receipt.png, slips.png (what a till prints), first-slips.png (what an appliance prints before it is
one).

make slips                              all of them, for 80 mm paper
make slips ARGS="--narrow --out /tmp"   the same on 58 mm, somewhere else
"""

import argparse
from datetime import UTC
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from device.enrolling.happenings import Need, Trouble
from device.enrolling.slips import show_me_a_code_slip, trouble_slip
from device.hardware.escpos_bytes import compose
from device.hardware.settings import PrinterSettings
from device.identity.welcome import welcome_slip
from device.selftest.findings import Part, failed, ok, slip_of
from device.till.entries import KeyedLine, RefundOpened, SaleOpened
from device.till.notices import balance_slip, new_pin_slip, shift_slip, supervisor_slip
from device.till.receipt import (
    Slip,
    copy_of,
    declined_for_funds_slip,
    handed_over_slip,
    journal_fault_slip,
    offline_receipt_of,
    receipt_of,
    refund_slip,
)
from device.till.states import RefundWanted
from device.till.terms import Terms, terms_of
from protocol.encoding import public_key_to_text
from protocol.messages import Approved, ProductSold, Refunded, SaleName, ShiftReport
from protocol.money import Money
from protocol.named_key import NamedKey
from protocol.policy import Policy, Product
from venue.paper import EPSON_80, GENERIC_58, Model, render

PICTURES: Final = Path(__file__).parents[1] / "docs" / "pictures"
WIDE: Final = PrinterSettings()
NARROW: Final = PrinterSettings(profile="NT-5890K")
GREYS: Final = 16
GAP: Final = 24

SERIAL: Final = "10000000abcdef01"
_AT_MS: Final = 1_783_792_800_000
_KEY: Final = "01980000-0000-7000-8000-000000000001"
_MENU: Final = (
    Product(1, "Lager 0,4 l", 450),
    Product(3, "Mineralwasser", 250),
    Product(7, "Käsespätzle mit Röstzwiebeln und Salat", 1150),
)


def terms() -> Terms:
    """An event whose names have letters of their own."""
    public = public_key_to_text(ec.generate_private_key(ec.SECP256R1()).public_key())
    key = NamedKey("k1", public)
    return terms_of(
        Policy(
            version=1,
            device_id="till-07",
            issued_at_ms=_AT_MS,
            expires_at_ms=_AT_MS + 86_400_000,
            event_id="summer-2026",
            event_name="Sommerfest Süd 2026",
            stall_id="bar-nord",
            stall_name="Bar Nord, Kasse 3",
            currency="EUR",
            locale="de_DE",
            products=_MENU,
            top_up_url="https://credits.example.org/top-up",
            wallet_keys=(key,),
            reply_keys=(key,),
            badge_keys=(key,),
            pin_key=key,
        ),
        UTC,
    )


def sale(cents: int, *lines: tuple[Product, int]) -> SaleOpened:
    keyed = tuple(
        KeyedLine(product.number, product.name, quantity, product.price_in_cents)
        for product, quantity in lines
    )
    return SaleOpened(
        key=_KEY,
        correlation_id="correlation",
        session_id="session",
        initials="MK",
        event_id="summer-2026",
        stall_id="bar-nord",
        policy_version=1,
        amount=Money(cents, "EUR"),
        lines=keyed,
        at_ms=_AT_MS,
    )


def slips() -> dict[str, Slip]:
    """One of each kind, the receipt first."""
    event = terms()
    lager, water, meal = _MENU
    round_of = sale(2300, (lager, 2), (water, 1), (meal, 1))
    approved = Approved("0198c0de", round_of.amount, Money(1150, "EUR"), "KX7-42P", _AT_MS)
    refund = RefundOpened(
        key=_KEY,
        correlation_id="correlation",
        session_id="session",
        initials="MK",
        event_id="summer-2026",
        stall_id="bar-nord",
        policy_version=1,
        sale=SaleName("till-07", _KEY),
        amount=Money(450, "EUR"),
        approval_id=None,
        at_ms=_AT_MS,
    )
    given = Refunded(
        "0198c0df", Money(450, "EUR"), 1850, Money(1600, "EUR"), "RM3-9TQ", _AT_MS + 240_000
    )
    report = ShiftReport(
        currency="EUR",
        since_ms=_AT_MS - 14_400_000,
        sales=231,
        sales_in_cents=204_350,
        offline=12,
        offline_in_cents=8_900,
        refunds=3,
        refunds_in_cents=1_350,
        net_in_cents=203_000,
        products=(ProductSold(1, 187, 84_150), ProductSold(7, 96, 110_400)),
    )
    receipt = receipt_of(round_of, approved, event)
    return {
        "receipt": receipt,
        "late": copy_of(receipt),
        "offline": offline_receipt_of(round_of, _AT_MS, event),
        "refund": refund_slip(refund, given, event),
        "funds": declined_for_funds_slip(round_of, Money(1150, "EUR"), event, _AT_MS),
        "balance": balance_slip(Money(1150, "EUR"), event, _AT_MS),
        "supervisor": supervisor_slip(RefundWanted(refund.sale, Money(2500, "EUR")), event),
        "pin": new_pin_slip(event),
        "shift": shift_slip(report, event, "MK", _AT_MS),
        "handed over": handed_over_slip(round_of, approved, event),
        "out of order": journal_fault_slip(),
    }


def first_slips() -> dict[str, Slip]:
    """What comes out of an appliance on the way from its box to its first badge."""
    findings = (
        *(ok(part) for part in Part if part not in {Part.NETWORK, Part.CAMERA}),
        failed(Part.CAMERA, "no frame; its process was started anew 2 times"),
        ok(Part.NETWORK),
    )
    return {
        "code": show_me_a_code_slip(Need.BLANK, SERIAL),
        "no way": trouble_slip(Trouble.NO_WAY, "credits.example.org: no such name", SERIAL),
        "expired": trouble_slip(Trouble.CLAIM_EXPIRED, "", SERIAL),
        "welcome": welcome_slip(terms().policy),
        "self-test": slip_of(findings, "till-07", "2026-07-11 17:02"),
    }


def draw(slip: Slip, settings: PrinterSettings, model: Model, width: int) -> Image.Image:
    paper = render(compose(slip, settings), model)
    height = paper.height * width // paper.width
    return paper.resize((width, height), Image.Resampling.LANCZOS)


def sheet(papers: list[Image.Image], in_a_row: int) -> Image.Image:
    """All of them side by side on a grey table."""
    rows = [papers[at : at + in_a_row] for at in range(0, len(papers), in_a_row)]
    width = GAP + sum(paper.width + GAP for paper in rows[0])
    height = GAP + sum(max(paper.height for paper in row) + GAP for row in rows)
    table = Image.new("L", (width, height), 214)
    top = GAP
    for row in rows:
        left = GAP
        for paper in row:
            table.paste(paper, (left, top))
            left += paper.width + GAP
        top += max(paper.height for paper in row) + GAP
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=PICTURES)
    arguments.add_argument("--narrow", action="store_true", help="58 mm paper")
    given = arguments.parse_args()
    settings, model = (NARROW, GENERIC_58) if given.narrow else (WIDE, EPSON_80)
    drawn = slips()
    _save(draw(drawn["receipt"], settings, model, 416), given.out / "receipt.png")
    papers = [draw(slip, settings, model, 270) for slip in drawn.values()]
    _save(sheet(papers, 6), given.out / "slips.png")
    papers = [draw(slip, settings, model, 300) for slip in first_slips().values()]
    _save(sheet(papers, 3), given.out / "first-slips.png")


def _save(picture: Image.Image, path: Path) -> None:
    picture.quantize(GREYS).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
