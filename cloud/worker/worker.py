"""The worker: batches of requests in, signed replies out; what is not committed is not said."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from cloud.metrics import POS_EXPIRED, POS_REPLIES
from cloud.operations.event.renew_policies import renew_policies
from cloud.operations.till.opening import Arrived, Opened, open_requests
from cloud.operations.till.pos import (
    Desk,
    SignedReply,
    answer_alone,
    answer_opened,
    refuse,
    runs_alone,
)
from cloud.store.database import CommitUnknownError
from cloud.store.policy_post import (
    Letter,
    mark_published,
    read_all_active,
    read_newest,
    read_unpublished,
)
from cloud.store.pruning import prune_spent_tokens
from cloud.worker.announcing import Announcing
from cloud.worker.connection import BrokerAddress, BrokerConnection
from cloud.worker.mqtt5 import Message
from cloud.worker.presence import KEEP_EVERY_S, Presence
from protocol import topics
from protocol.ids import DeviceId

BATCH_SIZE_MAX: Final = 256
POLICY_POLL_S: Final = 0.5
LETTERS_AT_ONCE: Final = 100
"""Policies on their way to the broker together: a sale waits for no more than these."""
PRUNE_EVERY_S: Final = 3600.0
PUBLISH_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 20.0

_log = structlog.stdlib.get_logger("cloud.worker")


class _Waiting(msgspec.Struct, frozen=True):
    arrived: Arrived
    expires_at: datetime | None
    """By the message's own expiry: afterwards the appliance has decided, and an approval would
    only be reversed."""


class Worker:
    """Runs in threads of its own: the broker's, which answers sales, and one each for sign-ins,
    policies, updates, presence and pruning."""

    def __init__(self, desk: Desk, broker: BrokerAddress) -> None:
        self._desk = desk
        self._presence = Presence()
        self._announcing = Announcing(desk)
        self._connection = BrokerConnection(
            broker,
            desk.keys.workers_group,
            self._take,
            self._subscribed,
            BATCH_SIZE_MAX,
            statuses=self._presence,
        )
        self._sign_ins = ThreadPoolExecutor(1, "sign-ins")
        self._signing_in: set[DeviceId] = set()
        self._stopping = threading.Event()
        self._all_policies_due = threading.Event()
        self._policies = threading.Thread(target=self._publish_policies, name="policies")
        self._pruning = threading.Thread(target=self._prune, name="pruning")
        self._watching = threading.Thread(target=self._watch, name="presence")

    def start(self) -> None:
        """Return at once; the broker may come later."""
        self._policies.start()
        self._announcing.start()
        self._pruning.start()
        self._watching.start()
        self._connection.start()

    def stop(self) -> None:
        """Take nothing new, answer what was taken, send it, and end; a second time is nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._connection.stop_taking()
        self._sign_ins.shutdown()
        self._announcing.stop(STOP_TIMEOUT_S)
        self._policies.join(STOP_TIMEOUT_S)
        self._pruning.join(STOP_TIMEOUT_S)
        self._watching.join(STOP_TIMEOUT_S)
        self._connection.close()

    def wait_until_subscribed(self, timeout_s: float) -> bool:
        """Whether requests reach this worker before the time is over."""
        return self._connection.wait_until_subscribed(timeout_s)

    @property
    def is_subscribed(self) -> bool:
        """For a health check: requests reach this worker now."""
        return self._connection.is_subscribed

    def _take(self, messages: Sequence[Message]) -> None:
        """On the connection's thread: the next requests come when these are answered."""
        now = self._desk.now()
        waiting: list[_Waiting] = []
        for each in messages:
            device_id = topics.device_of(each.topic)
            if device_id is None:
                # Without an appliance to compare with, any signer would pass, as over HTTPS.
                _log.warning("topic_of_nobody", topic=each.topic)
                continue
            expires_at = None if each.expiry_s is None else now + timedelta(seconds=each.expiry_s)
            waiting.append(_Waiting(Arrived(each.payload, device_id, now), expires_at))
        try:
            self._answer(waiting)
        except Exception:  # noqa: BLE001  # logged; a fault must not end the thread all stalls wait for
            _log.exception("batch_lost", requests=len(waiting))

    def _subscribed(self) -> None:
        # The broker keeps nothing across a restart, retained policies included.
        self._all_policies_due.set()

    def _answer(self, batch: list[_Waiting]) -> None:
        now = self._desk.now()
        arrived = [
            each.arrived for each in batch if each.expires_at is None or now <= each.expires_at
        ]
        if len(arrived) < len(batch):
            _log.warning("requests_expired", requests=len(batch) - len(arrived))
            POS_EXPIRED.inc(len(batch) - len(arrived))
        opened = open_requests(self._desk.database, self._desk.remembered, arrived)
        sales: list[Opened] = []
        for each in opened:
            if isinstance(each, Opened) and runs_alone(each):
                self._queue_sign_in(each)
            elif isinstance(each, Opened):
                sales.append(each)
        for answer in answer_opened(self._desk, sales):
            if isinstance(answer, SignedReply):
                self._reply(answer)
        for answer in refuse(self._desk, [one for one in opened if not isinstance(one, Opened)]):
            if isinstance(answer, SignedReply):
                self._reply(answer)

    def _queue_sign_in(self, opened: Opened) -> None:
        """One an appliance at a time: whoever floods the slow queue delays nobody else's shift.

        A till asks again after 1 s and 2 s, by when its own earlier one is answered.
        """
        device_id = opened.request.device
        if device_id in self._signing_in:
            _log.info("sign_in_passed_over", device_id=device_id)
            return
        self._signing_in.add(device_id)
        self._sign_ins.submit(self._sign_in, opened)

    def _sign_in(self, opened: Opened) -> None:
        try:
            answer = answer_alone(self._desk, opened)
        except Exception:  # noqa: BLE001  # logged; nobody reads this future
            _log.exception("sign_in_lost", request=opened.request_hash)
            return
        finally:
            self._signing_in.discard(opened.request.device)
        if isinstance(answer, SignedReply):
            self._reply(answer)

    def _reply(self, answer: SignedReply) -> None:
        self._connection.publish(topics.replies(answer.device_id), answer.jws)
        POS_REPLIES.inc()

    def _prune(self) -> None:
        """Forget used QRs that no upload can name any more; two workers may do it at once."""
        while True:
            try:
                with self._desk.database.transaction() as connection:
                    forgotten = prune_spent_tokens(connection, self._desk.now())
            except (SQLAlchemyError, CommitUnknownError) as error:
                _log.warning("used_qrs_not_pruned", error=type(error).__name__)
            else:
                _log.info("used_qrs_pruned", forgotten=forgotten)
            self._renew_policies()
            if self._stopping.wait(PRUNE_EVERY_S):
                return

    def _renew_policies(self) -> None:
        """Before they expire; a few at once, since every stall waits for an appliance's lock."""
        try:
            while not self._stopping.is_set():
                with self._desk.database.transaction() as connection:
                    renewed = renew_policies(connection, self._desk.keys, self._desk.now())
                if not renewed:
                    return
                _log.info("policies_renewed", policies=renewed)
        except (SQLAlchemyError, CommitUnknownError) as error:
            _log.warning("policies_not_renewed", error=type(error).__name__)
        except Exception:  # noqa: BLE001  # logged; one event's odd rules must not end the pruning
            _log.exception("policies_not_renewed")

    def _watch(self) -> None:
        """Keep who is connected; while the broker is away nobody knows, and nothing is written."""
        while not self._stopping.wait(KEEP_EVERY_S):
            if not self._connection.is_subscribed:
                continue
            now_s = time.monotonic()  # noqa: TID251  # a worker's thread is an edge
            try:
                self._presence.keep(self._desk.database, self._desk.now(), now_s)
            except (SQLAlchemyError, CommitUnknownError) as error:
                _log.warning("presence_not_kept", error=type(error).__name__)

    def _publish_policies(self) -> None:
        while not self._stopping.wait(POLICY_POLL_S):
            if not self._connection.is_subscribed:
                continue
            publish_all = self._all_policies_due.is_set()
            self._all_policies_due.clear()
            try:
                is_done = self._publish_waiting_policies(publish_all)
            except (SQLAlchemyError, CommitUnknownError) as error:
                _log.warning("policies_not_published", error=type(error).__name__)
                is_done = False
            if publish_all and not is_done:
                # The next round tries again.
                self._all_policies_due.set()

    def _publish_waiting_policies(self, publish_all: bool) -> bool:
        """Whether the broker has taken each of them."""
        with self._desk.database.reading() as connection:
            letters = (read_all_active if publish_all else read_unpublished)(connection)
        are_all_taken = True
        for start in range(0, len(letters), LETTERS_AT_ONCE):
            some = letters[start : start + LETTERS_AT_ONCE]
            sent = self._send_policies(some)
            are_all_taken = are_all_taken and len(sent) == len(some)
        return are_all_taken

    def _send_policies(self, letters: Sequence[Letter]) -> list[Letter]:
        """Those that the broker has taken."""
        messages = [(topics.policy(each.device_id), each.jws) for each in letters]
        taken = self._connection.publish_all_and_wait(messages, PUBLISH_TIMEOUT_S)
        sent = [letter for letter, is_taken in zip(letters, taken, strict=True) if is_taken]
        if not sent:
            return []
        with self._desk.database.transaction() as connection:
            mark_published(connection, sent, self._desk.now())
        # Another worker may have published a newer one just before ours: the last word is newest.
        with self._desk.database.reading() as connection:
            newest = read_newest(connection, [letter.device_id for letter in sent])
        after = {letter.device_id: letter for letter in newest}
        newer = [
            after[each.device_id]
            for each in sent
            if each.device_id in after and after[each.device_id].version > each.version
        ]
        again = [(topics.policy(each.device_id), each.jws) for each in newer]
        self._connection.publish_all_and_wait(again, PUBLISH_TIMEOUT_S)
        return sent
