"""The issuing key is stolen, or nobody can open it: the offline root certifies another."""

import ipaddress
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from provisioning.authority import reissue as reissuing
from provisioning.authority.certificates import Constraints, Device, Holder, Server, Worker
from provisioning.authority.folder import Authority, Issued, found, new_key, read_register
from provisioning.authority.passphrase import Passphrase, find_passphrase
from provisioning.authority.refusals import (
    NameNotAllowed,
    NotFounded,
    NotTheRoot,
    WrongRootPassphrase,
)
from provisioning.authority.register import Reason
from provisioning.authority.reissue import OfflineRoot, prolong, reissue
from provisioning.cli.app import app
from provisioning.cli.ca import known_workers

NOW = datetime.now(UTC)  # noqa: TID251 - openssl judges by the real clock
ROOTS = Passphrase("the passphrase of the root")
PERMITTED = Constraints(("railtix.example",), (ipaddress.ip_network("10.0.0.0/8"),))


class Venue:
    """An authority whose root was carried away."""

    def __init__(self, folder: Path) -> None:
        authority = found(folder / "ca", ROOTS, PERMITTED, NOW)
        assert isinstance(authority, Authority)
        self.authority = authority
        self.ca = folder / "ca"
        self.offline = folder / "safe"
        (self.ca / "root").rename(self.offline)
        self.root = OfflineRoot(self.offline / "key.pem", ROOTS)

    def reissued(self) -> Authority:
        authority = reissue(self.ca, self.root, Passphrase("of the new issuing key"), NOW)
        assert isinstance(authority, Authority)
        return authority


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


def issued_to(authority: Authority, holder: Holder) -> Issued:
    issued = authority.issue(holder, new_key().public_key(), NOW)
    assert isinstance(issued, Issued)
    return issued


def at_the_broker(ca: Path, issued: Issued, purpose: str = "sslclient") -> str:
    """What a broker with the authority's chain and CRL says to a client with this chain."""
    shown = ca.parent / "shown.pem"
    shown.write_bytes(issued.chain_pem)
    said = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-crl_check", "-purpose", purpose),
            *("-CAfile", ca / "chain.pem", "-CRLfile", ca / "crl.pem", "-untrusted", shown, shown),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout + said.stderr


def at_an_appliance(root: bytes, folder: Path, issued: Issued) -> str:
    """What an appliance, which trusts the root alone, says to a server with this chain."""
    (folder / "known-root.pem").write_bytes(root)
    shown = folder / "shown.pem"
    shown.write_bytes(issued.chain_pem)
    said = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-CAfile", folder / "known-root.pem", "-untrusted", shown, shown),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout + said.stderr


def test_after_a_theft_nothing_of_the_old_key_comes_in_and_appliances_keep_their_root(
    venue: Venue, tmp_path: Path
) -> None:
    root = venue.authority.root_path.read_bytes()
    old = issued_to(venue.authority, Device("bar-1"))
    # What the thief signs is in no register.
    stolen = Authority.open(venue.ca, ROOTS)
    assert isinstance(stolen, Authority)
    assert at_the_broker(venue.ca, old).endswith("OK\n")
    thiefs = tmp_path / "thiefs"
    shutil.copytree(venue.ca, thiefs)
    copied = Authority.open(thiefs, ROOTS)
    assert isinstance(copied, Authority)
    forged = issued_to(copied, Worker("1"))

    new = venue.reissued()
    assert "verification failed" in at_the_broker(venue.ca, old)
    assert "verification failed" in at_the_broker(venue.ca, forged)
    assert at_the_broker(venue.ca, issued_to(new, Device("bar-1"))).endswith("OK\n")
    assert new.root_path.read_bytes() == root
    server = Server(("mq.railtix.example",))
    assert at_an_appliance(root, tmp_path, issued_to(new, server)).endswith("OK\n")


def test_everything_that_was_issued_is_revoked_in_the_register_and_its_numbers_go_on(
    venue: Venue,
) -> None:
    issued_to(venue.authority, Device("bar-1"))
    issued_to(venue.authority, Worker("1"))
    number = read_register(venue.ca).crl_number
    venue.reissued()
    register = read_register(venue.ca)
    assert {entry.reason for entry in register.entries} == {Reason.KEY_COMPROMISE}
    assert known_workers(register) == []
    assert register.crl_number == number + 1


def test_the_new_one_may_certify_no_more_than_the_old_one_did(venue: Venue) -> None:
    new = venue.reissued()
    outside = Server(("mq.example.org",))
    assert isinstance(new.issue(outside, new_key().public_key(), NOW), NameNotAllowed)
    inside = Server(("mq.railtix.example",), (ipaddress.ip_address("10.1.2.3"),))
    assert at_the_broker(venue.ca, issued_to(new, inside), "sslserver").endswith("OK\n")


def test_a_program_that_still_holds_the_old_key_publishes_and_issues_nothing(venue: Venue) -> None:
    venue.reissued()
    crl = venue.authority.crl_path.read_bytes()
    with pytest.raises(OSError, match="start this program again"):
        venue.authority.publish_crl(NOW)
    with pytest.raises(OSError, match="start this program again"):
        venue.authority.issue(Device("bar-1"), new_key().public_key(), NOW)
    assert venue.authority.crl_path.read_bytes() == crl


def test_a_passphrase_that_was_lost_is_not_needed_and_a_new_one_is_drawn(venue: Venue) -> None:
    authority = reissue(venue.ca, venue.root, None, NOW)
    assert isinstance(authority, Authority)
    drawn = find_passphrase(venue.ca, None, {})
    assert isinstance(drawn, Passphrase)
    assert isinstance(Authority.open(venue.ca, drawn), Authority)
    venue.reissued()
    assert not (venue.ca / "issuing/passphrase").exists()


def test_power_lost_between_key_and_certificate_is_said_and_mended_by_doing_it_again(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path, _issuing: x509.Certificate, _root: x509.Certificate) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(reissuing, "_keep_certificate", fail)
        with pytest.raises(OSError, match="No space left"):
            venue.reissued()
    with pytest.raises(OSError, match="ca reissue"):
        Authority.open(venue.ca, Passphrase("of the new issuing key"))
    new = venue.reissued()
    assert at_the_broker(venue.ca, issued_to(new, Device("bar-1"))).endswith("OK\n")


def test_an_issuing_certificate_is_prolonged_and_all_that_it_signed_stays_good(
    venue: Venue, tmp_path: Path
) -> None:
    old = issued_to(venue.authority, Device("bar-1"))
    later = NOW + timedelta(days=4 * 365)
    prolonged = prolong(venue.ca, venue.root, later)
    assert isinstance(prolonged, x509.Certificate)
    assert prolonged.not_valid_after_utc > NOW + timedelta(days=8 * 365)

    shown = prolong(venue.ca, venue.root, NOW)
    assert isinstance(shown, x509.Certificate)
    assert at_the_broker(venue.ca, old).endswith("OK\n")
    venue.authority.publish_crl(NOW)
    reopened = Authority.open(venue.ca, ROOTS)
    assert isinstance(reopened, Authority)
    server = issued_to(reopened, Server(("mq.railtix.example",)))
    root = reopened.root_path.read_bytes()
    assert at_an_appliance(root, tmp_path, server).endswith("OK\n")


def test_only_this_authoritys_root_with_its_passphrase_does_it(
    venue: Venue, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in venue.ca.rglob("*") if path.is_file()}
    another = found(tmp_path / "another", ROOTS, Constraints(), NOW)
    assert isinstance(another, Authority)
    foreign = OfflineRoot(another.folder / "root/key.pem", ROOTS)
    wrong = OfflineRoot(venue.root.key, Passphrase("not the passphrase"))
    for root, refused in (
        (foreign, NotTheRoot(foreign.key)),
        (wrong, WrongRootPassphrase(venue.root.key)),
    ):
        assert reissue(venue.ca, root, None, NOW) == refused
        assert prolong(venue.ca, root, NOW) == refused
    assert reissue(tmp_path / "none", venue.root, None, NOW) == NotFounded(tmp_path / "none")
    after = {path: path.read_bytes() for path in venue.ca.rglob("*") if path.is_file()}
    assert after == before


def _command(venue: Venue, *more: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    ended = CliRunner().invoke(
        app,
        ["ca", "reissue", "--ca", str(venue.ca), "--root", str(venue.offline), *more],
        env=env or {},
    )
    return ended.exit_code, ended.output


def test_the_command_says_what_is_to_be_done_next_and_never_a_passphrase(venue: Venue) -> None:
    code, said = _command(venue)
    assert code == 1
    assert "no passphrase" in said
    (venue.offline / "passphrase").write_text(ROOTS.text)
    (venue.offline / "passphrase").chmod(0o600)
    code, told = _command(venue, "--keep-key")
    assert code == 0
    assert "is good until" in told
    code, said = _command(venue)
    assert code == 0
    assert "give each appliance a claim" in said
    file = venue.offline.parent / "typed"
    file.write_text("wrong passphrase")
    file.chmod(0o600)
    code, refused = _command(venue, "--root-passphrase-file", str(file))
    assert code == 1
    assert "does not open the root's key" in refused
    assert ROOTS.text not in said + told + refused
