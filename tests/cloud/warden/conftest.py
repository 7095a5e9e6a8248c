"""A floor on the real clock, the session's authority and broker, appliances of the test's own."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.settings import AuthoritySettings, BrokerSettings
from cloud.warden.registry import Registry
from provisioning.authority.certificates import Device
from provisioning.authority.credentials import Credentials as KeptCredentials
from provisioning.authority.folder import Authority as SigningAuthority
from provisioning.authority.folder import Issued
from provisioning.authority.passphrase import Passphrase, find_passphrase
from provisioning.authority.refusals import Refusal
from tests.cloud.floor import Floor, Till
from tests.cloud.wire import Line, private_key, thumbprint_of
from venue.servers import Authority, Broker, Credentials

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def floor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Floor]:
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    floor = Floor(url, tmp_path / "keys", starts_at=None)
    yield floor
    floor.close()


@pytest.fixture
def sqlite_floor(tmp_path: Path) -> Iterator[Floor]:
    floor = Floor(f"sqlite:///{tmp_path / 'cloud.sqlite'}", tmp_path / "keys", starts_at=None)
    yield floor
    floor.close()


@pytest.fixture
def authority_settings(authority: Authority, broker: Broker) -> AuthoritySettings:
    return AuthoritySettings(folder=authority.ca, broker_folder=broker.folder)


@pytest.fixture
def broker_settings(broker: Broker, worker_credentials: list[Credentials]) -> BrokerSettings:
    mine = worker_credentials[0]
    return BrokerSettings(
        host=broker.host,
        port=broker.port,
        certificate=mine.certificate,
        key=mine.key,
        authorities=mine.ca,
    )


@pytest.fixture
def registry(authority_settings: AuthoritySettings) -> Registry:
    return Registry(authority_settings)


Enrol = Callable[[Floor], tuple[Till, Line]]


@pytest.fixture
def enrol(authority: Authority, broker: Broker, tmp_path: Path) -> Enrol:
    """Puts an appliance with a certificate of the authority at the stall; no name comes twice:
    what one test revokes no other uses."""
    passphrase = find_passphrase(authority.ca, None, {})
    assert isinstance(passphrase, Passphrase)
    signing = SigningAuthority.open(authority.ca, passphrase)
    assert isinstance(signing, SigningAuthority)

    def enrol(floor: Floor) -> tuple[Till, Line]:
        name = f"warded-{next(_numbers)}"
        kept = KeptCredentials(tmp_path / name)
        key = kept.own_key()
        assert not isinstance(key, Refusal)
        issued = signing.issue(Device(name), key.public_key(), floor.now())
        assert isinstance(issued, Issued)
        kept.keep(issued)
        credentials = Credentials(kept.folder)
        till = floor.add_till(
            name, private=private_key(credentials), thumbprint=thumbprint_of(credentials)
        )
        return till, Line.of(broker, credentials)

    return enrol
