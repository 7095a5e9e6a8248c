"""Backup and restore as docs/running.md goes through them, on each database."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud.store.database import Database
from cloud.store.tables import audit_epochs, credit_transactions
from tests.cloud.floor import Floor
from venue.programs import run_to_end
from venue.servers import Postgres


@dataclass
class Kept:
    """One kind of database: how it is backed up, and brought back elsewhere."""

    url: str
    back_up: Callable[[Path], None]
    restore: Callable[[Path], str]
    """From the backup; where the restored database is."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "sqlite":
        return _sqlite(tmp_path)
    return _postgres(request.getfixturevalue("postgres"), request.getfixturevalue("postgres_url"))


def _sqlite(folder: Path) -> Kept:
    live, restored = folder / "cloud.sqlite", folder / "restored" / "cloud.sqlite"

    def back_up(to: Path) -> None:
        # What the shell's `.backup` does: SQLite's online backup.
        source, copy = sqlite3.connect(live), sqlite3.connect(to)
        with copy:
            source.backup(copy)
        copy.close()
        source.close()

    def restore(backup: Path) -> str:
        restored.parent.mkdir()
        shutil.copy(backup, restored)
        return f"sqlite:///{restored}"

    return Kept(f"sqlite:///{live}", back_up, restore)


def _postgres(server: Postgres, url: str) -> Kept:
    programs = server.programs()
    name = url.rpartition("/")[2]
    at = ["--host", "127.0.0.1", "--port", str(server.port), "--username", "railtix"]

    def back_up(to: Path) -> None:
        run_to_end([programs / "pg_dump", *at, "--format=custom", f"--file={to}", name])

    def restore(backup: Path) -> str:
        restored = f"{name}_restored"
        again = server.create_database(restored)
        into = [*at, "--exit-on-error", f"--dbname={restored}", backup]
        run_to_end([programs / "pg_restore", *into])
        return again

    return Kept(url, back_up, restore)


def test_a_backup_of_a_running_cloud_comes_back_balanced_and_proven(
    kept: Kept, tmp_path: Path
) -> None:
    floor = Floor(kept.url, tmp_path / "state" / "keys", starts_at=None)
    guest, till = floor.add_guest(2000, paid=True), floor.add_till()
    floor.ask_one(till, till.deduct(floor.qr(guest), 350))
    backup, keys = tmp_path / "backup", tmp_path / "restored-state" / "keys"
    # The service goes on: its connections are open, and so is a reader's transaction.
    with floor.database.reading() as connection:
        before = connection.execute(select(credit_transactions.c.id)).scalars().all()
        kept.back_up(backup)
        backup_at = floor.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    floor.ask_one(till, till.deduct(floor.qr(guest), 250))
    shutil.copytree(tmp_path / "state" / "keys", keys)
    floor.close()

    restored = kept.restore(backup)
    config = tmp_path / "cloud.toml"
    config.write_text(f'state = "{keys.parent}"\ndatabase = "{restored}"\n')

    def run(*arguments: str) -> str:
        argv = [sys.executable, "-m", "cloud", *arguments, "--config", str(config)]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, env=_own())
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run("migrate")
    run("audit", "begin-epoch", "--reason", "the disk failed", "--backup-at", backup_at)
    run("reconcile")
    run("audit", "verify")
    database = Database(restored)
    with database.reading() as connection:
        assert connection.execute(select(credit_transactions.c.id)).scalars().all() == before
        said = connection.execute(select(audit_epochs.c.reason)).scalars().all()
    database.close()
    assert "the disk failed" in said


def _own() -> dict[str, str]:
    """Without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAILTIX_")}
