"""Delivers the test provider's webhooks over real HTTP, again and again until they are taken."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Final, Protocol

import httpx
import structlog

SIGNATURE_HEADER: Final = "RailTix-Signature"
RETRY_AFTER_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
LOOK_EVERY_S: Final = 1.0
"""Another process may have put an event down too: a refund that the courier asked for."""

_log = structlog.stdlib.get_logger("payments")


class Outbox(Protocol):
    """Where events wait; `BuiltInProvider` is one."""

    def sign(self, body: bytes, now: datetime) -> str: ...

    def untold(self) -> Sequence[tuple[str, bytes]]: ...

    def mark_told(self, event_id: str, *, taken: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class _Trying:
    tries: int
    next_at: datetime


class WebhookDelivery:
    """One thread. What is undelivered when it stops is told by the next one."""

    def __init__(
        self,
        url: str,
        outbox: Outbox,
        clock: Callable[[], datetime],
        trusted: Path | None = None,
    ) -> None:
        """`trusted`: the certificate (PEM) to expect at `url`; None: those the system trusts."""
        self._url = url
        self._outbox = outbox
        self._clock = clock
        self._verify: SSLContext | bool = True
        if trusted is not None:
            self._verify = create_default_context(cafile=str(trusted))
        self._trying: dict[str, _Trying] = {}
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook-delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def nudge(self) -> None:
        """There is something to tell; returns at once."""
        self._wake.set()

    def _run(self) -> None:
        with httpx.Client(timeout=10, verify=self._verify, trust_env=False) as client:
            while not self._stopping.is_set():
                self._wake.clear()
                wait_s = self._tell_all(client)
                self._wake.wait(wait_s)

    def _tell_all(self, client: httpx.Client) -> float:
        """Tell what is due; how long until something may be again, in seconds."""
        untold = self._outbox.untold()
        self._trying = {id_: self._trying[id_] for id_, _ in untold if id_ in self._trying}
        for event_id, body in untold:
            trying = self._trying.get(event_id)
            if self._stopping.is_set():
                return 0
            if trying is None or trying.next_at <= self._clock():
                self._tell(client, event_id, body, 1 if trying is None else trying.tries + 1)
        now = self._clock()
        waits = [(each.next_at - now).total_seconds() for each in self._trying.values()]
        return max(0.0, min([LOOK_EVERY_S, *waits]))

    def _tell(self, client: httpx.Client, event_id: str, body: bytes, tries: int) -> None:
        if self._is_taken(client, body, tries):
            self._trying.pop(event_id, None)
            self._outbox.mark_told(event_id, taken=True)
        elif tries > len(RETRY_AFTER_S):
            self._trying.pop(event_id, None)
            self._outbox.mark_told(event_id, taken=False)
            _log.warning("webhook_given_up", event_id=event_id, tries=tries)
        else:
            wait = timedelta(seconds=RETRY_AFTER_S[tries - 1])
            self._trying[event_id] = _Trying(tries, self._clock() + wait)

    def _is_taken(self, client: httpx.Client, body: bytes, tries: int) -> bool:
        headers = {
            "Content-Type": "application/json",
            # Signed afresh for each try, as its time has passed.
            SIGNATURE_HEADER: self._outbox.sign(body, self._clock()),
        }
        try:
            status = client.post(self._url, content=body, headers=headers).status_code
        except httpx.HTTPError as error:
            _log.warning("webhook_not_delivered", error=str(error), tries=tries)
            return False
        if 200 <= status < 300:
            return True
        _log.warning("webhook_refused", status=status, tries=tries)
        return False
