"""What is written into a broker's folder, what is refused, and what a check finds."""

import ipaddress
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from typer.testing import CliRunner

from provisioning.authority.certificates import Constraints, Device, Holder, Server, Worker
from provisioning.authority.credentials import Credentials
from provisioning.authority.folder import Authority, Issued, found, new_key
from provisioning.authority.passphrase import Passphrase
from provisioning.authority.register import Reason
from provisioning.broker import inspection
from provisioning.broker.configuration import (
    CRL_FILE,
    Listener,
    Mosquitto,
    Version,
    descriptors_needed,
    render_configuration,
    render_drop_in,
)
from provisioning.broker.folder import (
    Planned,
    plan_folder,
    refuse_sources,
    replace_crl,
    write_folder,
)
from provisioning.broker.inspection import findings
from provisioning.broker.papers import Sources
from provisioning.cli.app import app
from provisioning.files import PRIVATE, write_atomically

NOW = datetime.now(UTC)  # noqa: TID251 - the commands judge by the real clock
USER = pwd.getpwuid(os.geteuid()).pw_name
PASSPHRASE = Passphrase("a passphrase for tests")
LISTENER = Listener(ipaddress.ip_address("127.0.0.1"), 8883, connections=50)


class Venue:
    """An authority, the broker's credentials, and a folder still to be written."""

    def __init__(self, folder: Path) -> None:
        authority = found(folder / "ca", PASSPHRASE, Constraints(), NOW)
        assert isinstance(authority, Authority)
        self.authority = authority
        self.folder = folder / "mq"
        self.server = Credentials(folder / "server")
        self.certify(Server(("localhost",)))
        self.sources = Sources(
            authority.chain_path, authority.crl_path, self.server.certificate, self.server.key
        )

    def certify(self, holder: Holder, now: datetime = NOW) -> None:
        key = self.server.own_key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issued = self.authority.issue(holder, key.public_key(), now)
        assert isinstance(issued, Issued)
        self.server.keep(issued)

    def plan(self) -> tuple[Planned, ...]:
        return plan_folder(self.folder, self.sources, LISTENER, ["cloud-worker-1"], Mosquitto(USER))

    def write(self) -> None:
        assert refuse_sources(self.folder, self.sources, NOW) is None
        write_folder(self.folder, self.plan(), USER)

    def found(self, now: datetime = NOW) -> list[str]:
        return list(findings(self.folder, self.plan(), LISTENER.connections, now))

    def refused(self) -> str:
        return str(refuse_sources(self.folder, self.sources, NOW))


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def test_a_second_run_touches_nothing_and_a_change_only_what_it_is_about(venue: Venue) -> None:
    venue.write()
    before = _times(venue.folder)
    venue.write()
    assert _times(venue.folder) == before
    venue.authority.publish_crl(NOW)
    venue.write()
    changed = {name for name, time in _times(venue.folder).items() if before[name] != time}
    assert changed == {CRL_FILE}
    assert len(before) == 7


def test_key_and_access_list_are_for_mosquitto_alone(venue: Venue) -> None:
    venue.write()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in venue.folder.iterdir()
        if path.is_file()
    }
    assert {name for name, mode in modes.items() if mode == 0o600} == {"key.pem", "access.acl"}
    assert {mode for name, mode in modes.items() if name not in {"key.pem", "access.acl"}} == {
        0o644
    }


def test_what_is_private_becomes_mosquittos_users_and_it_could_rewrite_nothing_else(
    venue: Venue,
) -> None:
    # Only root gives files away; to anybody else mosquitto's user is oneself.
    other = pwd.getpwnam("nobody" if os.geteuid() == 0 else USER)
    planned = plan_folder(venue.folder, venue.sources, LISTENER, [], Mosquitto(other.pw_name))
    write_folder(venue.folder, planned, other.pw_name)
    owners = {
        path.name: (path.stat().st_uid, path.stat().st_gid) for path in venue.folder.iterdir()
    }
    assert owners["key.pem"] == owners["access.acl"] == (other.pw_uid, other.pw_gid)
    kept = {name for name, (uid, _) in owners.items() if uid == os.geteuid()}
    assert kept >= {"mosquitto.conf", "ca.pem", "certificate.pem", "crl.pem", "systemd.conf"}


def test_power_lost_while_a_file_is_written_leaves_the_old_one(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue.write()
    before = {path.name: path.read_bytes() for path in venue.folder.iterdir() if path.is_file()}
    venue.authority.publish_crl(NOW)

    def fail(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            write_folder(venue.folder, venue.plan(), USER)
    after = {path.name: path.read_bytes() for path in venue.folder.iterdir() if path.is_file()}
    assert after == before


def _exposed(venue: Venue) -> None:
    venue.server.key.chmod(0o640)


def _another_key(venue: Venue) -> None:
    _keep_key(venue, new_key())


def _no_curve(venue: Venue) -> None:
    _keep_key(venue, rsa.generate_private_key(65537, 2048))


def _keep_key(venue: Venue, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomically(venue.server.key, plain, PRIVATE)


def _no_key(venue: Venue) -> None:
    write_atomically(venue.server.key, b"nothing", PRIVATE)


def _no_certificate(venue: Venue) -> None:
    venue.server.certificate.write_bytes(b"nothing")


def _no_chain(venue: Venue) -> None:
    venue.authority.chain_path.write_bytes(b"nothing")


def _no_crl(venue: Venue) -> None:
    venue.authority.crl_path.write_bytes(b"nothing")


def _clients(venue: Venue) -> None:
    venue.certify(Device("bar-1"))


def _expired(venue: Venue) -> None:
    venue.certify(Server(("localhost",)), NOW - timedelta(days=366))


def _crl_expired(venue: Venue) -> None:
    venue.authority.publish_crl(NOW - timedelta(days=8))


def _foreign(venue: Venue) -> Authority:
    foreign = found(venue.folder.parent / "foreign", PASSPHRASE, Constraints(), NOW)
    assert isinstance(foreign, Authority)
    return foreign


def _crl_foreign(venue: Venue) -> None:
    shutil.copy(_foreign(venue).crl_path, venue.authority.crl_path)


def _crl_older(venue: Venue) -> None:
    old = venue.authority.crl_path.read_bytes()
    venue.authority.publish_crl(NOW)
    venue.write()
    venue.authority.crl_path.write_bytes(old)


def _another_authority(venue: Venue) -> None:
    venue.folder.mkdir()
    shutil.copy(_foreign(venue).chain_path, venue.folder / "ca.pem")


def _somebody_elses(venue: Venue) -> None:
    venue.folder.mkdir()
    (venue.folder / "mosquitto.conf").write_text("listener 1883\nallow_anonymous true\n")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_exposed, "others may read the broker's key"),
        (_another_key, "every handshake would fail"),
        (_no_curve, "no elliptic-curve key"),
        (_no_key, "no unencrypted PEM key"),
        (_no_certificate, "no PEM certificate"),
        (_no_chain, "no PEM certificates"),
        (_no_crl, "no PEM revocation list"),
        (_clients, "not for a server"),
        (_expired, "no client connects until"),
        (_crl_expired, "mosquitto refuses every client until"),
        (_crl_foreign, "not of the authority that the broker trusts"),
        (_crl_older, "let in again who was revoked"),
        (_another_authority, "of another authority"),
        (_somebody_elses, "not written by railtix-ops"),
    ],
)
def test_what_would_let_nobody_in_or_too_many_is_refused(
    venue: Venue, spoil: Callable[[Venue], None], why: str
) -> None:
    spoil(venue)
    assert why in venue.refused()


def test_a_list_that_would_weaken_a_running_broker_never_takes_the_place_of_a_good_one(
    venue: Venue,
) -> None:
    old = venue.authority.crl_path.read_bytes()
    venue.authority.publish_crl(NOW)
    venue.write()
    good = (venue.folder / CRL_FILE).read_bytes()
    foreign = _foreign(venue).crl_path.read_bytes()
    for bad, why in ((old, "older"), (foreign, "not of the authority"), (b"no list", "no PEM")):
        with pytest.raises(ValueError, match=why):
            replace_crl(venue.folder, bad)
    assert (venue.folder / CRL_FILE).read_bytes() == good
    replace_crl(venue.folder, good)


def test_a_folder_as_it_should_be_gives_nothing_to_say(venue: Venue) -> None:
    venue.write()
    assert venue.found() == []


def test_a_check_names_what_somebody_changed(venue: Venue) -> None:
    (missing,) = venue.found()
    assert "has no ca.pem, certificate.pem, key.pem, crl.pem, access.acl" in missing
    assert "run `railtix-ops broker config`" in missing
    venue.write()
    configuration = venue.folder / "mosquitto.conf"
    configuration.write_text(
        configuration.read_text().replace("require_certificate true", "require_certificate false")
    )
    (venue.folder / "key.pem").chmod(0o644)
    said = venue.found()
    assert len(said) == 2
    assert re.search(r"key.pem has mode 644 and should have 600", said[0])
    assert "mosquitto.conf is not what" in said[1]


def test_a_check_tells_of_an_end_before_it_comes_and_after(venue: Venue) -> None:
    venue.write()
    assert venue.found(NOW + timedelta(days=5)) == ["the CRL ends in 48 h: is it published daily?"]
    (crl_expired,) = venue.found(NOW + timedelta(days=8))
    assert "mosquitto refuses every client" in crl_expired
    soon = venue.found(NOW + timedelta(days=359, hours=1))
    assert "the broker's certificate ends in 5 days: issue another" in soon
    late = venue.found(NOW + timedelta(days=366))
    assert any("no client connects until" in each for each in late)


def test_a_check_tells_of_a_key_and_a_list_that_are_not_the_ones(venue: Venue) -> None:
    venue.write()
    _keep_key(venue, new_key())
    venue.folder.joinpath("key.pem").write_bytes(venue.server.key.read_bytes())
    assert any("every handshake would fail" in each for each in venue.found())
    venue.folder.joinpath(CRL_FILE).write_bytes(_foreign(venue).crl_path.read_bytes())
    assert any("not of the authority" in each for each in venue.found())
    venue.folder.joinpath(CRL_FILE).write_bytes(b"no list")
    assert any("no PEM revocation list" in each for each in venue.found())


def test_a_check_tells_of_a_broker_that_may_open_too_few_files(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue.write()
    with subprocess.Popen(["/bin/sh", "-c", "ulimit -n 64; exec sleep 600"]) as other:
        try:

            def running(_folder: Path) -> int:
                return other.pid

            monkeypatch.setattr(inspection, "running_broker", running)
            limits = Path(f"/proc/{other.pid}/limits")
            while "Max open files            64" not in limits.read_text():
                assert other.poll() is None
            needed = descriptors_needed(LISTENER.connections)
            assert venue.found() == [
                f"mosquitto ({other.pid}) may open 64 files and needs {needed}: LimitNOFILE"
            ]
        finally:
            other.kill()


def _render(version: Version) -> str:
    return render_configuration(Path("/etc/mosquitto/railtix"), LISTENER, Mosquitto(USER, version))


def test_one_client_can_take_only_so_much_from_the_others() -> None:
    said: dict[str, str] = {}
    for line in _render(Version.V2_0).splitlines():
        option, _, value = line.partition(" ")
        said[option] = value
    assert int(said["max_packet_size"]) == 64 * 1024
    assert 0 < int(said["max_keepalive"]) <= 120
    assert int(said["max_connections"]) == LISTENER.connections
    for limit in ("max_inflight_messages", "max_queued_messages", "max_queued_bytes"):
        assert int(said[limit]) > 0
    drop_in = render_drop_in(Path("/mq"), 1000).splitlines()
    assert f"LimitNOFILE={descriptors_needed(1000)}" in drop_in
    assert descriptors_needed(1000) > 2000


def test_for_2_1_the_rights_come_from_its_plugin_and_nothing_else_is_weaker() -> None:
    before, after = (set(_render(version).splitlines()) for version in Version)
    assert before - after == {"acl_file /etc/mosquitto/railtix/access.acl"}
    assert {line.split()[0] for line in after - before} == {
        *("plugin", "plugin_opt_acl_file", "global_max_connections"),
        *("accept_protocol_versions", "listener_allow_anonymous"),
        "disable_client_cert_date_checks",
    }


def test_a_file_for_2_1_does_not_start_2_0_without_its_rights(tmp_path: Path) -> None:
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program is not None
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    assert "version 2.0" in said, "this test is about the version that we use"
    folder = Venue(tmp_path)
    mosquitto = Mosquitto(USER, Version.V2_1)
    planned = plan_folder(folder.folder, folder.sources, LISTENER, [], mosquitto)
    configuration = write_folder(folder.folder, planned, USER)
    ended = subprocess.run(
        [program, "-c", configuration], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode != 0
    assert "Error" in ended.stderr


def _config(venue: Venue, *more: str) -> tuple[int, str]:
    ended = CliRunner().invoke(
        app,
        [
            *("broker", "config", "--ca", str(venue.authority.folder), "--user", USER),
            *("--server", str(venue.server.folder), "--folder", str(venue.folder), *more),
        ],
    )
    return ended.exit_code, ended.output


def test_the_command_writes_checks_and_says_how_to_tell_systemd(venue: Venue) -> None:
    code, said = _config(venue, "--check")
    assert code == 1
    assert "has no ca.pem" in said
    assert not venue.folder.exists()
    code, said = _config(venue)
    assert code == 0
    assert "/etc/systemd/system/mosquitto.service.d/railtix.conf" in said
    assert _config(venue, "--check")[0] == 0
    code, said = _config(venue, "--check", "--connections", "10")
    assert code == 1
    assert "mosquitto.conf is not what" in said
    assert "systemd.conf is not what" in said


def test_the_command_refuses_before_anything_is_written(venue: Venue) -> None:
    venue.certify(Worker("1"))
    venue.authority.revoke("cloud-worker-1", Reason.KEY_COMPROMISE, NOW)
    for arguments, why in (
        (("--worker", "1"), "it gets no rights"),
        ((), "not for a server"),
        (("--access-plugin", "plugin.so"), "give its whole path"),
        (("--access-plugin", "/a\nallow_anonymous true"), "a line break"),
        (("--mosquitto", "3.0"), "3.0"),
    ):
        code, said = _config(venue, *arguments)
        assert code != 0
        assert why in said
    assert not venue.folder.exists()


def test_an_expired_list_is_not_handed_over(venue: Venue) -> None:
    venue.write()
    good = (venue.folder / CRL_FILE).read_bytes()
    venue.authority.publish_crl(NOW - timedelta(days=8))
    arguments = ["--ca", str(venue.authority.folder), "--folder", str(venue.folder)]
    ended = CliRunner().invoke(app, ["broker", "crl", *arguments])
    assert ended.exit_code == 1
    assert "railtix-ops ca crl" in ended.output
    assert (venue.folder / CRL_FILE).read_bytes() == good
