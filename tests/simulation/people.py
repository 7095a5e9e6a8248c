"""Who stands at the counters: staff who key, attendees who show phones, and their mischief."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random  # noqa: TID251  # seeded by the test, and handed in
from typing import Final, assert_never

from device.till.events import KeyPressed, QrSeen
from device.till.states import (
    Asking,
    BalanceWanted,
    HandedOverAsked,
    Inquiring,
    JournalBroken,
    KeyingAmount,
    KeyingPin,
    KeyingPinAgain,
    KeyingProducts,
    KeyingRefund,
    LeaveAsked,
    NobodySignedIn,
    Ready,
    ReceiptWanted,
    Refunding,
    Scanning,
    Showing,
    SigningIn,
    Starting,
    SupervisorWanted,
    Till,
    WaitingForPolicy,
)
from protocol.ids import PayerId, UserId
from protocol.wallet_qr import WalletToken, to_digits
from tests.simulation.appliance import Appliance
from tests.simulation.clock import Clock
from tests.simulation.history import History
from tests.simulation.identities import PIN, STAFF, badge_of, sign_wallet_qr
from tests.simulation.weather import Weather
from tests.simulation.witness import Witness

AMOUNTS: Final = ("350", "350", "350", "500", "1250", "75")
"""Often the same one: an answer to another sale must not pass for this sale's."""
STRANGE_KEYS: Final = "0123456789ABCD*#"
OTHER_CODE: Final = "WIFI:T:WPA;S:fair;P:not-a-wallet;;"


@dataclass
class Attendee:
    """A phone: it shows a new QR when the old one runs out or, mostly, once it was used."""

    user_id: UserId
    payer_id: PayerId
    random: Random
    allowance: Callable[["Attendee"], int]
    """What the cloud lets this wallet buy offline, at the moment it makes a QR."""
    text: str = ""
    expires_at_ms: int = 0
    times_shown: int = 0
    qrs_made: int = 0

    def show(self, now_ms: int, mischief: float) -> str:
        is_stale = now_ms > self.expires_at_ms - 5000
        wants_fresh = is_stale or (self.times_shown > 0 and self.random.random() < 0.9)
        if not self.text or (wants_fresh and self.random.random() >= mischief):
            self._make(now_ms, forged=self.random.random() < mischief / 10)
        self.times_shown += 1
        return self.text

    def _make(self, now_ms: int, *, forged: bool) -> None:
        self.qrs_made += 1
        self.times_shown = 0
        lasts_s = self.random.randint(60, 120)
        issued_s = now_ms // 1000
        token = WalletToken(
            sub=self.payer_id,
            jti=f"{self.user_id}-{self.qrs_made:06d}",
            nonce=f"nonce-{self.qrs_made:08d}",
            iat=issued_s,
            exp=issued_s + lasts_s,
            oal=self.allowance(self),
        )
        jws = sign_wallet_qr(token, forged=forged)
        # Mostly plain, which scanners take too: reading digits costs more than all else here.
        self.text = to_digits(jws) if self.random.random() < 0.1 else jws
        self.expires_at_ms = token.exp * 1000


class Crowd:
    """The attendees, and the screenshots that go around among them."""

    def __init__(self, attendees: list[Attendee], clock: Clock, random: Random) -> None:
        self._attendees = attendees
        self._clock = clock
        self._random = random
        self._screenshots: deque[str] = deque(maxlen=6)

    def show_phone(self, mischief: float) -> str:
        if self._random.random() < mischief / 10:
            return OTHER_CODE
        if self._screenshots and self._random.random() < mischief:
            return self._random.choice(self._screenshots)
        text = self._random.choice(self._attendees).show(self._clock.now_ms, mischief)
        self._screenshots.append(text)
        return text


class Staff:
    """Whoever serves at one appliance; `is_closing`: no new sales, but every question answered."""

    def __init__(
        self,
        appliance: Appliance,
        *,
        neighbours: list[Appliance],
        crowd: Crowd,
        clock: Clock,
        random: Random,
        weather: Weather,
        history: History,
        witness: Witness,
    ) -> None:
        self.is_closing = False
        self.weather = weather
        self._appliance = appliance
        self._neighbours = neighbours
        self._crowd = crowd
        self._clock = clock
        self._random = random
        self._history = history
        self._witness = witness
        self._keys: deque[str] = deque()

    def start(self) -> None:
        self._clock.plan(self._random.uniform(50, 1500), self._act)

    def _act(self) -> None:
        till = self._appliance.till
        if till is None:
            self._keys.clear()
        elif self._keys:
            self._press(self._keys.popleft())
        else:
            self._choose(till)
        is_quick = bool(self._keys) and self._random.random() < 0.95
        wait_ms = self._random.uniform(60, 200) if is_quick else self._random.uniform(150, 1600)
        self._clock.plan(wait_ms, self._act)

    def _choose(self, till: Till) -> None:
        chance = self._random.random()
        if not self.is_closing and chance < self.weather.mischief / 8:
            key = self._random.choice(STRANGE_KEYS)
            if not isinstance(till.phase, HandedOverAsked):
                self._press(key, held=self._random.random() < 0.3)
            return
        match till.phase:
            case Starting() | WaitingForPolicy() | SigningIn() | JournalBroken():
                pass
            case Inquiring() | Refunding():
                pass
            case BalanceWanted() | ReceiptWanted() | KeyingRefund() | SupervisorWanted():
                # Somebody pressed a key that nobody meant to.
                self._press("*")
            case HandedOverAsked() as phase:
                self._answer_slip(phase)
            case KeyingPin() | KeyingPinAgain():
                self._key(PIN if chance >= self.weather.mischief / 4 else "1357", "#")
            case LeaveAsked():
                self._press("#" if chance < 0.7 else "5")
            case NobodySignedIn() | Ready():
                if not self.is_closing:
                    self._begin(till.phase, chance)
            case KeyingAmount() | KeyingProducts() | Scanning() | Asking() | Showing():
                self._sell(till.phase, chance)
            case _:
                assert_never(till.phase)

    def _begin(self, phase: NobodySignedIn | Ready, chance: float) -> None:
        match phase:
            case NobodySignedIn():
                self._show(badge_of(self._random.choice(STAFF)))
            case Ready() if chance < 0.03:
                self._press("D", held=True)
            case Ready(scanned=None) if chance < 0.07:
                self._show_phone()
            case Ready() if chance < 0.25:
                self._key("A1A1A3" if chance < 0.2 else "A2", "#")
            case Ready():
                self._key(self._random.choice(AMOUNTS), "#")

    def _sell(
        self, phase: KeyingAmount | KeyingProducts | Scanning | Asking | Showing, chance: float
    ) -> None:
        match phase:
            case KeyingAmount() | KeyingProducts():
                self._press("*" if self.is_closing or chance < 0.2 else "#")
            case Scanning():
                self._wait_for_phone(chance)
            case Asking():
                self._grow_impatient(chance)
            case Showing(then=Scanning()) if not self.is_closing and chance < 0.4:
                self._show_phone()
            case Showing():
                if chance < 0.1:
                    self._press(self._random.choice("*#5"))

    def _wait_for_phone(self, chance: float) -> None:
        if self.is_closing or chance < 0.04:
            self._press("*")
        elif chance < 0.85:
            self._show_phone()

    def _show_phone(self) -> None:
        text = self._crowd.show_phone(self.weather.mischief)
        self._show(text)
        for each in self._neighbours:
            if self._random.random() < self.weather.mischief:
                # The same screenshot, held up at another stall at the same moment.
                wait_ms = self._random.uniform(0, 150)
                self._clock.plan(wait_ms, lambda other=each: self._show_at(other, text))

    def _grow_impatient(self, chance: float) -> None:
        if chance < 0.03:
            self._press("*")
        elif chance < 0.06:
            self._press("*", held=True)

    def _answer_slip(self, phase: HandedOverAsked) -> None:
        """Truly. And once pressed, pressed: asked again about the same sale, they say the same."""
        key = phase.sales[0].sale.key
        device_id = self._appliance.device_id
        kept = self._witness.was_handed_over(device_id, key)
        self._witness.answer_slip(device_id, key, kept=kept)
        self._press("#" if kept else "*", held=not kept)

    def _key(self, *parts: str) -> None:
        self._keys.extend("".join(parts))
        self._press(self._keys.popleft())

    def _press(self, key: str, *, held: bool = False) -> None:
        self._appliance.take(KeyPressed(key, held))

    def _show(self, text: str) -> None:
        self._show_at(self._appliance, text)

    def _show_at(self, appliance: Appliance, text: str) -> None:
        """A camera reads the same code several times while it is held up."""
        appliance.take(QrSeen(text))
        if self._random.random() < 0.3:
            self._clock.plan(120, lambda: appliance.take(QrSeen(text)))
