"""A real `railtix-cloud serve` and a real browser; both end with the tests."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cloud.store.database import Database
from tests.browser.served import Served
from venue.programs import Program

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    config, ready, state = folder / "cloud.toml", folder / "ready.json", folder / "state"
    config.write_text(f'state = "{state}"\n[http]\nport = 0\n[payments]\nprovider = "test"\n')
    _cloud("migrate", "--config", config)
    token = _cloud("token", "create", "ana", "--config", config).strip()
    argv = [sys.executable, "-m", "cloud", "serve", "--config", config, "--ready-file", ready]
    with Program("cloud", argv, folder / "cloud.log", ready=ready.exists):
        database = Database(f"sqlite:///{state / 'cloud.sqlite'}")
        server = Served(json.loads(ready.read_text())["url"], token, database)
        yield server
        server.ops.close()
        database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Gone with its module: while it is there, this thread can run no other event loop."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


def _cloud(*arguments: str | Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "cloud", *arguments], check=True, capture_output=True, text=True
    ).stdout
