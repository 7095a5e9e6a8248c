"""Where the till comes to rest between sales, and with which light."""

from dataclasses import replace
from typing import assert_never

from device.till.effects import Effects, Look, MakeSound, Note, ShowLight
from device.till.entries import SaleOpened
from device.till.events import KeyPressed, Now
from device.till.signals import Light, Sound
from device.till.states import (
    BalanceWanted,
    KeyingAmount,
    KeyingProducts,
    NobodySignedIn,
    Ready,
    ReceiptWanted,
    ScannedFirst,
    Scanning,
    Showing,
    SupervisorWanted,
    Till,
    WaitingForPolicy,
    Watching,
)
from protocol.messages import SignedIn
from protocol.policy import Policy

DECLINED_S = 2.0
REFRESH_QR_S = 2.4
"""Three slow blinks."""
FAULT_S = 5.0
STRAY_S = 3.0

_NO_PAPER = {
    Light.READY: Light.READY_NO_PAPER,
    Light.OFFLINE_ALLOWED: Light.OFFLINE_ALLOWED_NO_PAPER,
    Light.OFFLINE_NOT_ALLOWED: Light.OFFLINE_NOT_ALLOWED_NO_PAPER,
}
"""Slips wait until somebody has seen to the printer: the light of rest with a wink."""

Step = tuple[Till, Effects]
"""What every transition gives: the new state, and what is to be done."""


def session_counts(session: SignedIn, policy: Policy, wall_ms: int) -> bool:
    """Whether a session is for the policy's stall and not over by the appliance's own clock.

    That clock may be wrong; the cloud judges every request by its own.
    """
    is_here = (session.event_id, session.stall_id) == (policy.event_id, policy.stall_id)
    return is_here and wall_ms < session.expires_at_ms


def resting_phase(till: Till, wall_ms: int) -> WaitingForPolicy | NobodySignedIn | Ready:
    if till.terms is None:
        return WaitingForPolicy()
    if till.session is None or not session_counts(till.session, till.terms.policy, wall_ms):
        return NobodySignedIn()
    return Ready()


def resting_light(till: Till) -> Light | None:
    """The light of a till that waits for staff; None while it shows something of its own."""
    light = _light_at_rest(till)
    if light is not None and till.updating is not None:
        return Light.UPDATING
    if light is None or not till.printer.holds_slips_back:
        return light
    return _NO_PAPER.get(light, light)


def _light_at_rest(till: Till) -> Light | None:
    match till.phase:
        case WaitingForPolicy():
            return Light.OFFLINE_NOT_ALLOWED
        case NobodySignedIn():
            return Light.NOBODY_SIGNED_IN if is_online(till) else Light.OFFLINE_NOT_ALLOWED
        case (
            Ready(scanned=ScannedFirst())
            | KeyingAmount(scanned=ScannedFirst())
            | KeyingProducts(scanned=ScannedFirst())
        ):
            return Light.KEY_THE_AMOUNT
        case Ready() | KeyingAmount() | KeyingProducts():
            if is_online(till):
                return Light.READY
            return Light.OFFLINE_ALLOWED if till.alone_until else Light.OFFLINE_NOT_ALLOWED
        case _:
            return None


def is_online(till: Till) -> bool:
    return till.link.is_up and till.link.is_answering


def rest(till: Till, wall_ms: int) -> Step:
    """Back to waiting for staff."""
    phase = resting_phase(till, wall_ms)
    till = replace(till, phase=phase, session=till.session if phase == Ready() else None)
    light = resting_light(till)
    assert light is not None, "a resting phase has a light"
    return till, (ShowLight(light), Look(isinstance(phase, NobodySignedIn | Ready)))


def pass_over(till: Till, event: KeyPressed, now: Now) -> Step:
    """A key that comes too early. Its silence says so: no click, and not the beeps of a refusal.

    What follows it belongs to the same number, even once the till listens again: of an early
    `1234#` the last two digits must not be sold as 0.34. `#`, `*` or a pause ends it.
    """
    is_last = event.key in {"*", "#"}
    return replace(till, stray_until=0.0 if is_last else now.monotonic_s + STRAY_S), ()


def is_stray(till: Till, now_s: float) -> bool:
    return now_s < till.stray_until


def look_for_badge(till: Till, phase: NobodySignedIn, wall_ms: int) -> Step:
    """As `rest`, but remembering the code that was just refused."""
    till, effects = rest(till, wall_ms)
    return replace(till, phase=phase if till.phase == NobodySignedIn() else till.phase), effects


def watch(till: Till, phase: Watching, wall_ms: int) -> Step:
    """Look for what this phase waits for, under the light that says so."""
    match phase:
        case NobodySignedIn():
            return look_for_badge(till, phase, wall_ms)
        case Ready() | KeyingAmount() | KeyingProducts():
            till = replace(till, phase=phase)
            light = resting_light(till)
            assert light is not None, "a resting phase has a light"
        case Scanning() | BalanceWanted():
            light = Light.SHOW_QR
        case ReceiptWanted():
            light = Light.SHOW_RECEIPT
        case SupervisorWanted():
            light = Light.SUPERVISOR
        case _:
            assert_never(phase)
    return replace(till, phase=phase), (ShowLight(light), Look(True))


def decline(
    till: Till,
    now_s: float,
    reason: str,
    sale: SaleOpened | None = None,
    then: Watching | None = None,
) -> Step:
    """Two low beeps, red for two seconds: nothing was deducted, and nothing given back."""
    showing = Showing(Light.DECLINED, now_s + DECLINED_S, then, sale)
    return replace(till, phase=showing), (
        ShowLight(Light.DECLINED),
        MakeSound(Sound.DECLINED),
        Look(False),
        Note("declined", "" if sale is None else sale.key, reason),
    )


def ask_for_fresh_code(
    till: Till,
    now_s: float,
    reason: str,
    then: Watching,
    sale: SaleOpened | None = None,
) -> Step:
    """Three slow red blinks, three short beeps; the camera goes on looking."""
    key = then.sale.key if isinstance(then, Scanning) else ""
    showing = Showing(Light.REFRESH_QR, now_s + REFRESH_QR_S, then, sale)
    return replace(till, phase=showing), (
        ShowLight(Light.REFRESH_QR),
        MakeSound(Sound.REFRESH_QR),
        Look(True),
        Note("code_refused", key, reason),
    )


def show_fault(till: Till, now_s: float) -> Step:
    """Do not hand over."""
    return replace(till, phase=Showing(Light.FAULT, now_s + FAULT_S)), (
        ShowLight(Light.FAULT),
        MakeSound(Sound.FAULT),
        Look(False),
    )
