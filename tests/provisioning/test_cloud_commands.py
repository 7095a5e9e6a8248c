import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cloud.access.roles import Role
from cloud.api.app import make_app
from cloud.api.changes import WalletChanges
from cloud.api.context import Cloud
from cloud.clock import utc_clock
from cloud.keys import KeyRing
from cloud.operations.people.access_tokens import create_token
from cloud.operations.till.pos import Desk
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.store.database import Database
from device.hardware.decoding import read_qr
from protocol.wallet_qr import read
from provisioning.cli.app import app
from tests.cloud.api.edge import URL, serving
from tests.cloud.floor import lay_tables
from venue.servers import Authority

EVENT = """
id = "harbour"
name = "Harbour Festival"
currency = "EUR"
timezone = "Europe/Dublin"
ends_at = 2026-12-31T23:00:00Z

[[stalls]]
id = "bar-north"
name = "Bar North"
products = [{ number = 1, name = "Lager", price_in_cents = 550 }]

[[stalls]]
id = "grill"
name = "Grill"

[[staff]]
id = "mia"
name = "Mia Byrne"
initials = "MB"
"""


class Ops:
    """railtix-ops, asking the HTTP edge behind a real server."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.environment: dict[str, str | None] = {
            "RAILTIX_OPS_URL": url,
            "RAILTIX_OPS_TOKEN": token,
            "COLUMNS": "200",
            "NO_PROXY": "*",
        }
        (folder / "event.toml").write_text(EVENT)

    def run(self, *arguments: str | Path) -> Result:
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, words, env=self.environment)

    def does(self, *arguments: str | Path) -> str:
        ended = self.run(*arguments)
        assert (ended.exit_code, ended.stderr) == (0, "")
        return ended.stdout

    def answers(self, *arguments: str | Path) -> Any:
        return json.loads(self.does(*arguments, "--json"))


@pytest.fixture
def ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ops]:
    """A cloud in which nothing stands so far, on the real clock."""
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    lay_tables(url)
    database, keys = Database(url), KeyRing(tmp_path / "keys")
    cloud = Cloud(
        database=database,
        keys=keys,
        desk=Desk(database, keys, utc_clock),
        public_url=URL,
        changes=WalletChanges(database),
        bundles=BundleFolder(tmp_path / "updates", 10_000_000),
    )
    made = create_token(database, Role.OPS, "ana", None, utc_clock())
    with serving(make_app(cloud)) as address:
        yield Ops(tmp_path, address, made.token)
    database.close()


def test_an_event_with_its_appliance_and_badge_is_set_up_by_commands(
    ops: Ops, authority: Authority
) -> None:
    assert "harbour: created" in ops.does("event", "apply", "event.toml")
    assert "nothing to change" in ops.does("event", "apply", "event.toml")
    shown = ops.does("event", "show", "harbour")
    for words in ("Harbour Festival", "Lager", "5.50", "Mia Byrne", "every stall"):
        assert words in shown
    (ops.folder / "again.json").write_text(json.dumps(ops.answers("event", "show", "harbour")))
    assert "nothing to change" in ops.does("event", "apply", "again.json")
    assert [event["event_id"] for event in ops.answers("event", "list")] == ["harbour"]

    (credentials,) = authority.certify_devices("ops-till-1")
    place = ("--event", "harbour", "--stall", "bar-north")
    added = ops.does(
        "device", "add", "ops-till-1", "--certificate", credentials.certificate, *place
    )
    assert "ops-till-1: active, bar-north at harbour" in added
    assert "0<1" in ops.does("device", "list")
    assert "Bar North at Harbour Festival" in ops.does("policy", "show", "ops-till-1")
    moved = ops.answers("device", "move", "ops-till-1", "--event", "harbour", "--stall", "grill")
    assert (moved["stall_id"], moved["policy_version"]) == ("grill", 2)
    revoked = ops.answers("device", "revoke", "ops-till-1", "--reason", "lost at the gate")
    assert revoked["status"] == "revoked"


def test_names_with_brackets_are_shown_as_they_are(ops: Ops, authority: Authority) -> None:
    """rich would take them for its own markup: swallow them, or end in a trace."""
    for plain in ("Harbour Festival", "Bar North", "Lager", "Mia Byrne"):
        file = ops.folder / "event.toml"
        file.write_text(file.read_text().replace(plain, f"{plain} [/18]"))
    ops.does("event", "apply", "event.toml")
    shown = ops.does("event", "show", "harbour")
    for words in ("Harbour Festival", "Bar North", "Lager", "Mia Byrne"):
        assert f"{words} [/18]" in shown
    assert "Harbour Festival [/18]" in ops.does("event", "list")
    (credentials,) = authority.certify_devices("ops-till-2")
    place = ("--event", "harbour", "--stall", "bar-north")
    ops.does("device", "add", "ops-till-2", "--certificate", credentials.certificate, *place)
    assert "Bar North [/18] at" in ops.does("policy", "show", "ops-till-2")


def test_a_badge_drawn_as_a_picture_or_in_the_terminal_is_read_by_the_scanner(ops: Ops) -> None:
    ops.does("event", "apply", "event.toml")
    files = ("--png", "badge.png", "--text", "badge.txt")
    said = ops.does("staff", "badge", "harbour", "mia", "--draw-pin", *files)
    assert "PIN (shown this once): " in said
    picture = Image.open(ops.folder / "badge.png").convert("L")
    reading = read_qr(np.asarray(picture))
    assert reading is not None
    assert read(reading.text) == (ops.folder / "badge.txt").read_text()
    for name in ("badge.png", "badge.txt"):
        assert (ops.folder / name).stat().st_mode & 0o077 == 0
    for wanted in ("--png", "--text"):
        refused = ops.run("staff", "badge", "harbour", "mia", wanted, "nowhere/badge")
        assert (refused.exit_code, "no folder nowhere" in refused.stderr) == (1, True)
    [mia] = ops.answers("staff", "list", "harbour")
    assert mia["badge"]["has_pin"], "the badge they had still counts"
    lines = ops.does("staff", "badge", "harbour", "mia").splitlines()
    assert len([line for line in lines if "█" in line or "▀" in line or "▄" in line]) > 20


def test_what_the_cloud_refuses_is_told_in_its_own_words(ops: Ops) -> None:
    for arguments, said in (
        (("event", "show", "nowhere"), "There is no event 'nowhere'."),
        (("policy", "show", "nobody"), "No policy was ever issued"),
        (("device", "revoke", "nobody", "--reason", "x"), "There is no appliance 'nobody'."),
        (("device", "move", "NO", "--event", "e", "--stall", "s"), "device_id"),
        (("device", "add", "x", "--certificate", "event.toml", "--event", "e"), "go together"),
        (("device", "add", "x", "--certificate", "event.toml"), "no certificate in PEM form"),
        (("staff", "badge", "harbour", "ghost"), "There is no member of staff 'ghost'."),
    ):
        ended = ops.run(*arguments)
        assert ended.exit_code == 1
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_wrong_file_says_where(ops: Ops) -> None:
    (ops.folder / "event.toml").write_text(EVENT.replace("price_in_cents = 550", "price = 5.5"))
    ended = ops.run("event", "apply", "event.toml")
    assert ended.exit_code == 1
    assert "stalls.0.products.0.price" in ended.stderr
    (ops.folder / "event.toml").write_text("id = \n")
    assert "event.toml" in ops.run("event", "apply", "event.toml").stderr


def test_without_a_token_or_a_cloud_the_command_says_what_to_do(ops: Ops) -> None:
    token = str(ops.environment["RAILTIX_OPS_TOKEN"])
    ops.environment["RAILTIX_OPS_TOKEN"] = None
    assert "railtix-cloud token create" in ops.run("event", "list").stderr
    (ops.folder / "token").write_text(token)
    (ops.folder / "token").chmod(0o644)
    assert "chmod 600" in ops.run("event", "list", "--token-file", "token").stderr
    (ops.folder / "token").chmod(0o600)
    assert ops.answers("event", "list", "--token-file", "token") == []
    ops.environment["RAILTIX_OPS_TOKEN"] = token + "x"
    refused = ops.run("event", "list")
    assert "an access token is needed" in refused.stderr
    assert token not in refused.stderr
    ops.environment["RAILTIX_OPS_URL"] = "http://127.0.0.1:1"
    assert "does not answer" in ops.run("event", "list").stderr


def test_what_offline_sales_may_cost_is_printed_before_they_are_switched_on(ops: Ops) -> None:
    ops.does("event", "apply", "event.toml")
    shown = ops.does("policy", "show", "--event", "harbour")
    assert "offline sales are not allowed" in shown
    assert "If they were allowed:" in shown
    (ops.folder / "offline.toml").write_text(
        EVENT.replace("[[stalls]]", "[offline]\nallowed = true\n\n[[stalls]]", 1)
    )
    switched = ops.does("event", "apply", "offline.toml")
    assert "This switches offline sales on." in switched
    assert "At worst 0.00 EUR is handed over unpaid" in switched
    assert "This switches" not in ops.does("event", "apply", "offline.toml")
    assert ops.answers("policy", "show", "--event", "harbour")["rules"]["allowed"] is True
    neither = ops.run("policy", "show")
    assert (neither.exit_code, "name an appliance, or an event" in neither.stderr) == (1, True)
