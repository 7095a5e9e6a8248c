import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import TimeoutError as StarvedError

from cloud.operations.till.opening import Opened
from cloud.operations.till.pos import Desk, SignedReply, Unanswered, answer_alone
from cloud.store.policy_post import Letter, read_all_active
from cloud.store.tables import devices, policies, spent_tokens
from cloud.worker.mqtt5 import Message
from cloud.worker.worker import Worker
from protocol import topics
from protocol.ids import DeviceId
from protocol.messages import Approved, Declined, Reason, SignedIn
from protocol.policy import Policy, open_policy
from tests.cloud.floor import Floor
from tests.cloud.wire import WAIT_S, WireTill, eventually
from venue.servers import Broker, Credentials

DYING = Path(__file__).with_name("worker_that_dies.py")


def test_killed_between_commit_and_reply_the_sale_sent_again_gets_the_one_answer(  # noqa: PLR0917  # pytest passes fixtures by name
    floor: Floor,
    broker: Broker,
    stall: WireTill,
    worker_credentials: list[Credentials],
    start_worker: Callable[[], Worker],
    tmp_path: Path,
) -> None:
    guest = floor.add_guest(2000)
    sale = stall.till.deduct(floor.qr(guest), 350)
    token = stall.till.sign(sale)
    mine = worker_credentials[3]
    files = (str(mine.certificate), str(mine.key), str(mine.ca))
    arguments = (floor.url, str(tmp_path / "keys"), broker.host, str(broker.port), *files)
    with subprocess.Popen(
        [sys.executable, DYING, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "."},
    ) as dying:
        try:
            assert dying.stdout is not None
            assert "ready\n" in iter(dying.stdout.readline, "")
            stall.publish(token)
            assert dying.wait(WAIT_S) == -signal.SIGKILL
        finally:
            dying.kill()
    # The power went after the commit and before the reply.
    [posted] = floor.deducts(guest)
    assert stall.hears_nothing(0.1)

    start_worker()
    answer = stall.send(token, sale)
    assert isinstance(answer, Approved)
    assert answer.transaction_id == str(posted.id)
    assert stall.send(token, sale) == answer
    assert [row.id for row in floor.deducts(guest)] == [posted.id]
    assert floor.balance(guest) == 1650


def test_staff_sign_in_over_the_wire_and_sell(
    floor: Floor, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    start_worker()
    signed_in = stall.ask(stall.till.sign_in(floor))
    assert isinstance(signed_in, SignedIn)
    guest = floor.add_guest()
    sale = stall.till.deduct(floor.qr(guest), session_id=signed_in.session_id)
    assert isinstance(stall.ask(sale), Approved)
    earlier = stall.till.deduct(floor.qr(guest))
    assert stall.ask(earlier) == Declined(Reason.SESSION_ENDED)


def test_a_request_published_at_qos_0_is_answered_and_silences_nobody(
    floor: Floor, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    worker = start_worker()
    guest = floor.add_guest()
    first, second = stall.till.deduct(floor.qr(guest)), stall.till.deduct(floor.qr(guest))
    token = stall.till.sign(first)
    stall._client.publish(topics.requests(stall.till.device_id), token, 0)
    assert isinstance(stall.expect(token, first), Approved)
    assert worker.is_subscribed
    assert isinstance(stall.ask(second), Approved)


def test_an_appliance_that_floods_the_slow_sign_ins_waits_for_itself_alone(
    floor: Floor,
    stall: WireTill,
    start_worker: Callable[[], Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_compare = threading.Event()

    def compare_slowly(desk: Desk, opened: Opened) -> SignedReply | Unanswered:
        assert may_compare.wait(WAIT_S)
        return answer_alone(desk, opened)

    monkeypatch.setattr("cloud.worker.worker.answer_alone", compare_slowly)
    start_worker()
    tries = [stall.till.sign_in(floor, pin="0000") for _ in range(40)]
    tokens = [stall.till.sign(each) for each in tries]
    for token in tokens:
        stall.publish(token)
    # Sales are answered meanwhile; once this one is, every sign-in before it was taken.
    assert isinstance(stall.ask(stall.till.deduct(floor.qr(floor.add_guest()))), Approved)
    may_compare.set()
    assert stall.expect(tokens[0], tries[0]) == Declined(Reason.PIN_WRONG)
    assert stall.ask(stall.till.sign_in(floor, pin="0000")) == Declined(Reason.PIN_WRONG)
    assert len(floor.audit(action="sign_in")) == 2


def test_a_policy_waits_for_its_appliance_and_a_newer_one_follows(
    floor: Floor, broker: Broker, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    start_worker()
    assert version(floor, stall.policies.get(timeout=WAIT_S)) == 1
    issue_policy(floor, stall, 2)
    # The first may come twice: once because it waited, once because the broker was new.
    while version(floor, stall.policies.get(timeout=WAIT_S)) != 2:
        continue
    eventually(lambda: unpublished(floor) == 0)


def test_a_broker_that_forgot_everything_is_told_all_policies_again(
    floor: Floor, broker: Broker, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    worker = start_worker()
    assert version(floor, stall.policies.get(timeout=WAIT_S)) == 1
    eventually(lambda: unpublished(floor) == 0)
    broker.stop()
    broker.start()
    assert worker.wait_until_subscribed(30)
    while version(floor, stall.policies.get(timeout=30)) != 1:
        continue
    guest = floor.add_guest()
    assert isinstance(stall.ask(stall.till.deduct(floor.qr(guest))), Approved)


def test_policies_are_told_again_though_the_database_was_starved_at_that_moment(
    floor: Floor,
    broker: Broker,
    stall: WireTill,
    start_worker: Callable[[], Worker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = start_worker()
    assert version(floor, stall.policies.get(timeout=WAIT_S)) == 1
    eventually(lambda: unpublished(floor) == 0)
    starved = iter([True])

    def read(connection: Connection) -> list[Letter]:
        if next(starved, False):
            # Not an error of the database's own: every connection was taken.
            raise StarvedError("QueuePool limit reached")
        return read_all_active(connection)

    monkeypatch.setattr("cloud.worker.worker.read_all_active", read)
    broker.stop()
    broker.start()
    assert worker.wait_until_subscribed(30)
    while version(floor, stall.policies.get(timeout=30)) != 1:
        continue
    assert not next(starved, False)


def test_a_request_whose_message_has_expired_is_decided_for_nobody(
    floor: Floor, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    worker = start_worker()
    guest = floor.add_guest()
    sale = stall.till.deduct(floor.qr(guest))
    # As if the batch before had taken longer than the till waits: the clock has moved on.
    started_at = floor.now()
    waiting = Properties(PacketTypes.PUBLISH)
    waiting.MessageExpiryInterval = 1
    clock = LateClock(floor)
    object.__setattr__(floor.desk, "now", clock)
    stall._client.publish(
        topics.requests(stall.till.device_id), stall.till.sign(sale), 1, properties=waiting
    )
    eventually(lambda: clock.asked >= 2)
    assert stall.hears_nothing(0.2)
    assert worker.is_subscribed
    assert floor.deducts(guest) == []
    assert floor.now() > started_at


class LateClock:
    """Each time it is asked, a minute has passed."""

    def __init__(self, floor: Floor) -> None:
        self.asked = 0
        self._floor = floor

    def __call__(self) -> datetime:
        self.asked += 1
        return self._floor.now() + timedelta(minutes=self.asked)


def test_stopping_answers_what_was_taken(
    floor: Floor, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    worker = start_worker()
    guest = floor.add_guest(100_000)
    sales = [stall.till.deduct(floor.qr(guest)) for _ in range(30)]
    tokens = [stall.till.sign(sale) for sale in sales]
    for token in tokens:
        stall.publish(token)
    assert isinstance(stall.expect(tokens[0], sales[0]), Approved)
    worker.stop()
    posted = {row.idempotency_key for row in floor.deducts(guest)}
    for sale, token in zip(sales[1:], tokens[1:], strict=True):
        if sale.key in posted:
            assert isinstance(stall.expect(token, sale), Approved)
    assert not worker.is_subscribed


def version(floor: Floor, jws: bytes) -> int:
    policy_key = floor.keys.policy
    find_key = {str(policy_key.kid): policy_key.private.public_key()}.get
    opened = open_policy(jws, find_key, DeviceId("till-1"), 0)
    assert isinstance(opened, Policy)
    return opened.version


def issue_policy(floor: Floor, stall: WireTill, number: int) -> None:
    till, now = stall.till, floor.now()
    with floor.database.transaction() as connection:
        connection.execute(
            insert(policies).values(
                device_id=till.device_id,
                version=number,
                jws=floor.policy(till.device_id, till.stall_id, number, None),
                issued_at=now,
                expires_at=now + timedelta(days=3),
            )
        )
        connection.execute(update(devices).values(policy_version=number))


def unpublished(floor: Floor) -> int:
    with floor.database.reading() as connection:
        waiting = select(policies.c.version).where(policies.c.published_at.is_(None))
        return len(connection.execute(waiting).all())


def test_a_worker_forgets_used_qrs_that_no_upload_can_name_any_more(
    floor: Floor, start_worker: Callable[[], Worker]
) -> None:
    guest = floor.add_guest()
    long_ago, soon = floor.now() - timedelta(days=1), floor.now() + timedelta(days=1)
    with floor.database.transaction() as connection:
        for jti, expires_at in (("old-token-1", long_ago), ("new-token-1", soon)):
            row = {"user_id": UUID(guest.user_id), "jti": jti, "expires_at": expires_at}
            connection.execute(insert(spent_tokens).values(row))

    def kept() -> list[str]:
        with floor.database.reading() as connection:
            return list(connection.execute(select(spent_tokens.c.jti)).scalars())

    start_worker()
    eventually(lambda: kept() == ["new-token-1"])


def test_a_request_on_a_topic_that_names_no_appliance_posts_nothing(
    floor: Floor, stall: WireTill, start_worker: Callable[[], Worker]
) -> None:
    worker = start_worker()
    guest = floor.add_guest()
    token = stall.till.sign(stall.till.deduct(floor.qr(guest), 350))
    for topic in ("railtix/v1/devices/TILL-1/requests", "railtix/v1/devices/requests", ""):
        worker._take([Message(topic, token, b"", None)])
    assert floor.deducts(guest) == []
    worker._take([Message(topics.requests(DeviceId("till-1")), token, b"", None)])
    assert len(floor.deducts(guest)) == 1
