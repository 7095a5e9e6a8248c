"""Renewing a certificate while the till sells: asked for beside it, taken up where it rests.

due --simplereenroll--> drafted --at rest, nothing waits--> tried --a signed answer--> taken
                                                   \\--refused, or silence--> the old one again
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import Final

import structlog

from device.condition.standstill import is_our_certificate_refused
from device.credentials import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    TRUST_FILE,
    Credentials,
    CredentialsError,
    load,
)
from device.enrolling.happenings import Trouble
from device.identity.enrolment import address_of
from device.identity.est import Est, Issued, request_for
from device.identity.exchange import Failure, believing
from device.identity.files import CLOUD_FILE, NEXT, OLD, Draft, forget_old, go_back, read_cloud
from device.ports import Rest
from device.settings import KeySettings

DUE_AFTER: Final = 2 / 3
"""Of its life: day 60 of 90."""
TRY_AGAIN_MS: Final = 10 * 60 * 1000
TRY_AGAIN_MAX_MS: Final = 24 * 3600 * 1000
SILENCE_S: Final = 180.0
"""The link is up, and nobody has answered the new certificate for this long: it does not work."""
DAYS_MIN: Final = 14
DAY_MS: Final = 24 * 3600 * 1000

_log = structlog.get_logger(__name__)


class Stage(StrEnum):
    RESTING = "resting"
    ASKING = "asking"
    DRAFTED = "drafted"
    """The new one lies on the disk, and nobody has used it."""
    TRIED = "tried"
    """The new one is in use, and the old one kept until somebody has answered it."""


class Renewal:
    """Looked at whenever the till rests; what takes time has a thread of its own."""

    def __init__(
        self,
        state: Path,
        keys: KeySettings,
        credentials: Credentials,
        *,
        serial: str,
        clock_is_set: Callable[[], bool],
    ) -> None:
        self._state = state
        self._keys = keys
        self._credentials = credentials
        self._serial = serial
        self._clock_is_set = clock_is_set
        self._draft = Draft(state, NEXT)
        self._failures = 0
        self._not_before_ms = 0
        """Of the next try."""
        self._ended: Issued | Failure | None = None
        self._up_at: float | None = None
        """When it was last seen that the link is up, if it was the last time."""
        self._up_s = 0.0
        """How long the link was up under a certificate that nobody has answered."""
        self.trouble = ""
        """Why the last try came to nothing; for `railtix-pos status`."""
        self.stage = Stage.RESTING
        if (state / OLD).exists():
            self.stage = Stage.TRIED
        elif self._draft.is_complete:
            self.stage = Stage.DRAFTED

    def look(self, rest: Rest, link_trouble: str) -> Credentials | None:
        """The till rests: whom it is to be from now on, where that changes."""
        try:
            match self.stage:
                case Stage.RESTING:
                    if self._is_locked_out(rest, link_trouble):
                        return self._take_up()
                    if rest.now_ms is not None and self._is_due(rest.now_ms):
                        self._begin()
                case Stage.ASKING:
                    self._hear(rest)
                case Stage.DRAFTED:
                    is_time = rest.has_sent_all or self._is_locked_out(rest, link_trouble)
                    return self._take_up() if is_time else None
                case Stage.TRIED:
                    return self._judge(rest, link_trouble)
        except (OSError, CredentialsError, ValueError) as error:
            self._fail(f"{type(error).__name__}: {error}", rest.now_ms)
        return None

    def heard(self) -> None:
        """A signed answer has come to what the certificate in use has signed."""
        if self.stage is not Stage.TRIED:
            return
        try:
            forget_old(self._state)
        except OSError as error:
            _log.warning("old_identity_not_erased", reason=error.strerror)
            return
        self.stage, self.trouble, self._failures = Stage.RESTING, "", 0
        _log.info("certificate_renewed", expires_at=self._credentials.expires_at.isoformat())

    def days_left(self, now_ms: int | None) -> int | None:
        """Whole days; None while nobody knows what time it is."""
        return None if now_ms is None else (_ms(self._credentials.expires_at) - now_ms) // DAY_MS

    def is_over(self, rest: Rest) -> bool:
        """Whether the certificate has expired and the broker takes nothing of it any more."""
        is_late = rest.now_ms is not None and rest.now_ms >= _ms(self._credentials.expires_at)
        return is_late and not rest.link_is_up

    def _is_due(self, now_ms: int) -> bool:
        begins_at = self._credentials.begins_at
        if begins_at is None or now_ms < self._not_before_ms:
            return False
        begin_ms, end_ms = _ms(begins_at), _ms(self._credentials.expires_at)
        return begin_ms + (end_ms - begin_ms) * DUE_AFTER <= now_ms < end_ms

    def _begin(self) -> None:
        folder = self._credentials.folder
        url = read_cloud(folder).url
        if not url:
            raise ValueError(f"{CLOUD_FILE} does not say where: enrol it by a claim, once")
        address = address_of(url)
        # A sealed key stays what it is: only its certificate is new.
        key = self._draft.key() if self._keys.kind == "file" else self._credentials.key
        root_pem = (folder / AUTHORITY_FILE).read_text("ascii")
        context = believing(
            root_pem,
            by_clock=self._clock_is_set(),
            certificate=folder / CERTIFICATE_FILE,
            key=self._credentials.key_path,
        )
        est = Est(address, context, root_pem)
        request = request_for(key, serial=self._serial, name=self._credentials.device_id)
        self.stage, self._ended = Stage.ASKING, None

        def ask() -> None:
            try:
                self._ended = est.renew(request, key)
            except Exception:  # noqa: BLE001 -- the till goes on, and the next try must come
                _log.exception("renewal_failed")
                self._ended = Failure(Trouble.CLOUD_STRANGE)

        Thread(target=ask, name="renewal", daemon=True).start()

    def _hear(self, rest: Rest) -> None:
        ended = self._ended
        if ended is None:
            return
        self.stage = Stage.RESTING
        if isinstance(ended, Issued) and ended.device_id == self._credentials.device_id:
            self._keep(ended)
            self.stage = Stage.DRAFTED
            return
        failure = Failure(Trouble.OTHER_CERTIFICATE) if isinstance(ended, Issued) else ended
        if failure.trouble in {Trouble.KEY_ON_ANOTHER_DEVICE, Trouble.OTHER_CERTIFICATE}:
            self._draft.drop()
        self._fail(f"{failure.trouble.value} {failure.detail}".strip(), rest.now_ms)

    def _keep(self, issued: Issued) -> None:
        folder = self._credentials.folder
        for name in (AUTHORITY_FILE, CLOUD_FILE):
            self._draft.keep(name, (folder / name).read_bytes())
        self._draft.keep(CERTIFICATE_FILE, issued.pem)
        # Last: with it the draft is an identity.
        self._draft.keep(TRUST_FILE, (folder / TRUST_FILE).read_bytes())

    def _take_up(self) -> Credentials:
        self._draft.install()
        self.stage, self._up_at, self._up_s = Stage.TRIED, None, 0.0
        try:
            return self._load()
        except CredentialsError:
            go_back(self._state)
            self.stage = Stage.RESTING
            raise

    def _is_locked_out(self, rest: Rest, link_trouble: str) -> bool:
        """The broker takes the certificate in use no more, and there is another one to try: what
        waits would wait for ever."""
        is_refused = not rest.link_is_up and is_our_certificate_refused(link_trouble)
        return is_refused and rest.is_idle and self._draft.is_complete

    def _judge(self, rest: Rest, link_trouble: str) -> Credentials | None:
        is_silent = self._silence_s(rest) > SILENCE_S
        is_refused = not rest.link_is_up and is_our_certificate_refused(link_trouble)
        # What was sold alone meanwhile is no reason to stay: it can only wait here.
        if not (is_silent or is_refused) or not rest.is_idle:
            return None
        self.stage, self._up_at, self._up_s = Stage.RESTING, None, 0.0
        if not go_back(self._state, keeps_new=not is_refused):
            return None
        why = link_trouble or "nobody answers what it signs"
        self._fail(f"the new certificate does not work: {why}", rest.now_ms)
        return self._load()

    def _silence_s(self, rest: Rest) -> float:
        """In sum: a till hangs up on a cloud that is silent for half a minute."""
        if rest.link_is_up and self._up_at is not None:
            self._up_s += rest.now_s - self._up_at
        self._up_at = rest.now_s if rest.link_is_up else None
        return self._up_s

    def _load(self) -> Credentials:
        self._credentials = load(self._state, self._keys)
        return self._credentials

    def _fail(self, why: str, now_ms: int | None) -> None:
        self.stage = Stage.RESTING if self.stage is Stage.ASKING else self.stage
        wait_ms = min(TRY_AGAIN_MAX_MS, TRY_AGAIN_MS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before_ms = (now_ms or 0) + wait_ms
        if why != self.trouble:
            _log.warning("certificate_not_renewed", reason=why)
        self.trouble = why


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
