"""Enrolling at the edge: the loop around the machine, and the steps that a claim sets off.

One thread takes what happened; what takes time (the cloud, the Wi-Fi) has a thread of its own and
reports back, so that lamp, keys and camera never wait for a network.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Protocol, TypeVar, assert_never

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from device.condition.health import HealthFile
from device.credentials import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE
from device.enrolling import happenings as do
from device.enrolling.happenings import (
    Began,
    CodeSeen,
    Enrolled,
    Enrolling,
    Joined,
    KeyTapped,
    Need,
    NotEnrolled,
    NotJoined,
    Tick,
    Trouble,
)
from device.enrolling.machine import deadline_of, step
from device.hardware.wifi import Wifi, WifiTrouble
from device.identity.est import Est, find_root, request_for
from device.identity.exchange import Address, Failure, believing
from device.identity.files import NEXT, Cloud, Draft, forget_old, read_cloud
from device.journal.journal import JournalFault
from device.journal.owed import what_is_owed, whose
from device.journal.setting_aside import set_aside
from device.till.effects import MakeSound, Print, ShowLight
from device.till.receipt import Slip
from device.till.signals import Light, Sound
from protocol.claim_qr import ClaimQr
from protocol.signing import PrivateKey

BEAT_S: Final = 2.0
_OF_WIFI: Final = {
    WifiTrouble.NOT_JOINED: Trouble.WIFI_NOT_JOINED,
    WifiTrouble.NONE: Trouble.WIFI_NONE,
}

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Lamp(Protocol):
    def show(self, light: Light) -> None: ...


class _Buzzer(Protocol):
    def play(self, sound: Sound) -> None: ...


class _Printer(Protocol):
    def print(self, slip: Slip) -> None: ...


class _Scanner(Protocol):
    def look(self, looking: bool) -> None: ...


class Parts(Protocol):
    """What enrolling needs of the hardware."""

    @property
    def lamp(self) -> _Lamp: ...
    @property
    def buzzer(self) -> _Buzzer: ...
    @property
    def printer(self) -> _Printer: ...
    @property
    def scanner(self) -> _Scanner: ...
    @property
    def wifi(self) -> Wifi: ...


class Stopped:
    """End the loop; what is drafted is on the disk."""


class Enroller:
    """The steps from a claim to an identity, each safe to be cut off and done again."""

    def __init__(
        self,
        state: Path,
        *,
        serial: str,
        clock_is_set: Callable[[], bool],
        sealed_key: tuple[PrivateKey, Path] | None = None,
    ) -> None:
        """`sealed_key`: the key that systemd unsealed, and where; without it one is drafted."""
        self._state = state
        self._draft = Draft(state)
        self._serial = serial
        self._clock_is_set = clock_is_set
        self._sealed = sealed_key

    @property
    def has_certificate(self) -> bool:
        """Whether the cloud has answered a claim already."""
        return self._draft.has_certificate

    def enrol(self, claim: ClaimQr | None) -> Enrolled | NotEnrolled:
        """With a claim; without one from where a power cut, or the network, left it."""
        try:
            failure = None if claim is None else self._use(claim)
            ended = self._connect() if failure is None else failure
        except (OSError, sqlite3.Error, ValueError) as error:
            # A full or failing disk, or a draft that it has spoilt.
            _log.exception("enrolment_failed")
            if isinstance(error, ValueError):
                self._drop()
            ended = Failure(Trouble.DISK, getattr(error, "strerror", None) or "")
        if isinstance(ended, Failure):
            _log.warning("not_enrolled", trouble=ended.trouble.value, detail=ended.detail)
            return NotEnrolled(ended.trouble, ended.detail, has_certificate=self.has_certificate)
        _log.info("enrolled", device_id=ended)
        return Enrolled(ended)

    def _use(self, claim: ClaimQr) -> Failure | None:
        address = Address(claim.host, claim.port)
        owed_by = self._owed_by()
        # On the disk before it is heard of: after a power cut the same key asks again, and the
        # cloud gives it the same certificate.
        key = self._key()
        root_pem = find_root(claim)
        if isinstance(root_pem, Failure):
            return root_pem
        est = Est(address, believing(root_pem, by_clock=self._clock_is_set()), root_pem)
        issued = est.enrol(request_for(key, serial=self._serial, name=owed_by), claim, key)
        if isinstance(issued, Failure):
            if issued.trouble is Trouble.KEY_ON_ANOTHER_DEVICE:
                self._drop()
            return issued
        if owed_by and issued.device_id != owed_by:
            # The key with it: that certificate is nobody's now.
            self._drop()
            return Failure(Trouble.OTHER_NAME, owed_by)
        self._draft.keep_certificate(issued, root_pem, Cloud(address.url))
        return None

    def _connect(self) -> str | Failure:
        """The rest needs the certificate alone: whose policies count, and where the broker is."""
        folder = self._draft.folder
        if not self._draft.has_certificate:
            return Failure(Trouble.CLAIM_EXPIRED)
        root_pem = (folder / AUTHORITY_FILE).read_text("ascii")
        cloud = read_cloud(folder)
        address = address_of(cloud.url)
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE_FILE).read_bytes())
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        device_id = str(name.value)
        context = believing(
            root_pem,
            by_clock=self._clock_is_set(),
            certificate=folder / CERTIFICATE_FILE,
            key=self._key_path(),
        )
        told = Est(address, context, root_pem).connection()
        if isinstance(told, Failure):
            if told.trouble is Trouble.DEVICE_REVOKED:
                self._drop()
            return told
        if told.device_id != device_id:
            return Failure(Trouble.CLOUD_STRANGE, f"{address}: it speaks of another appliance")
        self._draft.keep_connection(told, cloud, greets=True)
        if whose(self._state) not in {"", device_id} and not self._owes():
            # Of another name, and settled: the new one begins with nothing of it.
            set_aside(self._state)
        # A renewal that was begun under the name or the key before is nobody's now.
        Draft(self._state, NEXT).drop()
        self._draft.install()
        forget_old(self._state)
        return device_id

    def _owed_by(self) -> str:
        """The name under which this appliance still owes the cloud a word, if any."""
        return whose(self._state) if self._owes() else ""

    def _owes(self) -> bool:
        try:
            return bool(what_is_owed(self._state))
        except JournalFault:
            # Set aside and searched at the till's next start; whose it is nobody can say.
            return False

    def _key(self) -> PrivateKey:
        return self._draft.key() if self._sealed is None else self._sealed[0]

    def _key_path(self) -> Path:
        return self._draft.folder / KEY_FILE if self._sealed is None else self._sealed[1]

    def _drop(self) -> None:
        self._draft.drop()


class Enrolment:
    """The loop: runs until the appliance is enrolled, or the program is to end."""

    def __init__(
        self,
        parts: Parts,
        enroller: Enroller,
        *,
        serial: str,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        health: HealthFile,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_beat` is called each time the loop comes round, at least once in `BEAT_S`."""
        self.state = Enrolling()
        self.beats = 0
        """How often the loop has come round."""
        self.inbox: SimpleQueue[do.Event | Stopped] = SimpleQueue()
        self._parts = parts
        self._enroller = enroller
        self._serial = serial
        self._clock = clock
        self._wall_ms = wall_ms
        self._health = health
        self._on_beat = on_beat
        self._is_done = False

    def see(self, text: str) -> None:
        self.inbox.put(CodeSeen(text))

    def tap(self) -> None:
        self.inbox.put(KeyTapped())

    def stop(self) -> None:
        self.inbox.put(Stopped())

    def run(self, need: Need) -> str | None:
        """The id the appliance was enrolled under; None: it was stopped before."""
        self._take(Began(need, self._serial, self._enroller.has_certificate))
        self._parts.scanner.look(True)
        while not self._is_done:
            self.beats += 1
            self._on_beat()
            trouble = self.state.trouble
            what = "show me a code" if trouble is None else trouble.value
            self._health.tell_enrolling(what, self._clock(), self._wall_ms())
            match self._next():
                case Stopped():
                    return None
                case None:
                    self._take(Tick())
                case event:
                    self._take(event)
        self._parts.scanner.look(False)
        return self.state.enrolled_as

    def _next(self) -> do.Event | Stopped | None:
        deadline = deadline_of(self.state)
        wait_s = BEAT_S
        if deadline is not None:
            wait_s = min(BEAT_S, max(0.0, deadline - self._clock()))
        try:
            return self.inbox.get(timeout=wait_s)
        except Empty:
            return None

    def _take(self, event: do.Event) -> None:
        before = self.state.trouble
        self.state, effects = step(self.state, event, self._clock())
        for effect in effects:
            self._perform(effect)
        if self.state.trouble is not before:
            trouble = self.state.trouble
            _log.info("enrolling", trouble="" if trouble is None else trouble.value)

    def _perform(self, effect: do.Effect) -> None:
        match effect:
            case ShowLight(light=light):
                self._parts.lamp.show(light)
            case MakeSound(sound=sound):
                self._parts.buzzer.play(sound)
            case Print(slip=slip):
                self._parts.printer.print(slip)
            case do.Join(network=network):
                self._begin("wifi", lambda: _heard(self._parts.wifi.join(network)))
            case do.Ask(claim=claim):
                self._begin("claim", lambda: self._enroller.enrol(claim))
            case do.Finish():
                self._is_done = True
            case _:
                assert_never(effect)

    def _begin(self, name: str, work: Callable[[], do.Event]) -> None:
        def report() -> None:
            try:
                ended = work()
            except Exception:  # noqa: BLE001 -- whatever it was, a person waits for an answer
                _log.exception("enrolling_failed", work=name)
                ended = NotJoined(Trouble.WIFI_NONE) if name == "wifi" else _LOST
            self.inbox.put(ended)

        Thread(target=report, name=f"enrolling-{name}", daemon=True).start()


_LOST: Final = NotEnrolled(Trouble.CLOUD_STRANGE)


def _heard(trouble: WifiTrouble | None) -> do.Event:
    return Joined() if trouble is None else NotJoined(_OF_WIFI[trouble])


def address_of(url: str) -> Address:
    """Of `https://HOST:PORT`, as `cloud.json` has it. Raises ValueError."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    if not url.startswith("https://") or not host:
        raise ValueError("cloud.json names no address")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def serial_of(setting: str, found: Path = Path("/proc/device-tree/serial-number")) -> str:
    """What is set, else what the board itself says; empty where it says nothing."""
    if setting:
        return setting
    try:
        said = found.read_text("ascii").strip("\0\n ")
    except (OSError, ValueError):
        return ""
    return said if said.isalnum() and len(said) <= 64 else ""
