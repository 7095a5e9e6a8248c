"""railtix-ops as somebody types it, asking the HTTP edge behind a real server."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from provisioning.cli.app import app
from tests.cloud.api.edge import Edge


class Ops:
    def __init__(self, edge: Edge, home: Path) -> None:
        self.edge = edge
        self.home = home
        self.url = str(edge.http.base_url).rstrip("/")
        self.environment: dict[str, str | None] = {
            "RAILTIX_OPS_URL": self.url,
            "RAILTIX_OPS_TOKEN": edge.ops_token,
            "RAILTIX_OPS_CONFIG": None,
            "RAILTIX_OPS_CA": None,
            "XDG_CONFIG_HOME": str(home / "config"),
            "COLUMNS": "200",
            "NO_PROXY": "*",
        }

    def run(self, *arguments: str | Path, says: str | None = None) -> Result:
        """`says`: what is typed."""
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, words, env=self.environment, input=says)

    def does(self, *arguments: str | Path, says: str | None = None) -> str:
        ended = self.run(*arguments, says=says)
        assert (ended.exit_code, ended.stderr) == (0, ""), ended.stdout
        return ended.stdout

    def refuses(self, *arguments: str | Path, code: int = 1, says: str | None = None) -> str:
        ended = self.run(*arguments, says=says)
        assert ended.exit_code == code, (ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def answers(self, *arguments: str | Path) -> Any:
        return json.loads(self.does(*arguments, "--json"))
