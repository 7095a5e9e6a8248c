"""A worker whose power goes between its first commit and the reply to it."""

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from cloud.keys import KeyRing
from cloud.operations.till.pos import Desk, SignedReply
from cloud.store.database import Database
from cloud.worker.worker import Worker
from tests.cloud.wire import Line


class WorkerThatDies(Worker):
    def _reply(self, answer: SignedReply) -> None:
        del answer
        # What it says was committed before it was signed.
        os.kill(os.getpid(), signal.SIGKILL)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  # a program of its own has the real clock


if __name__ == "__main__":
    url, keys, host, port, certificate, key, authorities = sys.argv[1:]
    desk = Desk(Database(url), KeyRing(Path(keys)), _now)
    line = Line(host, int(port), Path(certificate), Path(key), Path(authorities))
    worker = WorkerThatDies(desk, line)
    worker.start()
    assert worker.wait_until_subscribed(20)
    print("ready", flush=True)  # noqa: T201  # tells the test that it may publish
    signal.pause()
