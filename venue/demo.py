"""The demo: one afternoon at a bar in a few minutes, every part real but the five simulated."""

import json
import math
import statistics
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.money import Money
from venue.attendee import Attendee
from venue.counter import Counter, Sale
from venue.edge import Paper
from venue.lights import Light
from venue.narrator import STAGES, Narrator, StageTimes
from venue.paper import plain
from venue.stack import CURRENCY, DOCUMENT, Appliance, Venue

SCRIPTED_SALES: Final = 2
TOP_UP: Final = Money(2000, CURRENCY)
RUSH_PRODUCTS: Final = tuple(
    (f"A{product['number']}#", Money(product["price_in_cents"], CURRENCY))
    for product in DOCUMENT["stalls"][0]["products"][:3]
)
"""What is keyed, and what it costs."""
BACK_ONLINE_WITHIN_S: Final = 30.0

SOUNDS: Final[dict[Light, str]] = {
    Light.APPROVED: "one high beep",
    Light.DECLINED: "two low beeps",
    Light.REFRESH_QR: "three short beeps",
    Light.FAULT: "long low",
}


@dataclass
class Account:
    """What happened, counted from what the lamps showed; appliances sell at the same time."""

    scan_to_light_ms: list[float] = field(default_factory=list[float])
    declined: Tally[str] = field(default_factory=Tally[str])
    faults: int = 0
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sale: Sale) -> None:
        with self._mutex:
            match sale.light:
                case Light.APPROVED:
                    self.scan_to_light_ms.append(sale.scan_to_light_ms)
                case Light.FAULT:
                    self.faults += 1
                case _:
                    self.declined[sale.outcome] += 1


@dataclass(frozen=True)
class Verdict:
    """The demo's last line, and whether all of it is as it should be."""

    sales: int
    """Deducts in the ledger that nothing reversed."""
    approved: int
    """Green lights, by the lamps' recorded pin levels."""
    declined: dict[str, int]
    scan_to_light_ms: dict[str, float]
    ledger_balanced: bool
    wanted: int

    @property
    def is_right(self) -> bool:
        return self.sales == self.approved == self.wanted and self.ledger_balanced

    def as_json(self) -> str:
        return json.dumps(
            {
                "sales": self.sales,
                "approved": self.approved,
                "declined": self.declined,
                "scan_to_light_ms": self.scan_to_light_ms,
                "ledger_balanced": self.ledger_balanced,
            }
        )


class Demo:
    """Plays the script at the first appliance, then whatever further sales were asked for."""

    def __init__(self, venue: Venue, console: Console, sales: int, pause_s: float) -> None:
        """`sales`: approved sales in all, the script's two included; `pause_s`: between scenes."""
        self._venue = venue
        self._console = console
        self._narrator = Narrator(console)
        self._sales = sales
        self._pause_s = pause_s
        self.account: Final = Account()
        self.ada: Attendee

    @property
    def _first(self) -> Counter:
        return self._venue.appliances[0].counter

    def play(self) -> None:
        """All scenes, in order."""
        self.ada = self._venue.attendee("ada@example.org")
        for number, scene in enumerate(self._scenes(), start=1):
            scene(number)
            time.sleep(self._pause_s)
        if self._sales > SCRIPTED_SALES:
            self._rush(self._sales - SCRIPTED_SALES)

    def verdict(self) -> Verdict:
        """Count the lamps, ask the ledger, and let `railtix-cloud reconcile` judge it."""
        books = self._venue.reconcile()
        approved = sum(
            len(appliance.counter.edge.approvals()) for appliance in self._venue.appliances
        )
        verdict = Verdict(
            sales=int(books["sales"]),
            approved=approved,
            declined=dict(sorted(self.account.declined.items())),
            scan_to_light_ms=_percentiles(self.account.scan_to_light_ms),
            ledger_balanced=bool(books["balanced"]),
            wanted=self._sales,
        )
        self._narrator.tally(
            [
                ("sales asked for", str(verdict.wanted), None),
                ("green lights, by the lamps' pins", str(verdict.approved), verdict.is_right),
                ("deducts in the ledger, not reversed", str(verdict.sales), verdict.is_right),
                ("faults shown (each is net zero)", str(self.account.faults), None),
                *((f"declined: {why}", str(n), None) for why, n in verdict.declined.items()),
                (
                    "frame to light",
                    " · ".join(f"{k} {v:.0f} ms" for k, v in verdict.scan_to_light_ms.items()),
                    None,
                ),
                (
                    "balances are the sums of their transactions",
                    "yes" if verdict.ledger_balanced else "NO",
                    verdict.ledger_balanced,
                ),
            ]
        )
        return verdict

    def _scenes(self) -> Sequence[Callable[[int], None]]:
        return (
            self._top_up,
            self._sign_in,
            self._sale_by_amount,
            self._sale_by_products,
            self._screenshot,
            self._too_large,
            self._network_cut,
        )

    def _top_up(self, number: int) -> None:
        self._narrator.scene(number, f"Ada tops up {TOP_UP}")
        self._narrator.act("Ada", "opens the card page and pays; the provider signs a webhook")
        self.ada.top_up(TOP_UP)
        self._say_balance()

    def _sign_in(self, number: int) -> None:
        self._narrator.scene(number, "Mia signs in: badge before the camera, PIN on the keypad")
        for appliance in self._venue.appliances:
            counter = appliance.counter
            took_s = counter.sign_in(self._venue.badge)
            self._narrator.lamp(Light.READY, f"{counter.device_id} is ready after {took_s:.1f} s")

    def _sale_by_amount(self, number: int) -> None:
        self._narrator.scene(number, "A sale by amount: 5.00")
        self._narrator.act("Mia", "keys 5 0 0 #")
        self._sell("500#")

    def _sale_by_products(self, number: int) -> None:
        self._narrator.scene(number, "A sale by products: two lagers, one water")
        self._narrator.act("Mia", "keys A 1 A 1 A 3 #")
        self._sell("A1A1A3#")

    def _screenshot(self, number: int) -> None:
        self._narrator.scene(number, "A screenshot of a QR that has paid already")
        used = self._used
        self._narrator.act("Mia", "keys 1 0 0 #")
        self._narrator.act("Somebody", "shows a picture of Ada's last QR")
        self._show(self._take("100#", used), "the QR was used: show a fresh one")
        self._first.abandon()
        self._say_balance()

    def _too_large(self, number: int) -> None:
        self._narrator.scene(number, "A sale larger than the balance")
        self._narrator.act("Mia", "keys 1 5 0 0 #")
        sale = self._take("1500#", self.ada.fresh_qr().digits)
        self._show(sale, "not enough Credits; nothing was deducted")
        self._say_balance()

    def _network_cut(self, number: int) -> None:
        self._narrator.scene(number, "The network is lost in the middle of a sale")
        network = self._venue.appliances[0].network
        before = self.ada.balance(CURRENCY)
        self._narrator.act("Mia", "keys 2 0 0 #")
        self._first.key("200#")
        digits = self.ada.fresh_qr().digits
        network.swallow_replies()
        self._narrator.act("The wire", "lets requests through and loses every reply")
        began = self._first.show_phone(digits)
        self._first.edge.wait_for(
            lambda: self.ada.balance(CURRENCY) < before or None,
            "the cloud to deduct",
            BACK_ONLINE_WITHIN_S,
        )
        self._say_balance("the cloud has deducted, and the till does not hear of it")
        sale = self._first.await_result(began)
        self.account.add(sale)
        self._show(sale, "no answer came: do not hand over")
        network.mend()
        self._narrator.act("The wire", "is whole again; the cancel goes out until it is answered")
        self._first.edge.wait_for(
            lambda: self.ada.balance(CURRENCY) == before or None,
            "the cancelled sale to be given back",
            BACK_ONLINE_WITHIN_S,
        )
        self._say_balance("given back: net zero")
        self._narrator.act("Mia", "takes note of the fault with *")
        noted_at = time.monotonic()  # noqa: TID251 - the demo is an edge
        self._first.edge.tap("*")
        self._first.edge.wait_for_light(Light.READY, since=noted_at, timeout_s=BACK_ONLINE_WITHIN_S)

    def _sell(self, keys: str) -> None:
        self._used = self.ada.fresh_qr().digits
        self._narrator.act("Ada", "shows her phone")
        self._show(self._take(keys, self._used), "hand it over")
        self._say_balance()

    def _take(self, keys: str, digits: str) -> Sale:
        sale = self._first.sell(keys, digits)
        self.account.add(sale)
        return sale

    def _show(self, sale: Sale, meaning: str) -> None:
        receipt = None if sale.paper is None else paper_text(sale.paper)
        ms = {stage: sale.ms[stage] for stage in STAGES if stage in sale.ms}
        times = StageTimes(ms, sale.ms.get("total", sale.scan_to_light_ms)) if ms else None
        self._narrator.sale(sale.light, meaning, SOUNDS[sale.light], receipt, times)

    def _say_balance(self, why: str = "") -> None:
        remark = f" ({why})" if why else ""
        self._narrator.act("Ada's phone", f"shows {self.ada.balance(CURRENCY)}{remark}")

    def _rush(self, sales: int) -> None:
        """Further approved sales, at all appliances side by side."""
        appliances = self._venue.appliances
        self._narrator.scene(8, f"A rush: {sales} more at {len(appliances)} till(s)")
        shares = [
            sales // len(appliances) + (number < sales % len(appliances))
            for number in range(len(appliances))
        ]
        columns = (TextColumn("    selling"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self._console) as progress:
            task = progress.add_task("", total=sales)
            with ThreadPoolExecutor(len(appliances)) as pool:
                queues = [
                    pool.submit(self._serve_queue, appliance, share, lambda: progress.advance(task))
                    for appliance, share in zip(appliances, shares, strict=True)
                    if share
                ]
                for queue in queues:
                    queue.result()

    def _serve_queue(self, appliance: Appliance, sales: int, sold: Callable[[], None]) -> None:
        guest = self._venue.attendee(f"guest-of-{appliance.device_id}@example.org")
        served = 0
        while served < sales:
            keys, price = RUSH_PRODUCTS[served % len(RUSH_PRODUCTS)]
            if guest.balance(CURRENCY) < price:
                guest.top_up(TOP_UP)
            sale = appliance.counter.sell(keys, guest.fresh_qr().digits, paper=False)
            self.account.add(sale)
            if sale.light is Light.APPROVED:
                served += 1
                sold()
            elif sale.light is Light.REFRESH_QR:
                appliance.counter.abandon()


def paper_text(paper: Paper) -> str:
    """A slip for the terminal: without the feed at its end, its picture named."""
    lines = plain(paper.printed).replace("[picture]", "▞ QR ▚").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("- - -")).rstrip()
    width = max((len(line) for line in text.splitlines()), default=0)
    return "\n".join(line.ljust(width) for line in text.splitlines())


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    """Nearest rank; with few values p99 is simply the largest."""
    if not values:
        return {}
    in_order = sorted(values)
    p99 = in_order[math.ceil(0.99 * len(in_order)) - 1]
    return {"p50": round(statistics.median(in_order), 1), "p99": round(p99, 1)}


def wallet_link(venue: Venue) -> str:
    """A fresh sign-in link for Ada's wallet page."""
    return venue.desk.invite("ada@example.org")


def play(venue: Venue, console: Console, sales: int, pause_s: float) -> tuple[Demo, Verdict]:
    """The script, the rush and the verdict."""
    demo = Demo(venue, console, sales, pause_s)
    demo.play()
    return demo, demo.verdict()
