"""Starts the cloud's parts in one process, says when they are ready, and stops them in order."""

import os
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import structlog

from cloud.api.app import make_app
from cloud.api.appliances import AppliancesListener
from cloud.api.bundle_fetches import Fetches
from cloud.api.changes import WalletChanges
from cloud.api.context import Cloud
from cloud.api.limits import Limits
from cloud.api.server import Server, listen, reachable
from cloud.cards import choose_provider
from cloud.clock import utc_clock
from cloud.courier.rounds import make_courier
from cloud.gate import OwnGate
from cloud.keys import KeyRing
from cloud.operations.proof.sequence_records import NewestCheckpoint, SequencerThread
from cloud.operations.till.pos import Desk
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.delivery import WebhookDelivery
from cloud.readiness import Readiness
from cloud.running import Service, announce, monitored, on_signal, run_until_told
from cloud.settings import AuthoritySettings, Settings, SettingsError
from cloud.store.database import Database
from cloud.warden.warden import Warden
from cloud.worker.worker import Worker

_log = structlog.stdlib.get_logger("cloud")


class Part(Service, Protocol):
    """One that should run for as long as the process does."""

    @property
    def is_alive(self) -> bool: ...


def serve(settings: Settings, ready_file: Path | None) -> None:
    """Everything in one process: the HTTP edge, a courier, the worker where a broker is named."""
    with _opened(settings) as (database, keys), _desk(settings, database, keys) as desk:
        worker = None if settings.broker is None else Worker(desk, settings.broker)
        _run_http(settings, desk, worker, ready_file, is_alone=True)


def serve_api(settings: Settings, ready_file: Path | None) -> None:
    """The HTTP edge alone; workers run elsewhere on the same database and keys."""
    with _opened(settings) as (database, keys), _desk(settings, database, keys) as desk:
        _run_http(settings, desk, None, ready_file)


def serve_worker(settings: Settings, ready_file: Path | None) -> None:
    """One worker alone; each needs a certificate of its own."""
    if settings.broker is None:
        raise SettingsError("broker: a worker needs the [broker] section")
    with _opened(settings) as (database, keys), _desk(settings, database, keys) as desk:
        worker = Worker(desk, settings.broker)
        readiness = Readiness(database)
        readiness.add("worker", lambda: _hears(worker))
        # The API tells the same figures, and a worker has no time for them.
        with monitored(settings.metrics, database, readiness, reads_figures=False):
            run_until_told(worker, readiness, ready_file, lambda: worker.is_subscribed)


def serve_sequencer(settings: Settings, ready_file: Path | None) -> None:
    """One sequencer alone; a second one stands by."""
    with _opened(settings) as (database, keys):
        sequencer = _sequencer(settings, database, keys)
        readiness = Readiness(database)
        readiness.add_thread("sequencer", lambda: sequencer.is_alive)
        with monitored(settings.metrics, database, readiness):
            run_until_told(sequencer, readiness, ready_file)


def serve_courier(settings: Settings, ready_file: Path | None) -> None:
    """One courier alone; several at once share the work."""
    with _opened(settings) as (database, _):
        # It opens no page that anybody is shown.
        provider = choose_provider(settings, str(settings.public_url or "http://localhost"))
        courier = make_courier(settings, database, provider, utc_clock)
        readiness = Readiness(database)
        readiness.add_thread("courier", lambda: courier.is_alive)
        with monitored(settings.metrics, database, readiness):
            run_until_told(courier, readiness, ready_file)


def serve_warden(settings: Settings, ready_file: Path | None) -> None:
    """One warden alone, where the authority's folder is; a second one stands by."""
    if settings.authority is None:
        raise SettingsError("authority: a warden needs the [authority] section")
    with _opened(settings) as (database, _):
        warden = _warden(settings, settings.authority, database)
        readiness = Readiness(database)
        readiness.add_thread("warden", lambda: warden.is_alive)
        with monitored(settings.metrics, database, readiness):
            run_until_told(warden, readiness, ready_file)


def _start_warden(
    settings: Settings, database: Database, readiness: Readiness, running: ExitStack
) -> None:
    if settings.authority is not None and settings.authority.in_serve:
        warden = _warden(settings, settings.authority, database)
        readiness.add_thread("warden", lambda: warden.is_alive)
        warden.start()
        running.callback(warden.stop)


def _warden(settings: Settings, authority: AuthoritySettings, database: Database) -> Warden:
    return Warden(authority, settings.broker, database, utc_clock)


def _sequencer(settings: Settings, database: Database, keys: KeyRing) -> SequencerThread:
    return SequencerThread(
        database,
        keys,
        utc_clock,
        every_s=settings.audit.checkpoint_every_s,
        checkpoint_file=settings.checkpoint_file,
    )


@contextmanager
def _desk(settings: Settings, database: Database, keys: KeyRing) -> Generator[Desk]:
    """Where appliances are answered; it learns of each new checkpoint by the way."""
    newest = NewestCheckpoint(database, settings.audit.checkpoint_every_s)
    newest.start()
    try:
        yield Desk(database, keys, utc_clock, newest_checkpoint=newest)
    finally:
        newest.stop()


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
    settings: Settings,
    desk: Desk,
    worker: Worker | None,
    ready_file: Path | None,
    *,
    is_alone: bool = False,
) -> None:
    """`is_alone`: no other process carries letters or takes records into the tree."""
    listening = listen(settings.http.host, settings.http.port)
    port = int(listening.getsockname()[1])
    is_https = settings.http.tls_certificate is not None
    scheme = "https" if is_https else "http"
    own_url = f"{scheme}://{reachable(settings.http.host)}:{port}"
    public_url = str(settings.public_url or own_url).rstrip("/")

    with ExitStack() as running:
        running.callback(listening.close)
        readiness = Readiness(desk.database)
        said: dict[str, object] = {"pid": os.getpid(), "port": port, "url": own_url}
        own_gate = _take_gate(settings, running, said)
        running.enter_context(monitored(settings.metrics, desk.database, readiness))
        if is_alone and settings.audit.in_serve:
            # It stops last: what the others still write goes into the tree.
            sequencer = _sequencer(settings, desk.database, desk.keys)
            _start("sequencer", sequencer, readiness, running)
        changes = WalletChanges(desk.database)
        provider, delivery = choose_provider(settings, public_url), None
        built_in = provider if isinstance(provider, BuiltInProvider) else None
        if built_in is not None:
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
            bundles=BundleFolder(
                settings.updates_folder, settings.updates.bundle_megabytes_max * 1_000_000
            ),
            limits=Limits(settings.limits),
            fetches=Fetches(settings.updates),
            provider=provider,
            built_in=built_in,
            delivery=delivery,
            gate=None if own_gate is None else own_gate.gate,
            readiness=readiness,
            writes_access_log=settings.http.access_log,
        )
        changes.start()
        running.callback(changes.stop)
        server = Server(make_app(cloud), settings.http, changes)
        if is_alone and settings.courier.in_serve:
            courier = make_courier(settings, desk.database, provider, utc_clock)
            _start("courier", courier, readiness, running)
        if is_alone:
            _start_warden(settings, desk.database, readiness, running)
        if worker is not None:
            readiness.add("worker", lambda: _hears(worker))
            worker.start()
            running.callback(worker.stop)
        listener = None if own_gate is None else own_gate.listener(cloud)
        if listener is not None:
            # It stops first of all that stands here: what answers for it is there until then.
            _start("appliances", listener, readiness, running)
        announcer = threading.Thread(
            target=_announce_when_ready,
            args=(server, worker, ready_file, said),
            daemon=True,
        )
        announcer.start()
        with on_signal(lambda: _leave(server, listener, readiness, settings.http.drain_s)):
            server.run(sockets=[listening])
    _log.info("stopped")


def _start(name: str, part: Part, readiness: Readiness, running: ExitStack) -> None:
    readiness.add_thread(name, lambda: part.is_alive)
    part.start()
    running.callback(part.stop)


def _take_gate(settings: Settings, running: ExitStack, said: dict[str, object]) -> OwnGate | None:
    if settings.appliances is None:
        return None
    own_gate = OwnGate(settings, settings.appliances)
    running.callback(own_gate.close)
    said["appliances_url"] = own_gate.own_url
    return own_gate


def _leave(
    server: Server, listener: AppliancesListener | None, readiness: Readiness, drain_s: float
) -> None:
    """First not ready, then no new connections, then an answer for each request that is here."""

    def end(*, at_once: bool = False) -> None:
        server.force_exit = server.force_exit or at_once
        server.should_exit = True
        if listener is not None:
            listener.leave(at_once=at_once)

    if readiness.is_leaving:
        # A second signal does not wait for anybody.
        end(at_once=True)
    elif drain_s > 0:
        _log.info("draining", drain_s=drain_s)
        timer = threading.Timer(drain_s, end)
        timer.daemon = True
        timer.start()
    else:
        end()
    readiness.leave()


def _hears(worker: Worker) -> str | None:
    return None if worker.is_subscribed else "it is not connected to the broker"


def _announce_when_ready(
    server: Server, worker: Worker | None, ready_file: Path | None, said: dict[str, object]
) -> None:
    waited = threading.Event()
    while not (server.started and (worker is None or worker.is_subscribed)):
        if server.should_exit:
            return
        waited.wait(0.01)
    announce(ready_file, said)
