"""Staff, from the list to the first sale and to the last: printed, PIN chosen, then revoked."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from provisioning.badge_sheet import COLUMNS, QR_MM, ROWS, WIDTH_MM
from provisioning.badge_sheet import HEIGHT_MM as BADGE_MM
from provisioning.cli.app import app
from tests.journeys.bar import DECLINED_HZ, WITHIN_S, Bar, eventually, now
from venue.lights import Light
from venue.phone import HEIGHT, WIDTH
from venue.programs import run_to_end
from venue.stack import CLOUD, EVENT, STALL

pytestmark = pytest.mark.xdist_group("venue")

ZOES_PIN = "60471829"
DPI = 200
A4_MM = (210.0, 297.0)


class Ops:
    """railtix-ops at the venue's cloud, with a program's token."""

    def __init__(self, bar: Bar) -> None:
        config = ["--config", bar.venue.cloud_config]
        token = run_to_end([*CLOUD, "token", "create", "staff-desk", *config]).strip()
        self._environment: dict[str, str | None] = {
            "RAILTIX_OPS_URL": bar.venue.base_url,
            "RAILTIX_OPS_TOKEN": token,
            "COLUMNS": "200",
            "NO_PROXY": "*",
        }

    def does(self, *words: str | Path) -> str:
        arguments = ["staff", *(str(each) for each in words)]
        ended = CliRunner().invoke(app, arguments, env=self._environment)
        assert (ended.exit_code, ended.stderr) == (0, ""), ended.output
        return ended.stdout

    def answers(self, *words: str) -> Any:
        return json.loads(self.does(*words, "--json"))


@pytest.fixture
def ops(bar: Bar) -> Iterator[Ops]:
    ops = Ops(bar)
    yield ops
    if any(each["staff_id"] == "zoe" for each in ops.answers("list", EVENT)):
        ops.does("remove", EVENT, "zoe")
    # The next test finds Mia here, not whoever signed in meanwhile.
    bar.come_to_rest()


def first_badge(pdf: Path) -> Any:
    """The sheet's first badge as a camera sees it once it is printed, cut out and held up."""
    page = pdf.with_suffix(".png")
    command = ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=pnggray", f"-r{DPI}"]
    subprocess.run([*command, f"-sOutputFile={page}", str(pdf)], check=True, capture_output=True)
    left, top = (A4_MM[0] - COLUMNS * WIDTH_MM) / 2, (A4_MM[1] - ROWS * BADGE_MM) / 2
    corners = (left + 2, top + 4, left + WIDTH_MM - 2, top + 12 + QR_MM)
    x0, y0, x1, y1 = (round(each / 25.4 * DPI) for each in corners)
    badge = Image.open(page).crop((x0, y0, x1, y1))
    scene = Image.new("L", (WIDTH, HEIGHT), 95)
    scene.paste(badge, ((WIDTH - badge.width) // 2, (HEIGHT - badge.height) // 2))
    return np.asarray(scene)


def hold_up(bar: Bar, badge: Any) -> None:
    began = now()
    bar.edge.show(badge)
    bar.edge.wait_for_light(Light.KEY_THE_AMOUNT, since=began, timeout_s=WITHIN_S)
    bar.edge.clear()


def test_staff_go_from_the_list_to_a_sale_and_are_stopped_at_once(
    bar: Bar, ops: Ops, tmp_path: Path
) -> None:
    guest = bar.guest()
    assert "changed" in ops.does("add", EVENT, "zoe", "Zoë Doyle", "--stall", STALL)
    assert "no PIN yet" in ops.does("sheet", EVENT, "zoe", "--out", tmp_path / "badges.pdf")
    assert (tmp_path / "badges.pdf").stat().st_mode & 0o077 == 0
    badge = first_badge(tmp_path / "badges.pdf")

    # The badge from the sheet, a PIN, and the same PIN once more.
    bar.sign_out()
    hold_up(bar, badge)
    watch = bar.watch()
    bar.edge.type(f"{ZOES_PIN}#")
    assert "New PIN Key it once more and #" in watch.await_paper()
    bar.edge.type(f"{ZOES_PIN}#")
    watch.await_light(Light.READY)
    outcomes = [(each.action, each.outcome) for each in watch.audited("sign_in")]
    assert outcomes == [("sign_in", "pin_not_set")]
    [chosen] = watch.audited("choose_pin")
    assert (chosen.outcome, chosen.actor) == ("signed_in", "staff:zoe")

    sale = bar.counter.sell("100#", guest.fresh_qr().digits)
    assert sale.light is Light.APPROVED
    [posting] = watch.posted()
    assert (posting.staff_id, posting.amount_in_cents) == ("zoe", 100)
    listed = {each["staff_id"]: each for each in ops.answers("list", EVENT)}
    assert listed["zoe"]["badge"]["has_pin"]
    assert listed["zoe"]["signed_in_at"] == [bar.appliance.device_id]
    assert "with PIN" in ops.does("list", EVENT)

    # Signed out, badge and PIN are an ordinary sign-in.
    bar.sign_out()
    hold_up(bar, badge)
    watch = bar.watch()
    bar.edge.type(f"{ZOES_PIN}#")
    watch.await_light(Light.READY)

    # Revoked: the very next sale is refused, and nobody is signed in any more.
    said = ops.does("revoke", EVENT, "zoe", "--reason", "badge seen on a photograph")
    assert f"signed out at {bar.appliance.device_id}" in said
    watch = bar.watch()
    refused = bar.counter.sell("100#", guest.fresh_qr().digits, paper=False)
    assert (refused.light, refused.outcome) == (Light.DECLINED, "session_ended")
    watch.await_light(Light.NOBODY_SIGNED_IN)
    assert (watch.posted(), watch.approvals()) == ([], 0)
    assert guest.balance() == 1900
    bar.edge.show(badge)
    eventually(lambda: bar.edge.light() is Light.KEY_THE_AMOUNT or None, "the PIN to be wanted")
    bar.edge.clear()
    watch = bar.watch()
    bar.edge.type(f"{ZOES_PIN}#")
    watch.await_tones(DECLINED_HZ, 2)
    assert watch.await_logged("declined")["detail"] == "badge_invalid"

    # SQLite's write-ahead logs come and go.
    for path in (bar.appliance.program.log, *bar.appliance.folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            assert ZOES_PIN.encode() not in path.read_bytes(), path
