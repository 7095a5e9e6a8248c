import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cloud.__main__ import app
from tests.cloud.floor import Floor
from venue.programs import Program

REPOSITORY = Path(__file__).parents[3]


class Installed:
    """railtix-cloud on a small event's database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "cloud.toml"
        self.config.write_text(
            f'state = "{folder / "state"}"\ndatabase = "{url}"\n[audit]\ncheckpoint_every_s = 0.1\n'
        )
        self.floor = Floor(url, folder / "state" / "keys", starts_at=None)

    def audit(self, *arguments: str | Path) -> Result:
        """In this process: a dozen starts of Python a test prove nothing more."""
        words = ["audit", *map(str, arguments), "--config", str(self.config)]
        return CliRunner().invoke(app, words)

    def sequence(self) -> None:
        """By the program itself, told to stop as soon as it is ready."""
        ready = self.folder / "ready.json"
        argv = [sys.executable, "-m", "cloud", "sequencer", "--config", self.config]
        log = self.folder / "sequencer.log"
        with Program(
            "sequencer", [*argv, "--ready-file", ready], log, ready=ready.exists
        ) as program:
            assert program.stop() == 0
        ready.unlink()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installed]:
    (tmp_path / "state").mkdir()
    url = f"sqlite:///{tmp_path / 'state' / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    installed = Installed(url, tmp_path)
    yield installed
    installed.floor.close()


def test_an_auditors_day(installed: Installed, tmp_path: Path) -> None:
    floor = installed.floor
    till, guest = floor.add_till(), floor.add_guest()
    floor.ask(till, till.deduct(floor.qr(guest)))
    [sale] = floor.deducts(guest)
    assert installed.audit("checkpoint").exit_code == 1
    unproven = json.loads(installed.audit("verify", "--json").stdout)
    assert (unproven["sound"], unproven["leaves"], unproven["unproven"]) == (True, 0, 3)

    installed.sequence()
    sound = json.loads(installed.audit("verify", "--json").stdout)
    assert (sound["sound"], sound["leaves"], sound["unproven"]) == (True, 4, 0)
    assert sound["compared_with"] == 1
    kept = tmp_path / "kept.jws"
    kept.write_text(installed.audit("checkpoint").stdout)
    key, proof = tmp_path / "key.pem", tmp_path / "sale.json"
    key.write_text(installed.audit("key").stdout)
    assert installed.audit("prove", str(sale.id), "--out", proof).exit_code == 0
    assert installed.audit("prove", str(sale.user_id)).exit_code == 1

    # No settings, no database, no keys of ours: a third party's machine.
    held = CliRunner().invoke(app, ["audit", "check", str(proof), "--key", str(key)])
    assert str(sale.id) in held.stdout
    assert "proven: leaf" in held.stdout
    proof.write_text(proof.read_text().replace('"amount_in_cents": 350', '"amount_in_cents": 35'))
    check = [sys.executable, "-m", "cloud", "audit", "check"]
    refused = subprocess.run([*check, proof], capture_output=True, text=True, check=False)
    assert (refused.returncode, "not proven" in refused.stderr) == (1, True)

    tamper(installed, sale.id)
    named = installed.audit("verify", "--against", kept)
    assert named.exit_code == 1
    assert named.stdout.startswith(f"changed: transaction {sale.id}")


# What is proved here is the same on either database.
@pytest.mark.parametrize("installed", ["sqlite"], indirect=True)
def test_the_program_in_the_document_checks_a_proof(installed: Installed, tmp_path: Path) -> None:
    floor = installed.floor
    guest = floor.add_guest()
    [purchase] = floor.transactions(guest)
    installed.sequence()
    key, proof, program = tmp_path / "key.pem", tmp_path / "proof.json", tmp_path / "check.py"
    key.write_text(installed.audit("key").stdout)
    proof.write_text(installed.audit("prove", str(purchase.id)).stdout)
    document = (REPOSITORY / "docs" / "audit.md").read_text()
    [shown] = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    program.write_text(shown)
    held = subprocess.run(
        [sys.executable, program, proof, key], capture_output=True, text=True, check=False
    )
    assert held.stdout.startswith("in the tree:"), held.stderr
    assert str(purchase.id) in held.stdout
    proof.write_text(proof.read_text().replace('"currency": "EUR"', '"currency": "USD"'))
    refused = subprocess.run(
        [sys.executable, program, proof, key], capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0


def test_a_new_epoch_begins_with_its_reason(installed: Installed) -> None:
    installed.sequence()
    at = "2026-01-01T04:00:00"
    begun = installed.audit("begin-epoch", "--reason", "disk failed", "--backup-at", at)
    assert begun.stdout.strip() == "Epoch 2 has begun."
    future = installed.audit("begin-epoch", "--reason", "x", "--backup-at", "2199-01-01T00:00:00")
    assert (future.exit_code, "future" in future.stderr) == (2, True)
    installed.sequence()
    assert json.loads(installed.audit("verify", "--json").stdout)["epochs"] == 2
    [restored] = installed.floor.audit(action="database_restored")
    assert restored.detail["backup_at"].startswith(at)


# What is proved here is the same on either database.
@pytest.mark.parametrize("installed", ["sqlite"], indirect=True)
def test_what_is_no_checkpoint_is_said(installed: Installed, tmp_path: Path) -> None:
    nothing = tmp_path / "empty"
    nothing.write_text("")
    assert "holds no checkpoint" in installed.audit("verify", "--against", nothing).stderr
    forged = installed.audit("verify", "--against", "a.b.c")
    assert (forged.exit_code, forged.stdout.startswith("unsigned:")) == (1, True)
    assert installed.audit("verify", "--against", tmp_path / "nowhere").exit_code == 2


def tamper(installed: Installed, transaction_id: object) -> None:
    from tests.cloud.audit.log import Log

    log = Log(installed.floor, installed.folder / "unused")
    with log.superuser() as connection:
        named = str(transaction_id)
        if connection.dialect.name == "sqlite":
            named = named.replace("-", "")
        connection.exec_driver_sql(
            f"UPDATE credit_transactions SET amount_in_cents = 1 WHERE id = '{named}'"
        )
