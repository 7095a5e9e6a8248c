"""How railtix-ops asks the cloud: HTTP as whoever is signed in; refusals in one sentence."""

import os
import re
import ssl
import stat
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, cast

import httpx
import typer

from provisioning.cli.sessions import Session, Sessions
from provisioning.cli.settings import Settings, named, read_settings, when_the_command_ends
from provisioning.cli.speaking import out, refuse

URL_VARIABLE: Final = "RAILTIX_OPS_URL"
TOKEN_VARIABLE: Final = "RAILTIX_OPS_TOKEN"  # noqa: S105  # the name of a variable
DEFAULT_URL: Final = ""
"""Unless it is named: where one is signed in, what the settings say, or this machine."""
LOCAL_URL: Final = "http://localhost:8000"
TIMEOUT_S: Final = 20.0
OCTETS: Final = "application/octet-stream"
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-]+)+(?:\?[!-~]*)?")

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar=URL_VARIABLE,
        help="Where the cloud answers; once signed in it need not be said.",
        metavar="URL",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help=f"For programs: a file with an access token ({TOKEN_VARIABLE} holds one)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: the cloud's answer as JSON.")]

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Changed:
    """The cloud's 412: somebody else changed what this was made from."""

    told: str


@dataclass(frozen=True, slots=True)
class Access:
    """Which cloud, and what opens it."""

    url: str
    ca: Path | None
    secret: str = field(repr=False)
    session: Session | None
    """None: it is a program's token."""


class Cloud:
    """One command's line to the cloud; whatever it refuses ends the command."""

    def __init__(self, url: str, token_file: Path | None) -> None:
        self.access: Final = find_access(url, token_file)
        self._http = line(self.access.url, self.access.ca)
        self._http.headers["Authorization"] = f"Bearer {self.access.secret}"

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None).json()

    def get_tagged(self, path: str) -> tuple[Any, str]:
        """The answer and its ETag: what `put_if` makes its condition."""
        answer = self._ask("GET", path, None)
        return answer.json(), answer.headers["ETag"]

    def post(self, path: str, body: Document) -> Any:
        return self._ask("POST", path, body).json()

    def put(self, path: str, body: Document) -> Any:
        return self._ask("PUT", path, body).json()

    def put_part(self, path: str, part: bytes) -> Any:
        """Raw octets; the answer."""
        answer = self._send("PUT", path, None, {"Content-Type": OCTETS}, content=part)
        if not answer.is_success:
            self._refuse(answer)
        return answer.json()

    def send_if(self, method: str, path: str, body: Document, condition: dict[str, str]) -> Any:
        """The answer, or `Changed` where the condition is not met."""
        answer = self._send(method, path, body, condition)
        if answer.status_code == HTTPStatus.PRECONDITION_FAILED:
            return Changed(explain(answer))
        if not answer.is_success:
            self._refuse(answer)
        return answer.json()

    def _ask(self, method: str, path: str, body: Document | None) -> httpx.Response:
        answer = self._send(method, path, body, {})
        if not answer.is_success:
            self._refuse(answer)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: Document | None,
        headers: dict[str, str],
        *,
        content: bytes | None = None,
    ) -> httpx.Response:
        if _PATH.fullmatch(path) is None:
            # A name with a slash or dots in it would ask for something else.
            refuse("a name is made of a-z, 0-9 and inner hyphens")
        return send(self._http, method, f"/v1/ops{path}", body, headers, content=content)

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        session = self.access.session
        if answer.status_code == HTTPStatus.UNAUTHORIZED and session is not None:
            refuse(
                f"{session.user_name}'s session at {self.access.url} is over (it was good until "
                f"{session.expires_at:%Y-%m-%d %H:%M} UTC unless somebody ended it): "
                "`railtix-ops sign-in`, then the same again"
            )
        refuse(explain(answer))


def line(url: str, ca: Path | None) -> httpx.Client:
    """Open until the command ends."""
    try:
        trust = ssl.create_default_context(cafile=None if ca is None else str(ca))
        http = httpx.Client(base_url=url, timeout=TIMEOUT_S, verify=trust)
    except (OSError, httpx.InvalidURL) as why:
        refuse(f"{ca or url}: {why}")
    when_the_command_ends(http.close)
    return http


def send(
    http: httpx.Client,
    method: str,
    path: str,
    body: Document | None,
    headers: dict[str, str] | None = None,
    *,
    content: bytes | None = None,
) -> httpx.Response:
    """Whatever the cloud answers; none ends the command. `content`: instead of a JSON body."""
    try:
        return http.request(method, path, json=body, content=content, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        hint = "is it running?"
        if "CERTIFICATE_VERIFY_FAILED" in str(fault):
            hint = "is its certificate by an authority of your own? then name that with --ca FILE"
        refuse(f"the cloud at {str(http.base_url).rstrip('/')} does not answer ({fault}); {hint}")


def find_url(url: str, settings: Settings, *, is_named: bool, current: str | None) -> str:
    """`is_named`: somebody named the settings' file for this very command."""
    candidates = (
        url,
        settings.url if is_named else None,
        current,
        settings.url,
        LOCAL_URL,
    )
    return next(each for each in candidates if each).rstrip("/")


def find_ca(settings: Settings, session: Session | None) -> Path | None:
    """The authorities to believe: as said, as at the sign-in, as set; None: the system's."""
    at_sign_in = None if session is None else session.ca
    found = named().ca or at_sign_in or settings.ca
    return None if found is None else Path(found)


def find_access(url: str, token_file: Path | None) -> Access:
    """A program's token where there is one, else whoever is signed in at that cloud."""
    settings, is_named = read_settings()
    sessions = Sessions.read()
    found = find_url(url, settings, is_named=is_named, current=sessions.current)
    session = sessions.of(found)
    ca = find_ca(settings, session)
    token = _read_token(token_file or (Path(settings.token_file) if settings.token_file else None))
    if token:
        return Access(found, ca, token, None)
    if session is None:
        refuse(
            f"nobody is signed in at {found}: `railtix-ops sign-in --url {found}`; a program sets "
            f"{TOKEN_VARIABLE} or --token-file instead (`railtix-cloud token create NAME` on the "
            "server makes an access token)"
        )
    return Access(found, ca, session.bearer, session)


def show_json(answer: Any) -> None:
    out.print_json(data=answer)


def explain(answer: httpx.Response) -> str:
    """The problem document's sentences, and what is wrong with each member."""
    try:
        problem = cast("Document", answer.json())
        said = [f"{problem['detail']} {problem['next_step']}", *problem.get("errors", [])]
    except (ValueError, KeyError, TypeError):
        return f"the cloud answered {answer.status_code}, and no problem document of ours"
    return "\n  ".join(str(line) for line in said)


def _read_token(token_file: Path | None) -> str:
    """Empty where no program's token is named."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        try:
            if stat.S_IMODE(token_file.stat().st_mode) & 0o077:
                refuse(f"others may read the token file {token_file}: chmod 600 it")
            token = token_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as why:
            refuse(f"{token_file}: {why}")
    return token.strip()
