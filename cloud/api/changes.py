"""Tells waiting phones that their wallet changed: one small query a tick, however many wait."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cloud.store.database import Database
from cloud.store.tables import credit_wallets

TICK_S: Final = 0.1
_ASKED_AT_ONCE: Final = 500
_KEEP_ALIVE_S: Final = 15.0

_log = structlog.stdlib.get_logger("api")


class WalletChanges:
    """A thread asks the database while anyone waits; whichever process sold, phones hear of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._waiting: dict[UUID, set[_Watcher]] = {}
        self._someone_waits = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wallet-changes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End every stream and the thread."""
        self._stopped.set()
        self._someone_waits.set()
        with self._mutex:
            watchers = [each for group in self._waiting.values() for each in group]
        for watcher in watchers:
            watcher.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def watching(self, user_id: UUID) -> int:
        """How many streams of this user are open in this process."""
        with self._mutex:
            return len(self._waiting.get(user_id, ()))

    async def stream(self, user_id: UUID, streams_max: int) -> AsyncGenerator[str]:
        """Server-sent events (WHATWG HTML section 9.2): `changed` after each change.

        Ends at once where `streams_max` of the user are open: several may begin together.
        """
        watcher = _Watcher(asyncio.get_running_loop())
        with self._mutex:
            group = self._waiting.setdefault(user_id, set())
            if len(group) >= streams_max:
                return
            group.add(watcher)
        self._someone_waits.set()
        try:
            # Also what changed between the page's own look and this line.
            yield "retry: 1000\nevent: changed\ndata: wallet\n\n"
            while not self._stopped.is_set():
                is_changed = await watcher.wait(_KEEP_ALIVE_S)
                yield "event: changed\ndata: wallet\n\n" if is_changed else ": still here\n\n"
        finally:
            with self._mutex:
                group = self._waiting[user_id]
                group.discard(watcher)
                if not group:
                    del self._waiting[user_id]

    def _run(self) -> None:
        known: dict[UUID, object] = {}
        while not self._stopped.is_set():
            with self._mutex:
                watched = list(self._waiting)
                if not watched:
                    self._someone_waits.clear()
            if not watched:
                known.clear()
                self._someone_waits.wait()
                continue
            try:
                states = self._read(watched)
            except SQLAlchemyError as error:
                _log.warning("wallet_changes_not_read", error=type(error).__name__)
                self._stopped.wait(1.0)
                continue
            for user_id in watched:
                state = states.get(user_id)
                # Seen for the first time: it may have changed since the stream began.
                if user_id not in known or known[user_id] != state:
                    self._tell(user_id)
            known = {user_id: states.get(user_id) for user_id in watched}
            self._stopped.wait(TICK_S)

    def _read(self, watched: list[UUID]) -> dict[UUID, object]:
        states: dict[UUID, tuple[object, ...]] = {}
        with self._database.reading() as connection:
            for at in range(0, len(watched), _ASKED_AT_ONCE):
                rows = connection.execute(
                    select(
                        credit_wallets.c.user_id,
                        credit_wallets.c.currency,
                        credit_wallets.c.balance_in_cents,
                        credit_wallets.c.updated_at,
                    )
                    .where(credit_wallets.c.user_id.in_(watched[at : at + _ASKED_AT_ONCE]))
                    .order_by(credit_wallets.c.user_id, credit_wallets.c.currency)
                )
                for row in rows:
                    states[row.user_id] = (*states.get(row.user_id, ()), *row[1:])
        return dict(states)

    def _tell(self, user_id: UUID) -> None:
        with self._mutex:
            watchers = list(self._waiting.get(user_id, ()))
        for watcher in watchers:
            watcher.wake()


class _Watcher:
    """One open stream, woken from the thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()

    def wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return False
        self._changed.clear()
        return True
