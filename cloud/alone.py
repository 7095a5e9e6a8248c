"""The parts that serve no HTTP, each as a process of its own: none of them loads the edge."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cloud.cards import choose_provider
from cloud.clock import utc_clock
from cloud.courier.rounds import make_courier
from cloud.keys import KeyRing
from cloud.operations.proof.sequence_records import NewestCheckpoint, SequencerThread
from cloud.operations.till.pos import Desk
from cloud.readiness import Readiness
from cloud.running import monitored, run_until_told
from cloud.settings import AuthoritySettings, Settings, SettingsError
from cloud.store.database import Database
from cloud.warden.warden import Warden
from cloud.worker.worker import Worker


def serve_worker(settings: Settings, ready_file: Path | None) -> None:
    """One worker alone; each needs a certificate of its own."""
    if settings.broker is None:
        raise SettingsError("broker: a worker needs the [broker] section")
    with opened(settings) as (database, keys), at_desk(settings, database, keys) as desk:
        worker = Worker(desk, settings.broker)
        readiness = Readiness(database)
        readiness.add("worker", lambda: hears(worker))
        # The API tells the same figures, and a worker has no time for them.
        with monitored(settings.metrics, database, readiness, reads_figures=False):
            run_until_told(worker, readiness, ready_file, lambda: worker.is_subscribed)


def serve_sequencer(settings: Settings, ready_file: Path | None) -> None:
    """One sequencer alone; a second one stands by."""
    with opened(settings) as (database, keys):
        sequencer = make_sequencer(settings, database, keys)
        readiness = Readiness(database)
        readiness.add_thread("sequencer", lambda: sequencer.is_alive)
        with monitored(settings.metrics, database, readiness):
            run_until_told(sequencer, readiness, ready_file)


def serve_courier(settings: Settings, ready_file: Path | None) -> None:
    """One courier alone; several at once share the work."""
    with opened(settings) as (database, _):
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
    with opened(settings) as (database, _):
        warden = make_warden(settings, settings.authority, database)
        readiness = Readiness(database)
        readiness.add_thread("warden", lambda: warden.is_alive)
        with monitored(settings.metrics, database, readiness):
            run_until_told(warden, readiness, ready_file)


def make_warden(settings: Settings, authority: AuthoritySettings, database: Database) -> Warden:
    return Warden(authority, settings.broker, database, utc_clock)


def make_sequencer(settings: Settings, database: Database, keys: KeyRing) -> SequencerThread:
    return SequencerThread(
        database,
        keys,
        utc_clock,
        every_s=settings.audit.checkpoint_every_s,
        checkpoint_file=settings.checkpoint_file,
    )


@contextmanager
def at_desk(settings: Settings, database: Database, keys: KeyRing) -> Generator[Desk]:
    """Where appliances are answered; it learns of each new checkpoint by the way."""
    newest = NewestCheckpoint(database, settings.audit.checkpoint_every_s)
    newest.start()
    try:
        yield Desk(database, keys, utc_clock, newest_checkpoint=newest)
    finally:
        newest.stop()


@contextmanager
def opened(settings: Settings) -> Generator[tuple[Database, KeyRing]]:
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.check_migrated()
        yield database, KeyRing(settings.keys_folder)
    finally:
        database.close()


def hears(worker: Worker) -> str | None:
    return None if worker.is_subscribed else "it is not connected to the broker"
