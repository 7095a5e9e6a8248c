"""Starts the cloud's parts in one process, says when they are ready, and stops them in order."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import structlog

from cloud.alone import at_desk, hears, make_sequencer, make_warden, opened
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
from cloud.operations.till.pos import Desk
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.delivery import WebhookDelivery
from cloud.readiness import Readiness
from cloud.running import Service, announce, monitored, on_signal
from cloud.settings import Settings
from cloud.store.database import Database
from cloud.worker.worker import Worker

_log = structlog.stdlib.get_logger("cloud")


class Part(Service, Protocol):
    """One that should run for as long as the process does."""

    @property
    def is_alive(self) -> bool: ...


def serve(settings: Settings, ready_file: Path | None) -> None:
    """Everything in one process: the HTTP edge, a courier, the worker where a broker is named."""
    with opened(settings) as (database, keys), at_desk(settings, database, keys) as desk:
        worker = None if settings.broker is None else Worker(desk, settings.broker)
        _run_http(settings, desk, worker, ready_file, is_alone=True)


def serve_api(settings: Settings, ready_file: Path | None) -> None:
    """The HTTP edge alone; workers run elsewhere on the same database and keys."""
    with opened(settings) as (database, keys), at_desk(settings, database, keys) as desk:
        _run_http(settings, desk, None, ready_file)


def _start_warden(
    settings: Settings, database: Database, readiness: Readiness, running: ExitStack
) -> None:
    if settings.authority is not None and settings.authority.in_serve:
        warden = make_warden(settings, settings.authority, database)
        readiness.add_thread("warden", lambda: warden.is_alive)
        warden.start()
        running.callback(warden.stop)


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
            sequencer = make_sequencer(settings, desk.database, desk.keys)
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
            readiness.add("worker", lambda: hears(worker))
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


def _announce_when_ready(
    server: Server, worker: Worker | None, ready_file: Path | None, said: dict[str, object]
) -> None:
    waited = threading.Event()
    while not (server.started and (worker is None or worker.is_subscribed)):
        if server.should_exit:
            return
        waited.wait(0.01)
    announce(ready_file, said)
