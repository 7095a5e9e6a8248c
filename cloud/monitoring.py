"""What this process tells whoever watches it, on an address of its own: metrics and readiness."""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, ThreadingWSGIServer
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from cloud.metrics import REGISTRY
from cloud.operations.proof.figures import read_figures
from cloud.readiness import WELL, Readiness, is_well
from cloud.store.database import Database

_log = structlog.stdlib.get_logger("cloud")

_FIGURES: Final[Mapping[str, str]] = {
    "audit_pending": "Commits whose records are not in the audit tree yet.",
    "audit_pending_oldest_s": "The age of the oldest of them.",
    "letters_waiting": "Letters in the outbox.",
    "letters_oldest_s": "The age of the oldest of them.",
    "letters_given_up": "Letters that no mail server would take.",
    "payments_pending": "Card payments whose end is not known.",
    "payments_oldest_s": "The age of the oldest of them.",
    "card_refunds_waiting": "Refunds to cards that are still to be made or confirmed.",
    "card_refunds_failed": "Refunds to cards that the provider refused for good.",
    "cash_outs_waiting": "Cash-outs that have not ended.",
    "review_entries_open": "Sales that a person has to judge.",
    "approvals_waiting": "Refunds and adjustments that wait for a second person.",
    "devices_silent": "Appliances at a stall that were not heard for three minutes.",
    "devices_queue": "Messages that appliances still have to send, as each said last.",
    "devices_online": "Appliances that the broker has a connection of; absent: nobody knows.",
    "devices_clock_unset": "Appliances at a stall that have their time from nobody.",
    "devices_hottest_celsius": "The hottest appliance that was heard lately.",
    "devices_update_failed": "Appliances that refused the version they are to have, or left it.",
}
"""What each means; its metric is `railtix_` and the name, with `_s` written out."""


class Telling(Collector):
    """Reads when it is asked. `reads_figures`: no where another process tells the same."""

    def __init__(
        self,
        database: Database,
        readiness: Readiness,
        clock: Callable[[], datetime],
        *,
        reads_figures: bool = True,
    ) -> None:
        self._database = database
        self._readiness = readiness
        self._clock = clock
        self._reads_figures = reads_figures

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "railtix_ready", "1 while this part of the process is well.", labels=["part"]
        )
        for name, state in self._readiness.look().items():
            ready.add_metric([name], float(state == WELL))
        yield ready
        yield from self._pool()
        if self._reads_figures:
            yield from self._figures()

    def _pool(self) -> Iterator[Metric]:
        pool = self._database.engine.pool
        connections = GaugeMetricFamily(
            "railtix_database_pool_connections",
            "Connections of this process to the database.",
            labels=["state"],
        )
        if isinstance(pool, QueuePool):
            connections.add_metric(["in_use"], pool.checkedout())
            connections.add_metric(["idle"], pool.checkedin())
        yield connections
        most = GaugeMetricFamily(
            "railtix_database_pool_connections_max", "How many there may be at once."
        )
        most.add_metric([], self._database.connections_max)
        yield most

    def _figures(self) -> Iterator[Metric]:
        try:
            with self._database.reading() as connection:
                found = read_figures(connection, self._clock())
        except SQLAlchemyError as error:
            # `railtix_ready` says it; what is not known is not told.
            _log.warning("figures_not_read", error=type(error).__name__)
            return
        for name, meaning in _FIGURES.items():
            figure = getattr(found, name)
            if figure is not None:
                yield GaugeMetricFamily(metric_of(name), meaning, figure)
        devices = GaugeMetricFamily(
            "railtix_devices", "Appliances by their status.", labels=["status"]
        )
        for status, count in found.devices.items():
            devices.add_metric([status], count)
        yield devices


def metric_of(figure: str) -> str:
    """Prometheus spells units out: `oldest_s` is `oldest_seconds`."""
    return "railtix_" + re.sub(r"_s$", "_seconds", figure)


class Monitor:
    """`GET /metrics`, `/healthz` and `/readyz`, served by a thread of its own.

    Bind it where nobody but those who watch can reach it: it tells how busy the event is.
    """

    def __init__(self, host: str, port: int, telling: Telling, readiness: Readiness) -> None:
        """Raises OSError where the address is taken."""
        self._telling = telling
        self._readiness = readiness
        self._server = make_server(host, port, self._answer, _Server, _Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitor")

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        REGISTRY.register(self._telling)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        REGISTRY.unregister(self._telling)

    def _answer(self, asked: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        status, kind, body = HTTPStatus.OK, "application/json", b""
        match asked["PATH_INFO"]:
            case "/metrics":
                kind, body = CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
            case "/healthz":
                body = json.dumps({"status": "alive"}).encode()
            case "/readyz":
                found = self._readiness.look()
                if not is_well(found):
                    status = HTTPStatus.SERVICE_UNAVAILABLE
                said = "ready" if status is HTTPStatus.OK else "not_ready"
                body = json.dumps({"status": said, "parts": found}).encode()
            case _:
                status, kind = HTTPStatus.NOT_FOUND, "text/plain"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start(f"{status.value} {status.phrase}", headers)
        return [body]


class _Server(ThreadingWSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 10
    """Seconds: whoever connects and says nothing holds no thread for longer."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """A scrape every few seconds is no news."""
