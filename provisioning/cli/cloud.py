"""How railtix-ops asks the cloud: HTTP with an access token; refusals in one sentence."""

import os
import stat
from pathlib import Path
from typing import Annotated, Any, Final, cast

import httpx
import typer

from provisioning.cli.speaking import out, refuse

URL_VARIABLE: Final = "RAILTIX_OPS_URL"
TOKEN_VARIABLE: Final = "RAILTIX_OPS_TOKEN"  # noqa: S105  # the name of a variable
DEFAULT_URL: Final = "http://localhost:8000"
TIMEOUT_S: Final = 20.0

Url = Annotated[
    str, typer.Option("--url", envvar=URL_VARIABLE, help="Where the cloud answers.", metavar="URL")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help=f"A file with the access token, unless {TOKEN_VARIABLE} holds it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: the cloud's answer as JSON.")]

Document = dict[str, Any]


class Cloud:
    """One command's line to the cloud; whatever it refuses ends the command."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/v1/ops",
            headers={"Authorization": f"Bearer {_read_token(token_file)}"},
            timeout=TIMEOUT_S,
        )
        self._url = url

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Document) -> Any:
        return self._ask("POST", path, body)

    def put(self, path: str, body: Document) -> Any:
        return self._ask("PUT", path, body)

    def _ask(self, method: str, path: str, body: Document | None) -> Any:
        try:
            with self._http:
                answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as fault:
            refuse(f"the cloud at {self._url} does not answer ({fault}); is it running?")
        if not answer.is_success:
            refuse(_explain(answer))
        return answer.json()


def show_json(answer: Any) -> None:
    out.print_json(data=answer)


def _read_token(token_file: Path | None) -> str:
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        if stat.S_IMODE(token_file.stat().st_mode) & 0o077:
            refuse(f"others may read the token file {token_file}: chmod 600 it")
        token = token_file.read_text(encoding="utf-8")
    token = token.strip()
    if not token:
        refuse(
            f"no access token: set {TOKEN_VARIABLE} or --token-file "
            "(`railtix-cloud token create NAME` on the server makes one)"
        )
    return token


def _explain(answer: httpx.Response) -> str:
    """The problem document's sentences, and what is wrong with each member."""
    try:
        problem = cast("Document", answer.json())
        said = [f"{problem['detail']} {problem['next_step']}", *problem.get("errors", [])]
    except (ValueError, KeyError, TypeError):
        return f"the cloud answered {answer.status_code}, and no problem document of ours"
    return "\n  ".join(str(line) for line in said)
