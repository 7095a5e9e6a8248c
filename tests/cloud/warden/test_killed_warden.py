"""The warden is killed at each line of a revocation, and the next one ends what it began."""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from cloud.operations.fleet.register_device import revoke_device
from cloud.settings import AuthoritySettings, BrokerSettings
from cloud.store.database import Database
from cloud.warden import following, registry
from cloud.warden.following import AGAIN_AFTER, end_sessions, list_revocations
from cloud.warden.registry import Registry
from provisioning.authority import certificates
from provisioning.authority.folder import read_crl
from tests.cloud.floor import Floor, Till
from tests.cloud.warden.sitting import Sitting, is_let_in
from tests.cloud.wire import Line, eventually

Enrol = Callable[[Floor], tuple[Till, Line]]

STEPS: dict[str, tuple[Any, str, bool]] = {
    # Where it dies: before or after this call.
    "register stored, no list written": (certificates, "revocation_list", False),
    "list written, the broker has none": (registry, "replace_crl", False),
    "the broker has it and was not told": (registry, "reload", False),
    "told, and not noted": (registry, "reload", True),
    "certificate issued, session stands": (following, "take_over", False),
    "session ended, and not noted": (following, "take_over", True),
}


@contextmanager
def dying(step: str) -> Generator[None]:
    room, name, dies_after = STEPS[step]
    real = getattr(room, name)

    def die(*arguments: Any, **named: Any) -> None:
        if dies_after:
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(room, name, die)
        yield


@pytest.mark.parametrize("step", STEPS)
def test_whatever_a_killed_warden_left_the_next_one_ends(
    sqlite_floor: Floor,
    enrol: Enrol,
    authority_settings: AuthoritySettings,
    broker_settings: BrokerSettings,
    step: str,
) -> None:
    floor = sqlite_floor
    lost, line = enrol(floor)
    with Sitting(line) as session:
        revoke_device(floor.database, lost.device_id, "lost", actor="ops:ana", now=floor.now())
        child = os.fork()
        if child == 0:
            # Nothing of the parent's is used; it never returns.
            with dying(step):
                database, reached = Database(floor.url), Registry(authority_settings)
                list_revocations(database, reached, floor.now())
                end_sessions(database, reached, broker_settings, floor.now())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)

        next_one = Registry(authority_settings)
        list_revocations(floor.database, next_one, floor.now(), tells_broker=True)
        end_sessions(floor.database, next_one, broker_settings, floor.now())
        assert session.has_ended()
    eventually(lambda: not is_let_in(line))
    later = floor.now() + AGAIN_AFTER + timedelta(seconds=1)
    assert end_sessions(floor.database, next_one, broker_settings, later) == 1
    assert end_sessions(floor.database, next_one, broker_settings, later) == 0
    [entry] = next_one.register().of_device(lost.device_id)
    crl = read_crl(authority_settings.folder)
    assert crl.get_revoked_certificate_by_serial_number(int(entry.serial, 16)) is not None
    assert len(floor.audit(action="broker_session_ended")) == 1
