"""Delivers the test provider's webhooks over real HTTP, again and again until they are taken."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Final

import httpx
import structlog

SIGNATURE_HEADER: Final = "RailTix-Signature"
RETRY_AFTER_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)

_log = structlog.stdlib.get_logger("payments")


@dataclass(frozen=True, slots=True)
class _Parcel:
    body: bytes
    tries: int = 0


class WebhookDelivery:
    """One thread. `deliver` returns at once; each try is signed afresh, as its time has passed."""

    def __init__(
        self,
        url: str,
        sign: Callable[[bytes, datetime], str],
        clock: Callable[[], datetime],
        trusted: Path | None = None,
    ) -> None:
        """`trusted`: the certificate (PEM) to expect at `url`; None: those the system trusts."""
        self._url = url
        self._sign = sign
        self._clock = clock
        self._verify: SSLContext | bool = True
        if trusted is not None:
            self._verify = create_default_context(cafile=str(trusted))
        self._parcels: queue.Queue[_Parcel | None] = queue.Queue()
        self._stopping = threading.Event()
        self._timers: set[threading.Timer] = set()
        self._thread = threading.Thread(target=self._run, name="webhook-delivery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what is undelivered is told again when someone presses Pay again."""
        self._stopping.set()
        for timer in list(self._timers):
            timer.cancel()
        self._parcels.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def deliver(self, body: bytes) -> None:
        self._parcels.put(_Parcel(body))

    def _run(self) -> None:
        with httpx.Client(timeout=10, verify=self._verify, trust_env=False) as client:
            while (parcel := self._parcels.get()) is not None:
                if not self._try(client, parcel):
                    self._later(_Parcel(parcel.body, parcel.tries + 1))

    def _try(self, client: httpx.Client, parcel: _Parcel) -> bool:
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: self._sign(parcel.body, self._clock()),
        }
        try:
            status = client.post(self._url, content=parcel.body, headers=headers).status_code
        except httpx.HTTPError as error:
            _log.warning("webhook_not_delivered", error=str(error), tries=parcel.tries + 1)
            return False
        if 200 <= status < 300:
            return True
        _log.warning("webhook_refused", status=status, tries=parcel.tries + 1)
        return False

    def _later(self, parcel: _Parcel) -> None:
        if self._stopping.is_set() or parcel.tries > len(RETRY_AFTER_S):
            return
        timer = threading.Timer(RETRY_AFTER_S[parcel.tries - 1], self._again, [parcel])
        timer.daemon = True
        self._timers = {each for each in self._timers if each.is_alive()} | {timer}
        timer.start()

    def _again(self, parcel: _Parcel) -> None:
        if not self._stopping.is_set():
            self._parcels.put(parcel)
