import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from device.credentials import FOLDER
from protocol.policy import Policy
from tests.device.fake_cloud import POLICY_KEY, FakeCloud
from tests.device.stage import DEVICE, a_policy, named
from venue.servers import Broker, Credentials


@pytest.fixture
def device(certify_device: Callable[[str], Credentials]) -> Credentials:
    return certify_device(DEVICE)


@pytest.fixture
def state(device: Credentials, tmp_path: Path) -> Path:
    """An enrolled appliance's state, before its first start."""
    state = tmp_path / "state"
    identity = state / FOLDER
    identity.mkdir(parents=True)
    shutil.copy(device.key, identity / "key.pem")
    shutil.copy(device.certificate, identity / "certificate.pem")
    shutil.copy(device.ca, identity / "ca.pem")
    key = msgspec.to_builtins(named("policy-1", POLICY_KEY))
    (identity / "trust.json").write_bytes(msgspec.json.encode({"policy_keys": [key]}))
    return state


@pytest.fixture
def real_policy() -> Policy:
    """A policy that is in force by the clock on the wall."""
    now_ms = time.time_ns() // 1_000_000
    return a_policy(issued_at_ms=now_ms, expires_at_ms=now_ms + 24 * 3600 * 1000)


@pytest.fixture
def fake_cloud(
    broker: Broker, worker_credentials: list[Credentials], device: Credentials
) -> Iterator[FakeCloud]:
    with FakeCloud(broker, worker_credentials[0], device) as cloud:
        yield cloud
