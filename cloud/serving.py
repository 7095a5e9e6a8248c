"""Starts the cloud's parts in one process, says when they are ready, and stops them in order."""

import json
import os
import secrets
import signal
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
import uvicorn

from cloud.api.app import make_app
from cloud.api.changes import WalletChanges
from cloud.api.context import Cloud
from cloud.clock import utc_clock
from cloud.courier.rounds import make_courier
from cloud.keys import KeyRing
from cloud.operations.pos import Desk
from cloud.payments.built_in import BOOKS, BuiltInProvider
from cloud.payments.delivery import WebhookDelivery
from cloud.settings import Settings, SettingsError
from cloud.store.database import Database
from cloud.worker.worker import Worker

STREAMS_END_WITHIN_S: Final = 5
WORKER_READY_POLL_S: Final = 0.2
_BACKLOG: Final = 512

_log = structlog.stdlib.get_logger("cloud")


def serve(settings: Settings, ready_file: Path | None) -> None:
    """Everything in one process: the HTTP edge, and the worker where a broker is named."""
    with _opened(settings) as (database, keys):
        desk = Desk(database, keys, utc_clock)
        worker = None if settings.broker is None else Worker(desk, settings.broker)
        _run_http(settings, desk, worker, ready_file)


def serve_api(settings: Settings, ready_file: Path | None) -> None:
    """The HTTP edge alone; workers run elsewhere on the same database and keys."""
    with _opened(settings) as (database, keys):
        _run_http(settings, Desk(database, keys, utc_clock), None, ready_file)


def serve_worker(settings: Settings, ready_file: Path | None) -> None:
    """One worker alone; each needs a certificate of its own."""
    if settings.broker is None:
        raise SettingsError("broker: a worker needs the [broker] section")
    with _opened(settings) as (database, keys):
        worker = Worker(Desk(database, keys, utc_clock), settings.broker)
        stopping = threading.Event()
        with _signals_set(stopping):
            worker.start()
            try:
                while not stopping.is_set():
                    if worker.wait_until_subscribed(WORKER_READY_POLL_S):
                        _announce(ready_file, {"pid": os.getpid()})
                        break
                stopping.wait()
            finally:
                worker.stop()
    _log.info("stopped")


def serve_courier(settings: Settings, ready_file: Path | None) -> None:
    """One courier alone; several at once share the work."""
    with _opened(settings) as (database, _):
        courier = make_courier(settings, database, _far_provider(settings), utc_clock)
        stopping = threading.Event()
        with _signals_set(stopping):
            courier.start()
            try:
                _announce(ready_file, {"pid": os.getpid()})
                stopping.wait()
            finally:
                courier.stop()
    _log.info("stopped")


@contextmanager
def _opened(settings: Settings) -> Generator[tuple[Database, KeyRing]]:
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.check_migrated()
        yield database, KeyRing(settings.keys_folder)
    finally:
        database.close()


def _run_http(
    settings: Settings, desk: Desk, worker: Worker | None, ready_file: Path | None
) -> None:
    listening = _listen(settings.http.host, settings.http.port)
    port = int(listening.getsockname()[1])
    is_https = settings.http.tls_certificate is not None
    scheme = "https" if is_https else "http"
    own_url = f"{scheme}://{_reachable(settings.http.host)}:{port}"
    public_url = str(settings.public_url or own_url).rstrip("/")

    with ExitStack() as running:
        running.callback(listening.close)
        changes = WalletChanges(desk.database)
        built_in, delivery = None, None
        if settings.payments.test_provider:
            built_in = BuiltInProvider(
                public_url, _provider_secret(settings), settings.state / BOOKS
            )
            delivery = WebhookDelivery(
                f"{own_url}/v1/webhooks/test",
                built_in,
                utc_clock,
                settings.http.tls_certificate,
            )
            delivery.start()
            running.callback(delivery.stop)
        cloud = Cloud(
            database=desk.database,
            keys=desk.keys,
            desk=desk,
            public_url=public_url,
            changes=changes,
            provider=built_in,
            built_in=built_in,
            delivery=delivery,
            is_worker_ready=lambda: worker is None or worker.is_subscribed,
        )
        changes.start()
        running.callback(changes.stop)
        server = _Server(_uvicorn_config(settings, cloud), changes)
        if worker is not None:
            worker.start()
            running.callback(worker.stop)
        announcer = threading.Thread(
            target=_announce_when_ready,
            args=(server, worker, ready_file, {"pid": os.getpid(), "port": port, "url": own_url}),
            daemon=True,
        )
        announcer.start()
        with _signals_stop(server):
            server.run(sockets=[listening])
    _log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to us; open streams end before it waits for them."""

    def __init__(self, config: uvicorn.Config, changes: WalletChanges) -> None:
        super().__init__(config)
        self._changes = changes

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._changes.stop()
        await super().shutdown(sockets)


def _uvicorn_config(settings: Settings, cloud: Cloud) -> uvicorn.Config:
    certificate, key = settings.http.tls_certificate, settings.http.tls_key
    config = uvicorn.Config(
        make_app(cloud),
        lifespan="off",
        log_config=None,
        access_log=False,  # a line a request would hold payment pages' addresses
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STREAMS_END_WITHIN_S,
        ssl_certfile=None if certificate is None else str(certificate),
        ssl_keyfile=None if key is None else str(key),
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


def _announce_when_ready(
    server: _Server, worker: Worker | None, ready_file: Path | None, said: dict[str, object]
) -> None:
    waited = threading.Event()
    while not (server.started and (worker is None or worker.is_subscribed)):
        if server.should_exit:
            return
        waited.wait(0.01)
    _announce(ready_file, said)


def _announce(ready_file: Path | None, said: dict[str, object]) -> None:
    """In the log, and as a file that appears whole."""
    _log.info("ready", **said)
    if ready_file is not None:
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(said), encoding="utf-8")
        draft.replace(ready_file)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"http: cannot listen on {host} port {port}: {error.strerror}"
        ) from error
    listening.listen(_BACKLOG)
    return listening


def _reachable(host: str) -> str:
    """Where this machine itself reaches the address it listens on."""
    match host:
        case "0.0.0.0":  # noqa: S104  # read from the settings, not bound here
            return "127.0.0.1"
        case "::":
            return "[::1]"
        case _:
            return f"[{host}]" if ":" in host else host


def _provider_secret(settings: Settings) -> bytes:
    """The settings' secret, or one made once and kept beside the keys: restarts agree on it."""
    if settings.payments.webhook_secret is not None:
        return settings.payments.webhook_secret.get_secret_value().encode()
    path = settings.keys_folder / "test-provider.secret"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()


@contextmanager
def _signals_stop(server: uvicorn.Server) -> Generator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # A second signal does not wait for anybody.
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _signals_set(stopping: threading.Event) -> Generator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
