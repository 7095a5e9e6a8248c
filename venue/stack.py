"""A whole venue on this machine: authority, broker, cloud and appliances, started and stopped."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from venue.attendee import Attendee
from venue.counter import Counter
from venue.desk import IssuedBadge, OpsDesk
from venue.edge import Edge
from venue.network import Network
from venue.programs import Program, free_port, run_to_end
from venue.servers import Authority, Broker, Credentials

CLOUD: Final = (sys.executable, "-m", "cloud")
EVENT: Final = "harbour-festival"
STALL: Final = "bar-north"
CURRENCY: Final = "EUR"
STAFF: Final = "mia"
PIN: Final = "4711"

DOCUMENT: Final[dict[str, Any]] = {
    "name": "Harbour Festival",
    "currency": CURRENCY,
    "locale": "en_IE",
    "timezone": "Europe/Dublin",
    # Shorter than the usual 4 s: here nobody but the person at the terminal waits.
    "reply_timeout_ms": 1000,
    "stalls": [
        {
            "id": STALL,
            "name": "Bar North",
            "products": [
                {"number": 1, "name": "Lager 0.4", "price_in_cents": 450},
                {"number": 2, "name": "Cider 0.4", "price_in_cents": 480},
                {"number": 3, "name": "Water 0.5", "price_in_cents": 250},
                {"number": 4, "name": "Fish and chips", "price_in_cents": 890},
            ],
        }
    ],
    "staff": [{"id": STAFF, "name": "Mia Byrne", "initials": "MB"}],
}

Doing = Callable[[str], AbstractContextManager[list[str]]]
"""Tells somebody what is being started; what is appended to the list is said of it."""


@dataclass
class Appliance:
    """One appliance: its program, its wire, and whoever stands at its counter."""

    device_id: str
    program: Program
    network: Network
    folder: Path
    socket: Path
    counter: Counter = field(init=False)

    def switch_on(self, rng: np.random.Generator) -> Counter:
        """Start the program and step up to its counter."""
        self.program.start()
        edge = Edge(self.socket, is_starting=lambda: self.program.running)
        self.counter = Counter(self.device_id, edge, self.program.log, rng)
        return self.counter

    def cut_power(self) -> None:
        """SIGKILL, as a pulled plug; `switch_on` starts it again."""
        self.program.kill()
        self.counter.edge.close()

    def switch_off(self) -> None:
        self.program.stop()
        if hasattr(self, "counter"):
            self.counter.edge.close()


class Venue:
    """Everything one event needs, in one folder; `with` starts it, and nothing outlives it."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        database: str | None = None,
        appliances: int = 1,
        document: dict[str, Any] | None = None,
        doing: Doing | None = None,
        seed: int = 1,
        relay_cloud: bool = False,
        enrols: bool = False,
        host: str = "localhost",
    ) -> None:
        """`folder`: where everything is kept; a temporary one that goes when the venue closes.

        `database`: a SQLAlchemy address; SQLite in the folder when there is none.
        `relay_cloud`: the cloud reaches the broker through `cloud_network`, which can be cut.
        `enrols`: the cloud has the authority, and a listener where appliances enrol; they reach it
        through `enrolment_network`.
        `host`: what appliances that enrol call this machine by; only loopback is listened at.
        """
        self._temporary = folder is None
        self.folder: Final = folder or Path(tempfile.mkdtemp(prefix="railtix-venue-"))
        self._database = database
        self._count = appliances
        self.document: Final = DOCUMENT if document is None else document
        self._doing: Doing = doing or _silently
        self._seed = seed
        self._relays_cloud = relay_cloud
        self._enrols = enrols
        self._host = host
        self._stack = ExitStack()
        self.appliances: list[Appliance] = []
        self.authority: Authority
        self.broker: Broker
        self.cloud: Program
        self.cloud_network: Network
        self.enrolment_network: Network
        self.base_url: str
        self.appliances_url: str | None = None
        """The listener where appliances enrol, past `enrolment_network`; None: there is none."""
        self.desk: OpsDesk
        self.badge: IssuedBadge

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.appliances:
            # Side by side, since each takes a moment; what fails here is met again below.
            with ThreadPoolExecutor(len(self.appliances) + 1) as hands:
                hands.submit(self.cloud.stop)
                hands.map(Appliance.switch_off, self.appliances)
        self._stack.close()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def attendee(self, email: str) -> Attendee:
        """A signed-in attendee, whose session ends with the venue."""
        attendee = Attendee(self.base_url, self.desk.invite(email), EVENT)
        self._stack.callback(attendee.close)
        return attendee

    def rng(self) -> np.random.Generator:
        """Chance for the next hand that holds a phone; the same in every run."""
        self._seed += 1
        return np.random.default_rng(self._seed)

    def reconcile(self) -> dict[str, Any]:
        """`railtix-cloud reconcile`'s verdict, from a process of its own."""
        return reconcile(self.cloud_config)

    def start_cloud_again(self) -> None:
        """After it ended, however it did; at the same address."""
        self._ready_file.unlink(missing_ok=True)
        self.cloud.start()

    @property
    def cloud_config(self) -> Path:
        return self.folder / "cloud.toml"

    @property
    def _ready_file(self) -> Path:
        return self.folder / "cloud-ready.json"

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        names = [f"bar-north-{number}" for number in range(1, self._count + 1)]
        # The database is made while the certificates are.
        broker_port = cloud_calls = free_port()
        if self._relays_cloud:
            self.cloud_network = Network(broker_port)
            self._stack.callback(self.cloud_network.close)
            cloud_calls = self.cloud_network.port
        listener_port = free_port()
        if self._enrols:
            self.enrolment_network = Network(listener_port)
            self._stack.callback(self.enrolment_network.close)
        background = self._stack.enter_context(ThreadPoolExecutor(1))
        worker = Credentials(self.folder / "authority" / "issued" / "cloud-worker-1")
        listener = self._listener_settings(listener_port, broker_port) if self._enrols else ""
        token = background.submit(self._prepare_cloud, worker, cloud_calls, listener)
        with self._doing("certificate authority") as said:
            self.authority = Authority(self.folder / "authority")
            with ThreadPoolExecutor(4) as clerks:
                for_broker = clerks.submit(self._set_up_broker, broker_port)
                for_worker = clerks.submit(self.authority.certify_workers, "1")
                for_devices = clerks.submit(self._certify_devices, names)
                if self._enrols:
                    clerks.submit(self.authority.certify_server, "appliances", self._host).result()
            identities = for_devices.result()
            for_worker.result()
            said.append("P-256 root, issuing CA, CRL")
        with self._doing("broker") as said:
            self.broker = self._stack.enter_context(for_broker.result())
            said += ["mosquitto, mutual TLS, access list", f"port {self.broker.port}"]
        with self._doing("cloud") as said:
            self._start_cloud(token.result())
            said += [self._database_name(), self.base_url]
        with self._doing("event") as said:
            self.desk.apply_event(EVENT, self.document)
            self.badge = self.desk.issue_badge(EVENT, STAFF, PIN)
            said.append(f"{self.document['name']}, {self.document['stalls'][0]['name']}")
        with self._doing("appliances" if self._count > 1 else "appliance") as said:
            trust = {"policy_keys": [self.desk.policy_key()]}
            for name, identity in zip(names, identities, strict=True):
                self._install(name, identity, trust).switch_on(self.rng())
            for appliance in self.appliances:
                appliance.counter.wait_until_open()
            said += [", ".join(names) or "none so far", "railtix-pos run"]

    def blank(
        self, name: str = "out-of-the-box", *, serial: str = "", relays: bool = False
    ) -> Appliance:
        """An appliance as it comes out of its box: nothing is set but its parts.

        `relays`: it reaches the broker through its `network`, whatever the cloud says.
        """
        network = Network(self.broker.port)
        broker = f"[broker]\nhost = {_quoted(self.broker.host)}\nport = {network.port}\n"
        settings = f"[enrolment]\nserial = {_quoted(serial)}\n{broker if relays else ''}"
        appliance = self._appliance(name, settings, network)
        appliance.switch_on(self.rng())
        return appliance

    def _certify_devices(self, names: list[str]) -> list[Credentials]:
        return self.authority.certify_devices(*names) if names else []

    def _listener_settings(self, port: int, broker_port: int) -> str:
        own = Credentials(self.folder / "authority" / "issued" / "appliances")
        return (
            f"[authority]\nfolder = {_quoted(self.folder / 'authority' / 'ca')}\n"
            f"broker_folder = {_quoted(self.folder / 'broker')}\n"
            f"[appliances]\nport = {port}\n"
            f"certificate = {_quoted(own.certificate)}\nkey = {_quoted(own.key)}\n"
            f'url = "https://{self._host}:{self.enrolment_network.port}"\n'
            f'broker_host = "{self._host}"\nbroker_port = {broker_port}\n'
        )

    def _set_up_broker(self, port: int) -> Broker:
        return Broker(
            self.folder / "broker",
            self.authority.ca,
            self.authority.certify_server("broker", self._host),
            workers=["cloud-worker-1"],
            port=port,
        )

    def _prepare_cloud(self, worker: Credentials, broker_port: int, listener: str) -> str:
        """Settings, tables, and an access token for the ops desk."""
        database = "" if self._database is None else f"database = {_quoted(self._database)}\n"
        self.cloud_config.write_text(
            f"state = {_quoted(self.folder / 'cloud')}\n{database}"
            f"[http]\nport = {free_port()}\n"
            f'[broker]\nhost = "localhost"\nport = {broker_port}\n'
            f"certificate = {_quoted(worker.certificate)}\nkey = {_quoted(worker.key)}\n"
            f"authorities = {_quoted(worker.ca)}\n"
            f'[payments]\nprovider = "test"\n{listener}',
            "utf-8",
        )
        self.cloud_config.chmod(0o600)
        config = ["--config", self.cloud_config]
        run_to_end([*CLOUD, "migrate", *config])
        return run_to_end([*CLOUD, "token", "create", "venue", *config]).strip()

    def _start_cloud(self, token: str) -> None:
        ready_file = self._ready_file
        self.cloud = Program(
            "railtix-cloud",
            [*CLOUD, "serve", "--config", self.cloud_config, "--ready-file", ready_file],
            self.folder / "cloud.log",
            ready=ready_file.exists,
        )
        self._stack.enter_context(self.cloud)
        ready: dict[str, Any] = json.loads(ready_file.read_bytes())
        self.base_url = f"http://127.0.0.1:{ready['port']}"
        self.appliances_url = ready.get("appliances_url")
        self.desk = self._stack.enter_context(OpsDesk(self.base_url, token))

    def _install(self, name: str, identity: Credentials, trust: dict[str, Any]) -> Appliance:
        self.desk.register_device(name, identity.certificate, EVENT, STALL)
        folder = self.folder / name
        shutil.copytree(identity.folder, folder / "identity")
        (folder / "identity" / "trust.json").write_text(json.dumps(trust), "ascii")
        network = Network(self.broker.port)
        broker = f"[broker]\nhost = {_quoted(self.broker.host)}\nport = {network.port}\n"
        return self._appliance(name, broker, network)

    def _appliance(self, name: str, settings: str, network: Network) -> Appliance:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self._stack.callback(network.close)
        # A Unix socket's path holds 107 characters: state folders may be longer.
        sockets = Path(tempfile.mkdtemp(prefix="railtix-edge-"))
        self._stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        config = folder / "pos.toml"
        config.write_text(
            f"{settings}[state]\ndirectory = {_quoted(folder)}\n"
            f'[hardware]\nkind = "simulated"\nsocket = {_quoted(sockets / "edge")}\n',
            "utf-8",
        )
        program = Program(
            name,
            [sys.executable, "-m", "device", "run", "--config", config],
            self.folder / f"{name}.log",
        )
        appliance = Appliance(name, program, network, folder, sockets / "edge")
        self._stack.callback(appliance.switch_off)
        self.appliances.append(appliance)
        return appliance

    def _database_name(self) -> str:
        return "SQLite" if self._database is None else self._database.partition(":")[0]


def reconcile(cloud_config: Path) -> dict[str, Any]:
    """Run `railtix-cloud reconcile --json`; it exits with 1 where a balance is wrong."""
    program = Program(
        "reconcile",
        [*CLOUD, "reconcile", "--json", "--config", cloud_config],
        cloud_config.with_name("reconcile.json"),
    )
    program.log.unlink(missing_ok=True)
    with program:
        program.wait(60)
    lines = [line for line in program.output().splitlines() if line.startswith("{")]
    return json.loads(lines[-1])


def _quoted(value: object) -> str:
    """A TOML basic string is spelled as JSON spells it."""
    return json.dumps(str(value))


def _silently(_: str) -> AbstractContextManager[list[str]]:
    class Nobody(AbstractContextManager[list[str]]):
        def __enter__(self) -> list[str]:
            return []

        def __exit__(self, *_: object) -> None:
            return None

    return Nobody()
