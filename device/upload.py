"""Sends what only a found, revoked or replaced appliance knows, over HTTPS, while it does not sell.

Its broker takes nothing of it any more. The cloud takes what it signed all the same, and puts on
the review list what it may not post by itself. The till's own machine does it: what it sends, when
again, and what an answer closes is one and the same, whichever way the bytes go.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic, time_ns  # noqa: TID251 -- the program's edge hands the clock inwards
from typing import Final

import msgspec
import uuid_utils

from device.clock import WallClock
from device.credentials import AUTHORITY_FILE, CERTIFICATE_FILE, Credentials, CredentialsError, load
from device.identity.enrolment import address_of
from device.identity.est import Est
from device.identity.exchange import Failure, believing
from device.identity.files import CLOUD_FILE, read_cloud
from device.journal.journal import Journal, JournalFault
from device.journal.owed import what_is_owed
from device.link import ReplyBytes, Subscribed
from device.notary import Notary
from device.ports import Inbox, Stop
from device.runtime import Runtime
from device.settings import Settings
from device.state_lock import AlreadyRunningError, lock_state
from device.till.contents import AskForHeartbeat
from device.till.receipt import Slip
from device.till.signals import Light, Sound
from device.till.states import JournalBroken, Starting
from protocol.encoding import from_base64url

PATIENCE_S: Final = 60.0
"""Without any answer for this long it ends, and says so; nothing is lost by running it again."""
LOOK_S: Final = 0.1


@dataclass(frozen=True)
class Ended:
    """How it came out; each line is for a person."""

    is_all: bool
    lines: tuple[str, ...]


class _Named(msgspec.Struct, frozen=True):
    key: str = ""


class _Https:
    """The way to the cloud that is left: one request at a time, each with its answer."""

    def __init__(self, est: Est, inbox: Inbox) -> None:
        self.answered_at = monotonic()
        self.trouble = ""
        self._est = est
        self._inbox = inbox
        self._tokens: SimpleQueue[bytes | None] = SimpleQueue()
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="upload", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._inbox.put(Subscribed())

    def publish(self, payload: bytes, expiry_s: int | None = None) -> bool:  # noqa: ARG002 -- Wire's
        self._tokens.put(payload)
        return True

    def drop(self) -> None:
        """There is no connection to give up."""

    def close(self) -> None:
        self._is_over.set()
        self._tokens.put(None)

    def _run(self) -> None:
        while (token := self._tokens.get()) is not None and not self._is_over.is_set():
            answer = self._est.deliver(token, _key_of(token))
            if isinstance(answer, Failure):
                self.trouble = answer.detail or answer.trouble.value
                continue
            self.answered_at, self.trouble = monotonic(), ""
            self._inbox.put(ReplyBytes(answer, monotonic()))


class _Quiet:
    """Lamp, buzzer, printer and scanner of an appliance that is on a desk."""

    def show(self, light: Light) -> None:
        """Nobody looks."""

    def play(self, sound: Sound) -> None:
        """Nobody listens."""

    def print(self, slip: Slip) -> None:
        """What is to be said is said at the end."""

    def look(self, looking: bool) -> None:
        """No camera is open."""


class _Desk:
    lamp = buzzer = printer = scanner = _Quiet()


def upload(settings: Settings, say: Callable[[str], None]) -> Ended:
    """Until everything is answered, or nobody answers any more. Raises OSError."""
    state = settings.state.path
    with ExitStack() as stack:
        try:
            lock_state(state, stack)
            owed = what_is_owed(state)
            credentials = load(state, settings.keys)
            est = _est_of(credentials)
        except AlreadyRunningError as error:
            return Ended(False, (f"{error}: stop it first (`systemctl stop railtix-pos`).",))
        except JournalFault as fault:
            return Ended(False, (f"The journal cannot be read ({fault}).",))
        except (CredentialsError, ValueError) as error:
            return Ended(False, (str(error),))
        if not owed:
            return Ended(True, ("Nothing waits here.",))
        say("The cloud has not answered for:")
        for line in owed:
            say(line)
        inbox: Inbox = Inbox()
        journal = Journal(
            state,
            fresh_epoch=lambda: str(uuid_utils.uuid7()),
            wall_ms=_wall_ms,
            retention=settings.journal,
        )
        stack.callback(journal.close)
        wire = _Https(est, inbox)
        stack.callback(wire.close)
        runtime = Runtime(
            inbox,
            _Desk(),
            journal,
            wire,
            Notary(credentials),
            firmware="upload",
            wall_is_set=WallClock().is_set,
        )
        loop = Thread(target=lambda: runtime.run(wire.start), name="till", daemon=True)
        loop.start()
        _watch(runtime, wire, say)
        inbox.put(Stop())
        loop.join(PATIENCE_S)
        journal.close()
        left = what_is_owed(state)
        if not left:
            return Ended(True, ("Everything is answered.",))
        why = f"The last trouble: {wire.trouble}." if wire.trouble else "No answer closed these."
        return Ended(False, ("Still without an answer:", *left, why, "Run it again."))


def _watch(runtime: Runtime, wire: _Https, say: Callable[[str], None]) -> None:
    """Until nothing waits, or nobody has answered for long."""
    pause = Event()
    told: int | None = None
    while monotonic() - wire.answered_at < PATIENCE_S:
        till = runtime.till
        if not isinstance(till.phase, Starting | JournalBroken):
            waiting = sum(not isinstance(each.content, AskForHeartbeat) for each in till.outbox)
            if waiting != told:
                say(f"{waiting} to go")
                told = waiting
            if waiting == 0:
                return
        pause.wait(LOOK_S)


def _est_of(credentials: Credentials) -> Est:
    """Raises ValueError where nobody has said where the cloud is."""
    folder = credentials.folder
    url = read_cloud(folder).url
    if not url:
        raise ValueError(f"{folder / CLOUD_FILE} does not say where the cloud is")
    root_pem = (folder / AUTHORITY_FILE).read_text("ascii")
    context = believing(
        root_pem,
        by_clock=WallClock().is_set(),
        certificate=folder / CERTIFICATE_FILE,
        key=credentials.key_path,
    )
    return Est(address_of(url), context, root_pem)


def _key_of(token: bytes) -> str:
    """The request's own key, which the HTTP header says too."""
    payload = from_base64url(token.split(b".")[1])
    assert payload is not None, "the notary has signed it"
    return msgspec.json.decode(payload, type=_Named).key


def _wall_ms() -> int:
    return time_ns() // 1_000_000
