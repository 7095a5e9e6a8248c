"""From the revocation's answer to the refusal on the appliance's open connection, and until its
session at the broker has ended: one real cloud with its warden, one real broker."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import httpx
import msgspec
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.fair import Fair, SignedSale, keys_in, lay_out, sign_sale
from bench.machine import Machine, describe_machine
from bench.percentiles import percentiles
from bench.results import keep
from bench.wire import Wire
from cloud.store.database import Database
from cloud.worker.mqtt5 import Kind, ProtocolError, publish_packet, read_message
from protocol import topics
from protocol.encoding import from_base64url
from protocol.messages import Approved, Declined, Outcome, Reason, Reply, decode_reply
from protocol.signing import fingerprint
from venue.programs import Program
from venue.servers import Authority, Broker, Credentials

REFUSED_WITHIN_MS: Final = 1000.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    revocations: int
    posted_after_revocation: int
    revoke_ms: dict[str, float]
    """Of the POST itself."""
    refused_ms: dict[str, float]
    """From its answer to the signed refusal of a deduct sent right then."""
    session_ended_ms: dict[str, float]
    """From its answer to the broker's hanging up."""


def run(
    appliances: Annotated[int, typer.Option(min=2, help="How many are revoked.")] = 30,
) -> None:
    """Revoke appliances one after the other, each in the middle of selling."""
    console = Console(stderr=True)
    revoking: list[float] = []
    refusing: list[float] = []
    ending: list[float] = []
    posted = 0
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="railtix-bench-")))
        with console.status("Starting authority, broker and cloud"):
            fair, broker, desk = _start(running, folder, appliances)
        for number in track(range(appliances), "Revoking", console=console):
            appliance = fair.appliances[number]
            topic = topics.replies(appliance.device_id)
            wire = Wire(appliance.credentials, broker.host, broker.port, topic)
            payer = fair.payers[number]
            asking = topics.requests(appliance.device_id)
            assert isinstance(_ask(wire, asking, sign_sale(fair, appliance, payer, 1)), Approved)
            began = time.perf_counter()
            answer = desk.post(
                f"/v1/ops/devices/{appliance.device_id}/revoke", json={"reason": "benchmark"}
            )
            answered = time.perf_counter()
            answer.raise_for_status()
            outcome = _ask(wire, asking, sign_sale(fair, appliance, payer, 2))
            refusing.append((time.perf_counter() - answered) * 1000)
            posted += outcome != Declined(Reason.DEVICE_REVOKED)
            _until_hung_up(wire)
            ending.append((time.perf_counter() - answered) * 1000)
            revoking.append((answered - began) * 1000)
    figures = Figures(
        machine=describe_machine(),
        revocations=appliances,
        posted_after_revocation=posted,
        revoke_ms=percentiles(revoking),
        refused_ms=percentiles(refusing),
        session_ended_ms=percentiles(ending),
    )
    file = keep("revocation", figures)
    _show(figures)
    Console().print(f"Kept in {file}")
    raise typer.Exit(0 if posted == 0 and max(refusing) < REFUSED_WITHIN_MS else 1)


def _start(running: ExitStack, folder: Path, appliances: int) -> tuple[Fair, Broker, httpx.Client]:
    authority = Authority(folder / "authority")
    [worker] = authority.certify_workers("1")
    names = [f"till-{number}" for number in range(appliances)]
    credentials: Sequence[Credentials] = authority.certify_devices(*names)
    broker = running.enter_context(
        Broker(folder / "broker", authority.ca, authority.certify_server("broker"))
    )
    config, ready = folder / "cloud.toml", folder / "ready.json"
    config.write_text(
        f'state = "{folder / "state"}"\n[http]\nport = 0\naccess_log = false\n'
        f'[broker]\nhost = "{broker.host}"\nport = {broker.port}\n'
        f'certificate = "{worker.certificate}"\nkey = "{worker.key}"\n'
        f'authorities = "{worker.ca}"\n'
        f'[authority]\nfolder = "{authority.ca}"\nbroker_folder = "{broker.folder}"\n'
    )
    cloud = [sys.executable, "-m", "cloud"]
    subprocess.run([*cloud, "migrate", "--config", config], check=True, capture_output=True)
    made = subprocess.run(
        [*cloud, "token", "create", "bench", "--config", config],
        check=True,
        capture_output=True,
        text=True,
    )
    database = Database(f"sqlite:///{folder / 'state' / 'cloud.sqlite'}")
    fair = lay_out(database, keys_in(folder / "state"), credentials, appliances)
    database.close()
    argv = [*cloud, "serve", "--config", str(config), "--ready-file", str(ready)]
    running.enter_context(Program("cloud", argv, folder / "cloud.log", ready=ready.exists))
    desk = httpx.Client(
        base_url=str(json.loads(ready.read_text())["url"]),
        headers={"Authorization": f"Bearer {made.stdout.strip()}"},
        trust_env=False,
        timeout=20.0,
    )
    return fair, broker, running.enter_context(desk)


def _ask(wire: Wire, topic: str, sale: SignedSale) -> Outcome:
    """The signed answer; whose signature it is the appliance's tests check."""
    wire.send(publish_packet(topic, sale.jws, 1))
    while True:
        for packet in wire.packets():
            if packet.kind != Kind.PUBLISH:
                continue
            payload = from_base64url(read_message(packet).payload.split(b".")[1])
            assert payload is not None
            reply = decode_reply(payload)
            assert isinstance(reply, Reply)
            if reply.request_hash == fingerprint(sale.jws):
                return reply.outcome


def _until_hung_up(wire: Wire) -> None:
    try:
        while True:
            wire.packets()
    except (OSError, ProtocolError):
        wire.socket.close()


def _show(figures: Figures) -> None:
    table = Table(title=f"{figures.revocations} revocations")
    table.add_column("ms")
    for name in ("p50", "p95", "p99"):
        table.add_column(name, justify="right")
    for name, values in (
        ("the POST itself", figures.revoke_ms),
        ("until the next deduct is refused", figures.refused_ms),
        ("until its session has ended", figures.session_ended_ms),
    ):
        table.add_row(name, *(f"{values[each]:.1f}" for each in ("p50", "p95", "p99")))
    console = Console()
    console.print(table)
    console.print(f"posted after a revocation: {figures.posted_after_revocation}")


if __name__ == "__main__":
    typer.run(run)
