"""Who may say and hear what at the broker, judged by what arrives: docs/broker.md has the tables.

Mosquitto grants a subscription that it will never serve and acknowledges a publish that it drops.
A witness, added to the access list of these tests alone, hears everything that the broker takes.
"""

import os
import pwd
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol import topics
from provisioning.authority.certificates import Constraints, Device, Holder, Server, Worker
from provisioning.authority.credentials import Credentials
from provisioning.authority.folder import Authority, Issued, found, new_key
from provisioning.authority.passphrase import Passphrase
from provisioning.authority.refusals import NameNotAllowed
from provisioning.authority.register import Reason, Register
from provisioning.broker.configuration import ACCESS_FILE, CRL_FILE, Listener, Mosquitto
from provisioning.broker.folder import Planned, plan_folder, reload, replace_crl, write_folder
from provisioning.broker.inspection import findings
from provisioning.broker.papers import Sources
from provisioning.files import write_atomically
from tests.provisioning.mqtt_probe import HungUpError, Probe, connect, publish, showing
from venue.programs import Program, free_port, is_listening

ROOT = topics.ROOT
DOCS = Path(__file__).parents[2] / "docs" / "broker.md"
NOW = datetime.now(UTC)  # noqa: TID251 - mosquitto judges by the real clock
LIMIT_S = 60

APPLIANCE, ANOTHER = "bar-a", "bar-b"
WORKER, SECOND, UNLISTED = "cloud-worker-1", "cloud-worker-2", "cloud-worker-unlisted"
WITNESS = "cloud-worker-witness"
LEAVES = ("requests", "status", "replies", "policy")

COLUMNS = {
    "an appliance": APPLIANCE,
    "a worker": WORKER,
    "another worker": SECOND,
    "a worker that is not listed": UNLISTED,
}

# What a client is delivered that subscribes to this; `{own}` and `{other}` are names.
HEARD: Mapping[str, Sequence[str]] = {
    f"{ROOT}/{{own}}/replies": ["own replies"] * 4,
    f"{ROOT}/{{own}}/policy": ["own policy"] * 4,
    f"{ROOT}/{{own}}/requests": ["-", "own requests", "own requests", "-"],
    f"{ROOT}/{{own}}/status": ["-", "own status", "own status", "-"],
    f"{ROOT}/{{other}}/replies": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/policy": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/requests": ["-", "others' requests", "others' requests", "-"],
    f"{ROOT}/{{other}}/status": ["-", "others' status", "others' status", "-"],
    f"{ROOT}/+/requests": ["-", "all requests", "all requests", "-"],
    f"{ROOT}/+/status": ["-", "all status", "all status", "-"],
    f"{ROOT}/+/replies": ["own replies"] * 4,
    f"{ROOT}/+/policy": ["own policy"] * 4,
    f"{ROOT}/{{other}}/#": ["-", *["others' requests, others' status"] * 2, "-"],
    f"{ROOT}/#": [
        "own replies, own policy",
        *["all requests, all status, own replies, own policy"] * 2,
        "own replies, own policy",
    ],
    "#": [
        "own replies, own policy",
        *["all requests, all status, own replies, own policy"] * 2,
        "own replies, own policy",
    ],
    "+/+/+/+/+": [
        "own replies, own policy",
        *["all requests, all status, own replies, own policy"] * 2,
        "own replies, own policy",
    ],
    "$SYS/#": ["-", "-", "-", "-"],
    f"$share/a-group/{ROOT}/+/requests": ["-", "all requests", "all requests", "-"],
    f"$share/a-group/{ROOT}/{{other}}/replies": ["-", "-", "-", "-"],
    "$share/a-group/#": [
        "own replies, own policy",
        *["all requests, all status, own replies, own policy"] * 2,
        "own replies, own policy",
    ],
}

# Whether what a client publishes there is taken.
SAID: Mapping[str, Sequence[str]] = {
    f"{ROOT}/{{own}}/requests": ["yes"] * 4,
    f"{ROOT}/{{own}}/status": ["yes"] * 4,
    f"{ROOT}/{{own}}/status, retained": ["yes"] * 4,
    f"{ROOT}/{{own}}/status, as last will": ["yes"] * 4,
    f"{ROOT}/{{own}}/replies": ["-", "yes", "yes", "-"],
    f"{ROOT}/{{own}}/policy, retained": ["-", "yes", "yes", "-"],
    f"{ROOT}/{{other}}/requests": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/requests, as last will": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/status": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/status, retained": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/status, as last will": ["-", "-", "-", "-"],
    f"{ROOT}/{{other}}/replies": ["-", "yes", "yes", "-"],
    f"{ROOT}/{{other}}/policy, retained": ["-", "yes", "yes", "-"],
    f"{ROOT}/{{own}}/else": ["-", "-", "-", "-"],
    f"{ROOT}/{{own}}": ["-", "-", "-", "-"],
    f"{ROOT}/{{own}}/requests/more": ["-", "-", "-", "-"],
    "railtix/v1/other": ["-", "-", "-", "-"],
    "railtix/v2/devices/{own}/requests": ["-", "-", "-", "-"],
    "another/root": ["-", "-", "-", "-"],
    "$SYS/broker/uptime": ["-", "-", "-", "-"],
    "$CONTROL/dynamic-security/v1": ["-", "-", "-", "-"],
}


class Shut(Program):
    """mosquitto on a folder of `railtix-ops broker config`, and the authority behind it."""

    def __init__(self, folder: Path) -> None:
        founded = found(folder / "ca", Passphrase("a passphrase for tests"), Constraints(), NOW)
        assert isinstance(founded, Authority)
        self.authority = founded
        self.port = free_port()
        self.folder = folder / "broker"
        self._issued = folder / "issued"
        loopback = Server(("localhost",), (ip_address("127.0.0.1"),))
        sources = Sources(
            founded.chain_path,
            founded.crl_path,
            self.certify(loopback, "server") / "certificate.pem",
            self._issued / "server" / "key.pem",
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        listener = Listener(ip_address("127.0.0.1"), self.port)
        self.planned: tuple[Planned, ...] = plan_folder(
            self.folder, sources, listener, [WORKER, SECOND], Mosquitto(user)
        )
        write_folder(self.folder, self.planned, user)
        super().__init__(
            "mosquitto",
            [_mosquitto(), "-c", self.folder / "mosquitto.conf"],
            folder / "mosquitto.log",
            ready=lambda: is_listening(self.port),
        )

    def certify(self, holder: Holder, name: str, now: datetime = NOW) -> Path:
        credentials = Credentials(self._issued / name)
        key = credentials.own_key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issued = self.authority.issue(holder, key.public_key(), now)
        assert isinstance(issued, Issued)
        credentials.keep(issued)
        return credentials.folder

    def client(self, folder: Path | None, will: tuple[str, bytes] | None = None) -> Probe:
        return Probe(self.port, showing(folder, self.authority.root_path), will)

    def lets_in(self, folder: Path | None) -> bool:
        try:
            self.client(folder).vanish()
        except HungUpError:
            return False
        return True

    def comes_to(self, folder: Path, *, let_in: bool) -> None:
        """A signal is heard when mosquitto comes round to it."""
        for _ in range(int(LIMIT_S / 0.02)):
            if self.lets_in(folder) == let_in:
                return
            time.sleep(0.02)
        pytest.fail(f"let in: {not let_in}, still")


def _mosquitto() -> str:
    path = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert path is not None, "mosquitto is not installed"
    return path


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Shut]:
    with Shut(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="module")
def overheard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shut]:
    broker = Shut(tmp_path_factory.mktemp("overheard"))
    rights = (broker.folder / ACCESS_FILE).read_text()
    everything = "".join(f"topic read {each}\n" for each in ("#", "$SYS/#", "$CONTROL/#"))
    write_atomically(
        broker.folder / ACCESS_FILE, f"{rights}\nuser {WITNESS}\n{everything}".encode(), 0o600
    )
    with broker:
        yield broker


@pytest.fixture(scope="module")
def witness(overheard: Shut) -> Iterator[Probe]:
    folder = overheard.certify(Worker("witness"), WITNESS)
    with overheard.client(folder) as probe:
        for filter_ in ("#", "$SYS/#", "$CONTROL/#"):
            probe.subscribe(filter_)
        yield probe


@dataclass(frozen=True)
class Seen:
    """One run through both tables."""

    heard: Mapping[str, Sequence[str]]
    said: Mapping[str, Sequence[str]]


def other_of(name: str) -> str:
    return ANOTHER if name != ANOTHER else APPLIANCE


def look(broker: Shut, witness: Probe, folders: Mapping[str, Path]) -> Seen:
    """Try every row as every client, on one connection each."""
    with ExitStack() as connections:
        clients = {
            name: connections.enter_context(broker.client(folder))
            for name, folder in folders.items()
        }
        heard = {row: _hear(row, clients) for row in HEARD}
        said = {row: [_say(row, name, clients[name], witness) for name in _names()] for row in SAID}
    return Seen(heard, said)


def _names() -> list[str]:
    return list(COLUMNS.values())


def _hear(row: str, clients: Mapping[str, Probe]) -> list[str]:
    """Everybody subscribes, then everything that may be said is said."""
    filters = {
        name: row.replace("a-group", f"group-of-{name}").format(own=name, other=other_of(name))
        for name in _names()
    }
    for name, filter_ in filters.items():
        clients[name].caught_up()
        clients[name].subscribe(filter_)
    for name, client in clients.items():
        for leaf in ("requests", "status"):
            assert client.publish(f"{ROOT}/{name}/{leaf}", leaf.encode()) == 0
        for leaf in ("replies", "policy"):
            topic = f"{ROOT}/{name}/{leaf}"
            assert clients[WORKER].publish(topic, leaf.encode(), retain=leaf == "policy") == 0
    cells: list[str] = []
    for name, filter_ in filters.items():
        clients[name].unsubscribe(filter_)
        cells.append(_cell(name, {topic for topic, _ in clients[name].caught_up()}))
    return cells


def _cell(name: str, topics_heard: set[str]) -> str:
    """What was heard, in words; a topic that no word is for stands for itself."""
    words: list[str] = []
    for leaf in LEAVES:
        own = f"{ROOT}/{name}/{leaf}"
        others = {each for each in topics_heard if each.endswith(f"/{leaf}")} - {own}
        if own in topics_heard or others:
            whose = "own" if not others else "all" if own in topics_heard else "others'"
            words.append(f"{whose} {leaf}")
        topics_heard = topics_heard - others - {own}
    return ", ".join([*words, *sorted(topics_heard)]) or "-"


def _say(row: str, name: str, client: Probe, witness: Probe) -> str:
    topic, _, how = row.partition(", ")
    topic = topic.format(own=name, other=other_of(name))
    payload = f"{name}: {row}".encode()
    witness.caught_up()
    if how == "as last will":
        client.vanish()
        client.will = (topic, payload)
        with suppress(HungUpError):
            client.come_back()
        client.vanish()
        client.will = None
        # The broker sends the will before it answers the name's next connection.
        client.come_back()
    else:
        client.publish(topic, payload, retain=how == "retained")
    return "yes" if (topic, payload) in witness.caught_up() else "-"


@pytest.fixture(scope="module")
def folders(overheard: Shut) -> dict[str, Path]:
    certified = {name: overheard.certify(Device(name), name) for name in (APPLIANCE, ANOTHER)}
    for name in (WORKER, SECOND, UNLISTED):
        certified[name] = overheard.certify(Worker(name.removeprefix("cloud-worker-")), name)
    return certified


@pytest.fixture(scope="module")
def seen(overheard: Shut, witness: Probe, folders: Mapping[str, Path]) -> Seen:
    return look(overheard, witness, folders)


def test_each_client_is_delivered_what_the_table_says_and_nothing_else(seen: Seen) -> None:
    assert seen.heard == HEARD


def test_what_each_client_says_arrives_where_the_table_says_and_nowhere_else(seen: Seen) -> None:
    assert seen.said == SAID


def _has_read_again(broker: Shut, throw_away: str) -> None:
    """mosquitto says nothing of a reload: somebody who is revoked with it is seen to be refused."""
    folder = broker.certify(Device(throw_away), throw_away)
    broker.authority.revoke(throw_away, Reason.DECOMMISSIONED, NOW)
    replace_crl(broker.folder, broker.authority.crl_path.read_bytes())
    reload(broker.pid)
    broker.comes_to(folder, let_in=False)


def test_rights_are_the_same_after_the_broker_has_read_its_files_again(
    overheard: Shut, witness: Probe, folders: Mapping[str, Path]
) -> None:
    _has_read_again(overheard, "bar-gone")
    again = look(overheard, witness, folders)
    assert (again.heard, again.said) == (HEARD, SAID)


def test_whoever_takes_over_a_name_throws_it_out_and_has_its_rights_and_no_others(
    overheard: Shut, witness: Probe, folders: Mapping[str, Path]
) -> None:
    taking = overheard.certify(Device(APPLIANCE), "a-second-certificate-of-the-same-name")
    with overheard.client(folders[APPLIANCE]) as thrown_out:
        thrown_out.subscribe(f"{ROOT}/{APPLIANCE}/replies")
        overheard.client(taking).vanish()
        with pytest.raises(HungUpError, match=r"DISCONNECT 8e|closed|reset|EOF"):
            thrown_out.caught_up()
    seen = look(overheard, witness, {**folders, APPLIANCE: taking})
    assert (seen.heard, seen.said) == (HEARD, SAID)


def _by_hand(broker: Shut, name: str, folder: Path) -> Path:
    """A certificate that the authority refuses to make, signed with its key."""
    with pytest.raises(AssertionError):
        assert broker.authority.issue(Device(name), new_key().public_key(), NOW) is None
    issuer, key = broker.authority._issuer, new_key()
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "RailTix Credits"),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(issuer.key, hashes.SHA256())
    )
    return _kept(folder, key, certificate, broker.authority.folder / "issuing.pem")


def _kept(
    folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, issuer: Path
) -> Path:
    folder.mkdir()
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem + issuer.read_bytes())
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(plain)
    return folder


@pytest.mark.parametrize("name", ["+", "#", f"{ANOTHER}/requests", f"+/{ANOTHER}"])
def test_a_name_that_is_a_pattern_reaches_nobody_even_if_somebody_certified_it(
    overheard: Shut, witness: Probe, folders: Mapping[str, Path], name: str, tmp_path: Path
) -> None:
    odd = _by_hand(overheard, name, tmp_path / "odd")
    with (
        suppress(HungUpError),
        overheard.client(odd) as probe,
        overheard.client(folders[ANOTHER]) as another,
        overheard.client(folders[WORKER]) as worker,
    ):
        for filter_ in ("#", f"{ROOT}/{ANOTHER}/replies", f"{ROOT}/{ANOTHER}/#"):
            probe.subscribe(filter_)
        another.publish(f"{ROOT}/{ANOTHER}/requests", b"of another")
        worker.publish(f"{ROOT}/{ANOTHER}/replies", b"for another")
        assert probe.caught_up() == []
        witness.caught_up()
        probe.publish(f"{ROOT}/{ANOTHER}/requests", b"forged")
    assert b"forged" not in {payload for _, payload in witness.caught_up()}


def _strangers(broker: Shut, folder: Path) -> dict[str, Path | None]:
    """Everybody who is not to be let in; None shows no certificate."""
    foreign = found(folder / "foreign", Passphrase("another authority"), Constraints(), NOW)
    assert isinstance(foreign, Authority)

    def issued(authority: Authority, holder: Holder, name: str, now: datetime = NOW) -> Path:
        key = new_key()
        made = authority.issue(holder, key.public_key(), now)
        assert isinstance(made, Issued)
        return _kept(folder / name, key, made.certificate, authority.folder / "issuing.pem")

    own = broker.authority
    strangers: dict[str, Path | None] = {
        "no certificate": None,
        "an expired certificate": issued(own, Device(APPLIANCE), "old", NOW - timedelta(days=91)),
        "one that is not valid yet": issued(own, Device(APPLIANCE), "new", NOW + timedelta(days=1)),
        "a foreign authority's appliance": issued(foreign, Device(APPLIANCE), "foreign-a"),
        "a foreign authority's worker": issued(foreign, Worker("1"), "foreign-w"),
        "a server's certificate": issued(own, Server((APPLIANCE,)), "server"),
        "one that an appliance signed": _signed_by_an_appliance(broker, folder / "forged"),
    }
    revoked = issued(own, Device("bar-lost"), "lost")
    assert isinstance(own.revoke("bar-lost", Reason.KEY_COMPROMISE, NOW), Register)
    replace_crl(broker.folder, own.crl_path.read_bytes())
    return {**strangers, "a revoked certificate": revoked}


def _signed_by_an_appliance(broker: Shut, folder: Path) -> Path:
    key, forged_key = new_key(), new_key()
    appliance = broker.authority.issue(Device(APPLIANCE), key.public_key(), NOW)
    assert isinstance(appliance, Issued)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, WORKER)])
    forged = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(appliance.certificate.subject)
        .public_key(forged_key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    chain = folder.with_name("chain-of-the-forger.pem")
    chain.write_bytes(appliance.chain_pem)
    return _kept(folder, forged_key, forged, chain)


def _blurt(broker: Shut, context: ssl.SSLContext | None, payload: bytes) -> None:
    """Say hello and the message in one breath, without waiting to be let in."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=LIMIT_S) as plain:
        try:
            wire = (
                plain
                if context is None
                else context.wrap_socket(plain, server_hostname="localhost")
            )
            with closing(wire):
                wire.sendall(connect() + publish(f"{ROOT}/{APPLIANCE}/requests", payload, 1))
                while wire.recv(4096):
                    pass
        except OSError:
            return


def test_nobody_else_is_let_in_and_nothing_they_blurt_out_is_heard(
    overheard: Shut, witness: Probe, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    strangers = _strangers(overheard, tmp_path)
    reload(overheard.pid)
    lost = strangers["a revoked certificate"]
    assert lost is not None
    overheard.comes_to(lost, let_in=False)
    witness.caught_up()
    for who, folder in strangers.items():
        assert not overheard.lets_in(folder), who
        _blurt(overheard, showing(folder, overheard.authority.root_path), who.encode())
    _blurt(overheard, None, b"without TLS")
    with overheard.client(folders[APPLIANCE]) as let_in:
        let_in.publish(f"{ROOT}/{APPLIANCE}/requests", b"let in")
    heard = [payload for topic, payload in witness.caught_up() if topic.startswith(ROOT)]
    assert heard == [b"let in"]
    documented = DOCS.read_text("utf-8")
    for who in strangers:
        assert f"- {who}" in documented, who


def test_no_appliance_is_certified_under_a_workers_name(overheard: Shut) -> None:
    refused = overheard.authority.issue(Device(WORKER), new_key().public_key(), NOW)
    assert isinstance(refused, NameNotAllowed)


def test_a_list_past_its_time_locks_everybody_out_says_so_and_a_new_one_lets_them_in(
    shut: Shut,
) -> None:
    own = shut.certify(Device(APPLIANCE), APPLIANCE)
    assert shut.lets_in(own)
    shut.authority.publish_crl(NOW - timedelta(days=8))
    write_atomically(shut.folder / CRL_FILE, shut.authority.crl_path.read_bytes())
    reload(shut.pid)
    shut.comes_to(own, let_in=False)
    said = [each for each in findings(shut.folder, shut.planned, 10, NOW) if "expired" in each]
    assert len(said) == 1
    assert "mosquitto refuses every client until `railtix-ops ca crl`" in said[0]

    shut.authority.publish_crl(NOW)
    replace_crl(shut.folder, shut.authority.crl_path.read_bytes())
    reload(shut.pid)
    shut.comes_to(own, let_in=True)


def test_a_revoked_one_is_refused_once_the_list_is_replaced_and_the_broker_told(
    shut: Shut,
) -> None:
    lost, kept = (shut.certify(Device(name), name) for name in (APPLIANCE, ANOTHER))
    with shut.client(kept) as connected:
        shut.authority.revoke(APPLIANCE, Reason.KEY_COMPROMISE, NOW)
        assert shut.lets_in(lost), "the broker does not know yet"
        replace_crl(shut.folder, shut.authority.crl_path.read_bytes())
        reload(shut.pid)
        shut.comes_to(lost, let_in=False)
        assert connected.publish(f"{ROOT}/{ANOTHER}/requests", b"goes on") < 0x80
    assert shut.lets_in(kept)


def _table(rows: Mapping[str, Sequence[str]], head: str) -> str:
    lines = [f"| {head} | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, cells in rows.items():
        topic, comma, how = row.partition(", ")
        shown = topic.replace("{own}", "OWN").replace("{other}", "OTHER")
        lines.append(f"| `{shown}`{comma}{how} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "table", [lambda: _table(HEARD, "subscribes to"), lambda: _table(SAID, "publishes on")]
)
def test_the_docs_show_these_tables(table: Callable[[], str]) -> None:
    assert table() in DOCS.read_text("utf-8")
