import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from provisioning.authority.certificates import Constraints
from provisioning.authority.folder import Authority, found, read_register
from provisioning.authority.register import Reason
from provisioning.cli.app import app
from provisioning.cli.speaking import the_time


class Ops:
    """railtix-ops as a program, on an authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.environment = {**os.environ, "RAILTIX_CA": str(self.ca), "COLUMNS": "200"}
        self.environment.pop("RAILTIX_CA_PASSPHRASE", None)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "provisioning", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def does(self, *arguments: str | Path) -> str:
        ended = self.run(*arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    def refuses(self, *arguments: str | Path) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 1
        assert ended.stdout == ""
        assert "Traceback" not in ended.stderr
        assert ended.stderr.count("\n") == 1
        return ended.stderr


@pytest.fixture
def ops(tmp_path: Path) -> Ops:
    return Ops(tmp_path)


@pytest.fixture
def founded(ops: Ops) -> Ops:
    authority = found(ops.ca, None, Constraints(), the_time())
    assert isinstance(authority, Authority)
    return ops


def test_a_venue_is_certified_from_nothing_to_a_broker_configuration(ops: Ops) -> None:
    assert "offline media" in ops.does("ca", "init")
    ops.does("ca", "issue", "server", "broker", "--dns", "localhost", "--ip", "127.0.0.1")
    ops.does("ca", "issue", "worker", "1", "cloud-worker-2")
    ops.does("ca", "issue", "device", "bar-1", "bar-2", "--out", "issued")
    ops.does("ca", "revoke", "bar-2", "--reason", Reason.KEY_COMPROMISE)
    ops.does("ca", "revoke", "cloud-worker-2")
    ops.does("ca", "crl")
    shown = ops.does("ca", "show")
    assert shown.count("revoked") == 2
    assert "CRL number 4" in shown
    assert "renew it now" not in shown
    ops.does("broker", "config", "--server", "broker", "--folder", "mq", "--user", "root")
    access = (ops.folder / "mq/access.acl").read_text()
    assert "user cloud-worker-1\n" in access
    assert "cloud-worker-2" not in access
    assert "no broker runs" in ops.does("broker", "crl", "--folder", "mq")
    for private in ("issued/bar-1/key.pem", "mq/key.pem", "mq/access.acl"):
        assert stat.S_IMODE((ops.folder / private).stat().st_mode) == 0o600


def test_the_certificates_are_what_openssl_takes(founded: Ops) -> None:
    founded.does("ca", "issue", "device", "bar-1")
    said = subprocess.run(
        [
            *("openssl", "verify", "-crl_check", "-purpose", "sslclient"),
            *("-CAfile", founded.ca / "root.pem", "-untrusted", founded.ca / "issuing.pem"),
            *("-CRLfile", founded.ca / "crl.pem", founded.folder / "bar-1/certificate.pem"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.endswith("OK\n")


def test_a_key_made_elsewhere_is_certified_by_its_request(founded: Ops) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=cloud-worker-1"),
        ],
        cwd=founded.folder,
        capture_output=True,
        check=True,
    )
    founded.does("ca", "issue", "device", "bar-1", "--csr", "own.csr")
    (entry,) = read_register(founded.ca).entries
    assert entry.common_name == "bar-1"
    assert not (founded.folder / "bar-1/key.pem").exists()
    assert "one device" in founded.refuses(
        "ca", "issue", "device", "bar-1", "bar-2", "--csr", "own.csr"
    )
    (founded.folder / "own.csr").write_text("no request")
    assert "not a PEM" in founded.refuses("ca", "issue", "device", "bar-1", "--csr", "own.csr")


def test_running_twice_renews_the_certificate_of_the_same_key(founded: Ops) -> None:
    founded.does("ca", "issue", "device", "bar-1")
    key = (founded.folder / "bar-1/key.pem").read_bytes()
    certificate = (founded.folder / "bar-1/certificate.pem").read_bytes()
    founded.does("ca", "issue", "device", "bar-1")
    assert (founded.folder / "bar-1/key.pem").read_bytes() == key
    assert (founded.folder / "bar-1/certificate.pem").read_bytes() != certificate


def test_a_passphrase_of_ones_own_is_needed_again_and_never_shown(ops: Ops) -> None:
    secret = "correct horse battery"
    ops.environment["RAILTIX_CA_PASSPHRASE"] = secret
    said = ops.does("ca", "init")
    assert not (ops.ca / "issuing/passphrase").exists()
    ops.does("ca", "issue", "device", "bar-1")
    ops.environment["RAILTIX_CA_PASSPHRASE"] = "incorrect horse battery"
    said += ops.refuses("ca", "issue", "device", "bar-2")
    assert "does not open the issuing key" in said
    del ops.environment["RAILTIX_CA_PASSPHRASE"]
    assert "no passphrase" in ops.refuses("ca", "crl")
    file = ops.folder / "passphrase"
    file.write_text(secret)
    file.chmod(0o644)
    said += ops.refuses("ca", "crl", "--passphrase-file", file)
    file.chmod(0o600)
    said += ops.does("ca", "crl", "--passphrase-file", file)
    assert "horse" not in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("ca init", "founded once"),
        ("ca init --ca new --permit-ip 10.0.0.1/8", "not a network"),
        ("ca init --ca new --permit-dns UPPER", "not a DNS name"),
        ("ca issue device bar-1 cloud-worker-1", "the cloud workers'"),
        ("ca issue device BAR", "a-z"),
        ("ca issue worker a_b", "a-z"),
        ("ca issue server broker", "at least one"),
        ("ca issue server broker --ip venue", "not an IP address"),
        ("ca issue device bar-1 --csr none.csr", "No such file or directory: none.csr"),
        ("ca revoke bar-9", "nothing was ever issued"),
        ("ca show --ca none", "no authority in none"),
        ("ca crl --ca none", "no authority in none"),
        ("ca crl --passphrase-file none", "No such file or directory: none"),
        ("broker config --server none --user root", "No such file or directory"),
        ("broker config --server none --ca none", "no authority in none"),
        ("broker config --server none --bind everywhere", "not an IP address"),
        ("broker config --server none --worker a_b --user root", "a-z"),
        ("broker crl --folder none", "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    founded: Ops, arguments: str, why: str
) -> None:
    assert why in founded.refuses(*arguments.split(), *_folder_of(arguments))
    assert read_register(founded.ca).entries == ()
    assert not (founded.folder / "new").exists()


def _folder_of(arguments: str) -> list[str]:
    return ["--folder", "mq"] if arguments.startswith("broker config") else []


def test_a_register_that_was_damaged_is_reported_without_a_trace(founded: Ops) -> None:
    (founded.ca / "register.json").write_text('{"version": 2}')
    assert "register cannot be read" in founded.refuses("ca", "show")


def test_a_user_that_is_not_there_is_refused(founded: Ops) -> None:
    said = founded.refuses(
        "broker", "config", "--server", "none", "--folder", "mq", "--user", "nobody-at-all"
    )
    assert "no user 'nobody-at-all'" in said


def test_a_stale_pid_file_gets_nobody_signalled(founded: Ops) -> None:
    (founded.folder / "mq/run").mkdir(parents=True)
    (founded.folder / "mq/run/mosquitto.pid").write_text(str(os.getpid()))
    (founded.folder / "mq/ca.pem").write_bytes((founded.ca / "chain.pem").read_bytes())
    assert "no broker runs" in founded.does("broker", "crl", "--folder", "mq")


@pytest.mark.parametrize("group", ["", "ca", "ca issue", "broker"])
def test_every_command_explains_itself(group: str) -> None:
    said = CliRunner().invoke(app, [*group.split(), "--help"])
    assert said.exit_code == 0
    names = re.findall(r"^│ ([a-z]+) ", said.output, re.MULTILINE)
    assert names
    for name in names:
        explained = CliRunner().invoke(app, [*group.split(), name, "--help"])
        assert explained.exit_code == 0
        assert f"{group} {name}" in explained.output
        assert len(explained.output.splitlines()) > 6
