import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning.authority.certificates import Device
from provisioning.authority.credentials import Credentials as Kept
from provisioning.authority.folder import Authority as Signing
from provisioning.authority.folder import Issued
from provisioning.authority.passphrase import Passphrase, find_passphrase
from tests.journeys.bar import WITHIN_S, Bar, eventually, now
from venue.edge import Edge
from venue.lights import Light
from venue.programs import Program
from venue.servers import Authority

pytestmark = pytest.mark.xdist_group("venue")

NAME = "bar-south-9"


class Stranger:
    """An appliance's program at this venue's broker, with an identity of its own."""

    def __init__(self, bar: Bar, folder: Path, identity: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        identity.rename(self.state / "identity")
        trust = {"policy_keys": [bar.venue.desk.policy_key()]}
        (self.state / "identity" / "trust.json").write_text(json.dumps(trust), "ascii")
        self._sockets = tempfile.TemporaryDirectory(prefix="railtix-edge-")
        self.edge_socket = Path(self._sockets.name) / "edge"
        config = folder / "pos.toml"
        config.write_text(
            f'[broker]\nhost = "{bar.venue.broker.host}"\nport = {bar.venue.broker.port}\n'
            f'[state]\ndirectory = "{self.state}"\n'
            f'[hardware]\nkind = "simulated"\nsocket = "{self.edge_socket}"\n',
            "utf-8",
        )
        argv = [sys.executable, "-m", "device", "run", "--config", config]
        self.program = Program(NAME, argv, folder / "pos.log")

    def close(self) -> None:
        code = self.program.stop()
        self._sockets.cleanup()
        assert code in {0, 2}, f"it had to be killed: {code}"

    def logged(self, *events: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.program.output().splitlines()]
        return [line for line in lines if line["event"] in events]


Arrive = Callable[[Path], Stranger]


@pytest.fixture
def arrive(bar: Bar, tmp_path: Path) -> Iterator[Arrive]:
    """Switches an appliance on that has this identity; it is switched off with the test."""
    with ExitStack() as stack:

        def arrive_at_the_bar(identity: Path) -> Stranger:
            stranger = Stranger(bar, tmp_path, identity)
            stack.callback(stranger.close)
            stranger.program.start()
            return stranger

        yield arrive_at_the_bar


@pytest.fixture
def signing(bar: Bar) -> Signing:
    """The venue's authority, in this process."""
    folder = bar.venue.authority.ca
    passphrase = find_passphrase(folder, None, {})
    assert isinstance(passphrase, Passphrase)
    signing = Signing.open(folder, passphrase)
    assert isinstance(signing, Signing)
    return signing


def certified(signing: Signing, folder: Path, at: datetime) -> Path:
    kept = Kept(folder)
    key = kept.own_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    issued = signing.issue(Device(NAME), key.public_key(), at)
    assert isinstance(issued, Issued)
    kept.keep(issued)
    return folder


def real_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 -- mosquitto judges by the real clock


def broker_said(bar: Bar, offset: int, *words: str) -> None:
    """Wait until the broker's log has a line with these words."""

    def look() -> bool | None:
        lines = bar.venue.broker.output()[offset:].splitlines()
        return any(all(word in line for word in words) for line in lines) or None

    eventually(look, f"the broker to say {words}")


def refusal_heard_by(stranger: Stranger) -> str:
    """Why the wire broke, as the appliance's own log has it."""
    line = eventually(lambda: next(iter(stranger.logged("wire_error")), None), "the log to say why")
    return str(line["error"])


def assert_stays_offline(stranger: Stranger) -> None:
    """It tries more than once, never gets a policy, and its lamp says so."""
    tries = ("broker_unreachable", "broker_refused", "disconnected")
    eventually(lambda: len(stranger.logged(*tries)) >= 2 or None, "a second try")
    with Edge(stranger.edge_socket) as edge:
        edge.wait_for_light(Light.OFFLINE_NOT_ALLOWED, since=now(), timeout_s=WITHIN_S)
    befores = [line["before"] for line in stranger.logged("transition")]
    assert befores in ([], ["Starting"])
    assert stranger.logged("request_signed") == []
    assert stranger.program.running


def test_an_appliance_with_a_certificate_of_ours_comes_in(
    bar: Bar, signing: Signing, arrive: Arrive, tmp_path: Path
) -> None:
    """What the refusals below are worth: the same program with a good certificate gets through."""
    identity = certified(signing, tmp_path / "identity", real_now())
    bar.venue.desk.register_device(
        NAME, identity / "certificate.pem", "harbour-festival", "bar-north"
    )
    stranger = arrive(identity)
    with Edge(stranger.edge_socket) as edge:
        edge.wait_for_light(Light.NOBODY_SIGNED_IN, timeout_s=WITHIN_S)


def test_an_appliance_with_another_authoritys_certificate_gets_no_connection(
    bar: Bar, arrive: Arrive, tmp_path: Path
) -> None:
    """It even has the name of the appliance at the bar, which notices nothing of it."""
    [foreign] = Authority(tmp_path / "foreign").certify_devices(bar.appliance.device_id)
    # It trusts our broker, so that the broker is who refuses.
    [ours] = bar.venue.authority.ca.glob("root.pem")
    foreign.ca.write_bytes(ours.read_bytes())
    offset = len(bar.venue.broker.output())
    watch = bar.watch()
    stranger = arrive(foreign.folder)
    assert_stays_offline(stranger)
    assert "unknown ca" in refusal_heard_by(stranger)
    broker_said(bar, offset, "OpenSSL Error", "certificate verify failed")
    assert watch.logged("disconnected") == []
    guest = bar.guest()
    assert bar.counter.sell("100#", guest.fresh_qr().digits).light is Light.APPROVED


def test_an_appliance_believes_no_broker_of_another_authority(
    bar: Bar, arrive: Arrive, tmp_path: Path
) -> None:
    [foreign] = Authority(tmp_path / "foreign").certify_devices(NAME)
    stranger = arrive(foreign.folder)
    assert_stays_offline(stranger)
    [first, *_] = stranger.logged("broker_unreachable")
    assert "CERTIFICATE_VERIFY_FAILED" in first["error"]


def test_an_appliance_with_an_expired_certificate_gets_no_connection(
    bar: Bar, signing: Signing, arrive: Arrive, tmp_path: Path
) -> None:
    long_ago = real_now() - timedelta(days=90, seconds=1)
    offset = len(bar.venue.broker.output())
    stranger = arrive(certified(signing, tmp_path / "identity", long_ago))
    known = eventually(
        lambda: next(iter(stranger.logged("enrolling", "wire_error")), None), "the end of it"
    )
    if known["event"] == "enrolling":
        # Where NTP has set this machine's clock, the appliance knows before the broker says so.
        assert known["need"] == "expired"
        with Edge(stranger.edge_socket) as edge:
            edge.wait_for_light(Light.ENROL, timeout_s=WITHIN_S)
        return
    assert_stays_offline(stranger)
    assert "certificate expired" in refusal_heard_by(stranger)
    broker_said(bar, offset, "OpenSSL Error", "certificate verify failed")


def test_an_appliance_that_nobody_told_whom_to_believe_does_not_start_and_says_so(
    bar: Bar, signing: Signing, arrive: Arrive, tmp_path: Path
) -> None:
    identity = certified(signing, tmp_path / "identity", real_now())
    (identity / "ca.pem").unlink()
    stranger = arrive(identity)
    assert stranger.program.wait(WITHIN_S) == 2
    [refused] = stranger.logged("not_started")
    assert "ca.pem" in refused["reason"]
    assert not stranger.edge_socket.exists()


@pytest.mark.parametrize("missing", ["certificate.pem", "key.pem"])
def test_an_appliance_without_key_or_certificate_asks_to_be_enrolled(
    bar: Bar, signing: Signing, arrive: Arrive, tmp_path: Path, missing: str
) -> None:
    identity = certified(signing, tmp_path / "identity", real_now())
    (identity / missing).unlink()
    stranger = arrive(identity)
    with Edge(stranger.edge_socket) as edge:
        edge.wait_for_light(Light.ENROL, timeout_s=WITHIN_S)
    assert stranger.logged("request_signed") == []
