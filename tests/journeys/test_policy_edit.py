"""A price changed in a spreadsheet reaches the till and its receipts; and is taken back."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from provisioning.cli.app import app
from tests.journeys.bar import BAR_DOCUMENT, Bar, eventually
from venue.lights import Light
from venue.stack import EVENT, STALL

pytestmark = pytest.mark.xdist_group("venue")


def test_a_price_from_a_spreadsheet_is_on_the_receipt_once_acknowledged_and_rolled_back_again(
    bar: Bar, tmp_path: Path
) -> None:
    listed: list[dict[str, Any]] = BAR_DOCUMENT["stalls"][0]["products"]
    old = next(each["price_in_cents"] for each in listed if each["number"] == 1)
    new = old + 35
    with _as_it_was(bar):
        prices = tmp_path / "prices.csv"
        _ops(bar, "product", "export", EVENT, STALL, prices)
        text = prices.read_text("utf-8")
        assert _price(old) in text
        prices.write_text(text.replace(f",{_price(old)}", f",{_price(new)}", 1), "utf-8")

        said = _ops(bar, "product", "import", EVENT, STALL, prices, "--yes")

        assert f"{_price(old)} -> {_price(new)}" in said
        _await_acknowledged(bar)
        assert _price(new) in _receipt_of_one(bar)
        newest = json.loads(_ops(bar, "event", "versions", EVENT, "--json"))[0]["version"]
        back = str(newest - 1)
        _ops(bar, "event", "rollback", EVENT, back, "--reason", "too dear", "--yes")
        _await_acknowledged(bar)
        receipt = _receipt_of_one(bar)
        assert _price(old) in receipt
        assert _price(new) not in receipt


def _receipt_of_one(bar: Bar) -> str:
    """Of product 1, sold to a new guest."""
    guest, watch = bar.guest(), bar.watch()
    sale = bar.counter.sell("A1#", guest.fresh_qr().digits)
    assert sale.light is Light.APPROVED
    return watch.await_paper()


def _ops(bar: Bar, *arguments: str | Path) -> str:
    environment: dict[str, str | None] = {
        "RAILTIX_OPS_URL": bar.venue.base_url,
        "RAILTIX_OPS_TOKEN": bar.venue.desk.token,
        "COLUMNS": "200",
        "NO_PROXY": "*",
    }
    words = [str(argument) for argument in arguments]
    ended = CliRunner().invoke(app, words, env=environment)
    assert ended.exit_code == 0, (ended.stdout, ended.stderr)
    return ended.stdout


@contextmanager
def _as_it_was(bar: Bar) -> Generator[None]:
    """Other tests sell at this bar too."""
    try:
        yield
    finally:
        bar.venue.desk.apply_event(EVENT, BAR_DOCUMENT)
        _await_acknowledged(bar)


def _await_acknowledged(bar: Bar) -> None:
    """By this bar's appliance alone: other tests enter some that nobody switches on."""

    def is_acknowledged() -> bool | None:
        standings = json.loads(_ops(bar, "policy", "status", EVENT, "--json"))
        [own] = [each for each in standings if each["device_id"] == bar.appliance.device_id]
        return own["acked_version"] == own["version"] or None

    eventually(is_acknowledged, "the bar's appliance to have the newest policy")


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
