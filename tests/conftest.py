"""The real parts that every test may ask for; each pytest-xdist worker has its own."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.used_again import UsedAgain
from venue.servers import Authority, Broker, Credentials, Postgres

WORKER_NAMES = ("1", "2", "3", "4")

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is allowed to take long begins first: at the end everybody would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """A traceback without every local: drawing those takes a server's thread for seconds."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(scope="session", autouse=True)
def world_without_authorities() -> Iterator[None]:
    """Tests believe authorities of their own; reading the world's takes each client 50 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.setenv("SSL_CERT_DIR", os.devnull)
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A program that a test runs in this process sets up its own logs: for that test alone."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL, started when the first test asks for it.

    Nobody cuts its power, so it does not wait for the disk; whoever does has one of their own.
    """
    in_a_hurry = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    with Postgres(settings=in_a_hurry) as server:
        yield server


@pytest.fixture(scope="session")
def _used_again(postgres: Postgres) -> UsedAgain:
    return UsedAgain(postgres)


@pytest.fixture(scope="session")
def _database_names() -> Iterator[str]:
    return (f"empty_{number}" for number in itertools.count(1))


@pytest.fixture
def empty_postgres_url(postgres: Postgres, _database_names: Iterator[str]) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    name = next(_database_names)
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def postgres_url(postgres: Postgres, _used_again: UsedAgain) -> Iterator[str]:
    """The same with our tables in it."""
    name = _used_again.take()
    yield postgres.url(name)
    _used_again.give_back(name)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certify_device(authority: Authority) -> Callable[[str], Credentials]:
    """Gives an appliance's certificate by its device id; the same one within a session."""
    known: dict[str, Credentials] = {}

    def certify(device_id: str) -> Credentials:
        if device_id not in known:
            (known[device_id],) = authority.certify_devices(device_id)
        return known[device_id]

    return certify


@pytest.fixture(scope="session")
def worker_credentials(authority: Authority) -> list[Credentials]:
    """Certificates of cloud-worker-1 to cloud-worker-4, who have a worker's rights at `broker`."""
    return authority.certify_workers(*WORKER_NAMES)


@pytest.fixture(scope="session")
def _stopped_broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Broker:
    return Broker(
        tmp_path_factory.mktemp("broker"),
        authority.ca,
        authority.certify_server("broker"),
        workers=[f"cloud-worker-{name}" for name in WORKER_NAMES],
    )


@pytest.fixture
def broker(_stopped_broker: Broker) -> Iterator[Broker]:
    """mosquitto with mutual TLS, started for this test: it knows nothing of the test before."""
    with _stopped_broker:
        yield _stopped_broker
