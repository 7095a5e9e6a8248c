import csv
import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import is_zipfile

import pytest
from typer.testing import CliRunner, Result

from cloud.__main__ import app
from tests.cloud.floor import EVENT, Floor
from tests.cloud.reports.books import Books, signed

Command = Callable[..., Result]


@pytest.fixture
def config(floor: Floor, tmp_path: Path) -> Path:
    config = tmp_path / "cloud.toml"
    config.write_text(f'state = "{tmp_path}"\ndatabase = "{floor.url}"\n')
    return config


@pytest.fixture
def command(config: Path) -> Command:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--config", str(config)])

    return run


@pytest.fixture
def books(floor: Floor) -> Books:
    books = Books.open(floor)
    books.add_at_random(11, 80)
    books.write()
    return books


def test_an_export_is_a_file_of_ones_own_and_a_summary(
    command: Command, books: Books, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    ended = command("export", "--format", "csv", "--out", str(out))
    assert ended.exit_code == 0, ended.output
    with out.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(books.rows)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert f"{len(books.rows)} transactions" in ended.stdout
    cents = sum(map(signed, books.rows))
    assert f"EUR: wallets changed by {'-' if cents < 0 else ''}{abs(cents) // 100}." in ended.stdout
    assert not list(tmp_path.glob(".out.csv.*"))


def test_an_export_to_stdout_is_the_file_and_nothing_else(command: Command, books: Books) -> None:
    ended = command("export", "--format", "jsonl", "--out", "-", "--type", "Purchase")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {row["type"] for row in rows} == {"Purchase"}
    assert f"{len(rows)} transactions" in ended.stderr


def test_a_workbook_comes_out_whole(command: Command, books: Books, tmp_path: Path) -> None:
    ended = command(
        *("export", "--format", "xlsx", "--out", str(tmp_path / "out.xlsx")),
        *("--from", "2026-06-21", "--until", "2026-06-22T02:00:00+02:00", "--stall", "bar"),
    )
    assert ended.exit_code == 0, ended.output
    assert is_zipfile(tmp_path / "out.xlsx")
    kept = [
        row
        for row in books.rows
        if row["created_at"].date().isoformat() == "2026-06-21" and row["stall_id"] == "bar"
    ]
    assert f"{len(kept)} transactions" in ended.stdout


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--event", "nowhere"), "There is no event 'nowhere'"),
        (("--from", "soon"), "'soon' is no date or time"),
        (("--out", "/nonexistent/out.csv"), "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    command: Command, books: Books, tmp_path: Path, asked: tuple[str, str], said: str
) -> None:
    before = set(tmp_path.iterdir())
    ended = command("export", "--format", "csv", "--out", str(tmp_path / "out.csv"), *asked)
    assert ended.exit_code == 2
    assert said in re.sub(r"\s*[│\n]\s*", " ", ended.stderr)
    assert not [path for path in set(tmp_path.iterdir()) - before if "out.csv" in path.name]


def test_an_export_that_fails_leaves_the_old_file_as_it_was(
    command: Command, books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("as it was")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    ended = command("export", "--format", "csv", "--out", str(out))
    assert ended.exit_code == 2
    assert out.read_text() == "as it was"
    assert not list(tmp_path.glob(".out.csv.*"))


def test_the_bar_is_drawn_on_a_terminal_alone(config: Path, books: Books) -> None:
    argv = [sys.executable, "-m", "cloud", "export", "--format", "csv", "--out", "-"]
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [*argv, "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
            check=True,
            timeout=60,
        )
        drawn = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"/{len(books.rows)}" in drawn
    assert ended.stdout.count(b"\r\n") == len(books.rows) + 1


def test_a_settlement_is_told_in_the_events_own_way(command: Command, floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 100), (2, 200))
    books.give_back(books.sell((7, 1)), 80)
    books.sell(cents=1234)
    books.write()
    whole = command("settlement", EVENT).stdout
    assert re.search(r"Summer fair: \d\d\.\d\d\.\d{4}, \d\d:\d\d", whole)
    assert "1.362,34\N{NO-BREAK SPACE}€" in whole
    bar = command("settlement", EVENT, "--stall", "bar").stdout
    assert "Keyed in" in bar
    assert "20.06.2026, 20:00" in bar


def test_a_settlement_is_json_and_csv_for_programs(command: Command, books: Books) -> None:
    ledger = -sum(map(signed, books.rows))
    said = json.loads(command("settlement", EVENT, "--json").stdout)
    assert said["ledger_in_cents"] == ledger
    bar = json.loads(command("settlement", EVENT, "--stall", "bar", "--json").stdout)
    assert bar["figures"] == said["stalls"][0]["figures"]
    lines = command("settlement", EVENT, "--csv").stdout.splitlines()
    rows = list(csv.DictReader(lines))
    assert [int(row["net_in_cents"]) for row in rows if row["part"] == "ledger"] == [ledger]


def test_figures_that_do_not_add_up_are_not_printed(command: Command, floor: Floor) -> None:
    books = Books.open(floor)
    books.sell((1, 1))["amount_in_cents"] += 1
    books.write()
    ended = command("settlement", EVENT)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert "differ: 350 and 351" in ended.stderr


@pytest.mark.parametrize("asked", [("nowhere",), (EVENT, "--stall", "moon")])
def test_no_settlement_of_what_is_not_there(command: Command, asked: tuple[str, ...]) -> None:
    ended = command("settlement", *asked)
    assert ended.exit_code == 2
    assert "There is no" in ended.stderr
