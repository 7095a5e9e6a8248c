"""The appliances' listener as the settings have it: what does not fit together does not start."""

import json
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.gate import OwnGate
from cloud.settings import AppliancesSettings, AuthoritySettings, Settings, SettingsError
from provisioning.authority.certificates import Constraints
from provisioning.authority.folder import found
from venue.programs import Program, run_to_end
from venue.servers import Authority, Credentials

_CLOUD = (sys.executable, "-m", "cloud")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Credentials:
    """The listener's certificate, for this machine's loopback."""
    return authority.certify_server("appliances")


def _settings(folder: Path, own: Credentials, **changes: Any) -> Settings:
    return Settings(
        state=folder,
        authority=AuthoritySettings(folder=own.folder.parents[1] / "ca"),
        appliances=AppliancesSettings.model_validate(
            {"port": 0, "certificate": own.certificate, "key": own.key} | changes
        ),
    )


def _refused(settings: Settings) -> str:
    assert settings.appliances is not None
    with pytest.raises(SettingsError) as caught:
        OwnGate(settings, settings.appliances)
    return str(caught.value)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path, own: Credentials) -> None:
    settings = _settings(tmp_path, own, url="https://elsewhere.example.org:8443")
    assert "is not for elsewhere.example.org" in _refused(settings)


def test_the_url_is_what_claims_say(tmp_path: Path, own: Credentials) -> None:
    settings = _settings(tmp_path, own, url="https://LOCALHOST")
    assert settings.appliances is not None
    own_gate = OwnGate(settings, settings.appliances)
    own_gate.close()
    assert (own_gate.gate.host, own_gate.gate.port) == ("localhost", 443)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path, own: Credentials) -> None:
    found(tmp_path / "other", None, Constraints(), datetime.now(UTC))  # noqa: TID251
    settings = _settings(tmp_path, own).model_copy(
        update={"authority": AuthoritySettings(folder=tmp_path / "other")}
    )
    assert "not of the authority of [authority]" in _refused(settings)


def test_a_certificate_without_the_issuing_one_is_refused(tmp_path: Path, own: Credentials) -> None:
    alone = tmp_path / "alone.pem"
    end = "-----END CERTIFICATE-----\n"
    alone.write_text(own.certificate.read_text().partition(end)[0] + end)
    settings = _settings(tmp_path, own, certificate=alone, authorities=own.ca)
    assert "holds no issuing certificate" in _refused(settings)


@pytest.mark.parametrize("what", ["certificate", "authorities"])
def test_a_file_that_is_missing_or_no_certificate_is_named(
    tmp_path: Path, own: Credentials, what: str
) -> None:
    gone = tmp_path / "gone.pem"
    assert str(gone) in _refused(_settings(tmp_path, own, **{what: gone}))
    gone.write_text("no certificate")
    assert str(gone) in _refused(_settings(tmp_path, own, **{what: gone}))


def test_an_authority_that_does_not_open_is_refused_without_its_passphrase(
    tmp_path: Path, own: Credentials, authority: Authority
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("not the right passphrase")
    secret.chmod(0o600)
    settings = _settings(tmp_path, own)
    for opening, said in (
        (AuthoritySettings(folder=tmp_path / "nowhere"), "no passphrase"),
        (AuthoritySettings(folder=authority.ca, passphrase_file=secret), "does not open"),
        (AuthoritySettings(folder=authority.ca, passphrase_file=tmp_path / "none"), "No such file"),
    ):
        refused = _refused(settings.model_copy(update={"authority": opening}))
        assert said in refused
        assert "not the right passphrase" not in refused


def test_an_address_that_is_taken_is_refused_by_its_sections_name(
    tmp_path: Path, own: Credentials
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = _settings(tmp_path, own, port=taken.getsockname()[1])
        assert _refused(settings).startswith("appliances: cannot listen on 127.0.0.1")


def test_serve_opens_both_listeners_and_a_signal_ends_both(
    tmp_path: Path, own: Credentials, authority: Authority
) -> None:
    config, ready = tmp_path / "cloud.toml", tmp_path / "ready.json"
    config.write_text(
        f'state = "{tmp_path / "state"}"\n[http]\nport = 0\n'
        f'[authority]\nfolder = "{authority.ca}"\nin_serve = false\n'
        f'[appliances]\nport = 0\ncertificate = "{own.certificate}"\nkey = "{own.key}"\n'
    )
    run_to_end([*_CLOUD, "migrate", "--config", config])
    program = Program(
        "cloud",
        [*_CLOUD, "serve", "--config", config, "--ready-file", ready],
        tmp_path / "cloud.log",
        ready=ready.exists,
    )
    trust = ssl.create_default_context(cafile=str(own.ca))
    with program:
        said = json.loads(ready.read_text())
        # Its connection stays open, and does not keep the server.
        with httpx.Client(verify=trust, trust_env=False, timeout=60) as http:
            parts = http.get(f"{said['appliances_url']}/readyz").json()["parts"]
            assert parts["appliances"] == "ok"
            assert program.stop(60) == 0
        for url in (said["url"], said["appliances_url"]):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/healthz", verify=trust, trust_env=False)
    assert '"stopped"' in program.output()
    assert "graceful shutdown exceeded" not in program.output()
