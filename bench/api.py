"""Phones at the HTTP edge: fresh QR tokens and balances a second, beside a bare FastAPI endpoint.

One `railtix-cloud api` process, one uvicorn process with nothing of ours; rounds alternate.
"""

import secrets
import shutil
import socket
import statistics
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert
from uuid_utils.compat import uuid7

from bench.cpu import read_cpu
from bench.machine import Machine, describe_machine
from bench.phones import Asked, ask
from bench.results import keep
from cloud.access.tokens import TokenKind, draw_token, hash_token
from cloud.clock import utc_clock
from cloud.store.database import Database, migrate
from cloud.store.tables import (
    attendee_sessions,
    credit_transactions,
    credit_wallets,
    events,
    stalls,
    users,
)
from venue.programs import Program
from venue.servers import Postgres

_EVENT: Final = "bench-fair"
_GOAL: Final = 0.5


class Row(msgspec.Struct, frozen=True):
    """One kind of request, over all its rounds."""

    database: str
    asked: str
    per_s: float
    p50_ms: float
    p99_ms: float
    to_bare_ratio: float
    """Of the rates, each round beside the bare one just before it: the median."""
    server_cpu_us: float
    """Processor time of the server's process for one answer."""
    cpu_to_bare_ratio: float
    """Of processor times; 1.0 is as cheap as nothing at all."""
    failed: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    attendees: int
    connections: int
    round_s: float
    rows: list[Row]
    rounds: dict[str, list[Asked]]


class _Round(msgspec.Struct, frozen=True):
    asked: Asked
    server_cpu_us: float


def main(
    *,
    attendees: Annotated[int, typer.Option(min=1)] = 20_000,
    connections: Annotated[int, typer.Option(min=1)] = 32,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    round_s: Annotated[float, typer.Option(min=0.5)] = 5.0,
    database: Annotated[
        str, typer.Option(help="sqlite, postgresql, or both.")
    ] = "sqlite,postgresql",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Ask as phones do, and compare with the least that FastAPI takes; exit 1 below the goal."""
    machine, rows, kept = describe_machine(), list[Row](), dict[str, list[Asked]]()
    for kind in database.split(","):
        with _servers(kind, attendees) as (cloud, bare, tokens):
            asked = _kinds(tokens, cloud[1])
            done: dict[str, list[_Round]] = {name: [] for name in ("bare", *asked)}
            _round(*bare, [_get("/")], connections, 1.0)
            for requests in asked.values():
                _round(*cloud, requests, connections, 1.0)
            for _ in range(rounds):
                done["bare"].append(_round(*bare, [_get("/")], connections, round_s))
                for name, requests in asked.items():
                    done[name].append(_round(*cloud, requests, connections, round_s))
        rows += [_row(kind, name, done[name], done["bare"]) for name in done]
        kept |= {f"{kind} {name}": [each.asked for each in done[name]] for name in done}
    figures = Figures(
        machine=machine,
        attendees=attendees,
        connections=connections,
        round_s=round_s,
        rows=rows,
        rounds=kept,
    )
    file = keep("api", figures)
    if as_json:
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    else:
        _show(figures, file)
    if any(each.failed or each.to_bare_ratio < _GOAL for each in rows):
        raise typer.Exit(1)


Server = tuple[Program, int]


@contextmanager
def _servers(kind: str, attendees: int) -> Generator[tuple[Server, Server, list[str]]]:
    folder = Path(tempfile.mkdtemp(prefix="railtix-bench-api-"))
    with ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        if kind == "postgresql":
            folder.chmod(0o755)  # PostgreSQL runs as a user of its own
            url = running.enter_context(Postgres(folder / "postgres")).create_database("railtix")
        else:
            url = f"sqlite:///{folder / 'cloud.sqlite'}"
        migrate(url)
        tokens = _lay_out(url, attendees)
        config, ready = folder / "cloud.toml", folder / "ready.json"
        config.write_text(
            f'state = "{folder / "state"}"\ndatabase = "{url.replace("+psycopg", "")}"\n'
            f'[http]\nport = 0\n[limits]\nwallet_qr = "10000/second"\n'
        )
        argv = [sys.executable, "-m", "cloud", "api", "--config", str(config)]
        cloud = Program(
            "cloud",
            [*argv, "--ready-file", str(ready)],
            folder / "cloud.log",
            ready=ready.exists,
            ready_within_s=120,
        )
        running.enter_context(cloud)
        port = _free_port()
        bare = Program(
            "bare",
            [sys.executable, "-m", "bench.bare", str(port)],
            folder / "bare.log",
            ready=lambda: _answers(port),
            ready_within_s=120,
        )
        running.enter_context(bare)
        yield (cloud, msgspec.json.decode(ready.read_bytes())["port"]), (bare, port), tokens


def _lay_out(url: str, attendees: int) -> list[str]:
    """Attendees with a session, a balance and ten transactions each; their bearer tokens."""
    database, now = Database(url), utc_clock()
    tokens = [draw_token(TokenKind.ATTENDEE_SESSION) for _ in range(attendees)]
    ids = [uuid7() for _ in tokens]
    try:
        with database.transaction() as connection:
            connection.execute(
                insert(events).values(
                    event_id=_EVENT,
                    name="Bench fair",
                    currency="EUR",
                    offline_rules={"allowed": True},
                    created_at=now,
                )
            )
            connection.execute(insert(stalls).values(event_id=_EVENT, stall_id="bar", name="Bar"))
            connection.execute(
                insert(users),
                [
                    {"user_id": each, "payer_id": secrets.token_urlsafe(9), "created_at": now}
                    for each in ids
                ],
            )
            connection.execute(
                insert(attendee_sessions),
                [
                    {
                        "hash": hash_token(token),
                        "user_id": user_id,
                        "created_at": now,
                        "expires_at": now + timedelta(days=1),
                    }
                    for token, user_id in zip(tokens, ids, strict=True)
                ],
            )
            connection.execute(
                insert(credit_wallets),
                [
                    {
                        "user_id": each,
                        "currency": "EUR",
                        "balance_in_cents": 5000,
                        "offline_frozen": False,
                        "updated_at": now,
                    }
                    for each in ids
                ],
            )
            connection.execute(
                insert(credit_transactions),
                [_transaction(user_id, now) for user_id in ids for _ in range(10)],
            )
    finally:
        database.close()
    return tokens


def _transaction(user_id: Any, now: datetime) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "id": uuid7(),
        "type": "Deduct",
        "direction": "out",
        "amount_in_cents": 350,
        "currency": "EUR",
        "reference": "AB12",
        "idempotency_key": secrets.token_hex(8),
        "correlation_id": secrets.token_hex(8),
        "created_at": now,
        "created_by": "staff:mia",
        "event_id": _EVENT,
        "stall_id": "bar",
    }


def _kinds(tokens: list[str], port: int) -> dict[str, list[bytes]]:
    """What phones ask: each time another one's turn."""
    body = msgspec.json.encode({"event_id": _EVENT})
    posted = (b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
    tag = _etag_of(port, tokens[0])
    return {
        "token": [
            f"POST /v1/wallet/qr HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {each}\r\n".encode()
            + posted
            for each in tokens
        ],
        "balance": [_get("/v1/wallet", f"Authorization: Bearer {each}") for each in tokens],
        "balance, unchanged": [
            _get("/v1/wallet", f"Authorization: Bearer {tokens[0]}", f"If-None-Match: {tag}")
        ],
    }


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


def _etag_of(port: int, token: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(_get("/v1/wallet", f"Authorization: Bearer {token}"))
        head = connection.recv(65536).decode("latin-1").partition("\r\n\r\n")[0]
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
    return headers.get("etag", '"none"')


def _round(
    server: Program, port: int, requests: list[bytes], connections: int, seconds: float
) -> _Round:
    before = read_cpu({"server": [server.pid]})
    asked = ask(port, requests, connections, seconds)
    cpu = read_cpu({"server": [server.pid]}).since(before)
    return _Round(asked, cpu.seconds["server"] / asked.answers * 1e6)


def _row(kind: str, name: str, rounds: list[_Round], bare: list[_Round]) -> Row:
    pairs = list(zip(rounds, bare, strict=True))
    return Row(
        database=kind,
        asked=name,
        per_s=statistics.median(each.asked.per_s for each in rounds),
        p50_ms=statistics.median(each.asked.ms["p50"] for each in rounds),
        p99_ms=statistics.median(each.asked.ms["p99"] for each in rounds),
        to_bare_ratio=statistics.median(own.asked.per_s / of.asked.per_s for own, of in pairs),
        server_cpu_us=statistics.median(each.server_cpu_us for each in rounds),
        cpu_to_bare_ratio=statistics.median(
            of.server_cpu_us / own.server_cpu_us for own, of in pairs
        ),
        failed=sum(
            count
            for each in rounds
            for status, count in each.asked.statuses.items()
            if status not in {200, 304}
        ),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _show(figures: Figures, file: Path) -> None:
    table = Table(title=f"{figures.connections} connections, {figures.attendees:,} attendees")
    for name in (
        "",
        "asked",
        "a second",
        "p50 / p99, ms",
        "to bare",
        "CPU us",
        "CPU to bare",
        "failed",
    ):
        table.add_column(name, justify="left" if name in {"", "asked"} else "right")
    for each in figures.rows:
        table.add_row(
            each.database,
            each.asked,
            f"{each.per_s:,.0f}",
            f"{each.p50_ms:.1f} / {each.p99_ms:.1f}",
            f"{each.to_bare_ratio:.2f}",
            f"{each.server_cpu_us:.0f}",
            f"{each.cpu_to_bare_ratio:.2f}",
            str(each.failed),
        )
    Console().print(table)
    Console().print(f"Kept in {file}.", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
