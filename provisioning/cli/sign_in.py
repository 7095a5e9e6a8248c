"""railtix-ops sign-in, sign-out, whoami: name, password and second factor; twelve hours."""

import ipaddress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.markup import escape

from provisioning.cli.cloud import (
    DEFAULT_URL,
    TOKEN_VARIABLE,
    AsJson,
    TokenFile,
    Url,
    explain,
    find_access,
    find_ca,
    find_url,
    line,
    send,
    show_json,
)
from provisioning.cli.sessions import Session, Sessions
from provisioning.cli.settings import read_settings
from provisioning.cli.speaking import err, out, refuse, the_time

_SESSION: Final = "/v1/console/session"
_BROADEST: Final = "every event"


def sign_in(
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Your name at the console.")
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    ca: Annotated[
        Path | None,
        typer.Option(help="The authority of a cloud whose certificate is by your own: ca.pem."),
    ] = None,
) -> None:
    """Sign in with name, password and the code of your authenticator. It lasts twelve hours.

    The cloud and its authority are remembered: later commands need neither `--url` nor `--ca`.

    **Examples**

    `railtix-ops sign-in --url https://credits.example.org --user ana`

    `railtix-ops sign-in --url https://10.0.0.5 --ca /etc/railtix/ca.pem`
    """
    settings, is_named = read_settings()
    sessions = Sessions.read()
    found = find_url(url, settings, is_named=is_named, current=sessions.current)
    before = sessions.of(found)
    authority = ca or find_ca(settings, before)
    _refuse_plain(found)
    http = line(found, authority)
    name = user or typer.prompt("Name")
    body = {
        "user_name": name,
        "password": typer.prompt("Password", hide_input=True),
        "totp": str(typer.prompt("Code of your authenticator")).replace(" ", ""),
        "bearer": True,
    }
    answer = send(http, "POST", _SESSION, body)
    if not answer.is_success:
        refuse(explain(answer))
    said: Any = answer.json()
    expires_at = datetime.fromtimestamp(said["expires_at_ms"] / 1000, UTC)
    kept_ca = None if authority is None else str(authority.absolute())
    try:
        sessions.keep(found, Session(said["user_name"], said["bearer"], expires_at, kept_ca))
    except OSError as why:
        _end(http, said["bearer"])
        refuse(f"{sessions.path}: {why}; the session was ended again")
    if before is not None:
        _end(http, before.bearer)
    out.print(
        f"[green]Signed in[/] as [bold]{escape(said['user_name'])}[/] at {found} "
        f"until {_until(expires_at)}"
    )


def sign_out(url: Url = DEFAULT_URL) -> None:
    """End the session, here and at the cloud."""
    settings, is_named = read_settings()
    sessions = Sessions.read()
    found = find_url(url, settings, is_named=is_named, current=sessions.current)
    session = sessions.of(found)
    if session is None:
        out.print(f"Nobody is signed in at {found}")
        return
    is_ended = _end(line(found, find_ca(settings, session)), session.bearer)
    try:
        sessions.forget(found)
    except OSError as why:
        refuse(f"{sessions.path}: {why}")
    out.print(f"{escape(session.user_name)} is signed out of {found}")
    if not is_ended:
        err.print(
            "[yellow]The cloud does not answer.[/] Here the session is gone; there it ends "
            f"{_until(session.expires_at)}, or when an admin ends it"
        )


def whoami(url: Url = DEFAULT_URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Who is signed in, where, until when, and what they may do."""
    access = find_access(url, token_file)
    session = access.session
    http = line(access.url, access.ca)
    if session is None:
        if as_json:
            show_json({"url": access.url, "user_name": None, "grants": None, "expires_at": None})
            return
        out.print(f"A program's access token ({TOKEN_VARIABLE} or a file) at {access.url}")
        return
    answer = send(http, "GET", _SESSION, None, _bearer(session.bearer))
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        refuse(f"{session.user_name}'s session at {access.url} was ended: `railtix-ops sign-in`")
    if not answer.is_success:
        refuse(explain(answer))
    said: Any = answer.json()
    if as_json:
        show_json({"url": access.url, "expires_at": session.expires_at.isoformat(), **said})
        return
    out.print(f"[bold]{escape(said['user_name'])}[/] at {access.url} {_left(session.expires_at)}")
    if not said["grants"]:
        out.print("  [yellow]may do nothing yet[/]: ask an admin for the role ops")
    for grant in said["grants"]:
        places = [each for each in (grant["stall_id"], grant["event_id"]) if each is not None]
        out.print(f"  {grant['role']} for {' at '.join(places) or _BROADEST}")


def _end(http: httpx.Client, bearer: str) -> bool:
    """Whether the cloud said that it is over."""
    try:
        return http.request("DELETE", _SESSION, headers=_bearer(bearer)).is_success
    except httpx.HTTPError:
        return False


def _refuse_plain(url: str) -> None:
    """A password goes over TLS, or not beyond this machine."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as why:
        refuse(f"{url}: {why}")
    if parts.scheme not in {"http", "https"} or not parts.host:
        refuse(f"{url} is no address of a cloud: https://credits.example.org would be one")
    if parts.scheme == "http" and not _is_this_machine(parts.host):
        refuse(f"{url} would carry the password in the clear: use https://")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _left(expires_at: datetime) -> str:
    minutes = max(expires_at - the_time(), timedelta(0)) // timedelta(minutes=1)
    return f"for {minutes // 60} h {minutes % 60:02d} min more (until {_until(expires_at)})"


def _until(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
