"""The transitions of an appliance that is nobody yet; what it does, and when it tries again.

show me a code --Wi-Fi code--> joining --Joined--> show me a code, or asking
show me a code --claim--> asking --Enrolled--> a till
asking --no way--> no way to the cloud --time | Joined | claim--> asking
asking --refused--> not enrolled: read the slip --another code--> joining | asking
"""

from dataclasses import replace
from typing import Final, assert_never

from device.enrolling.happenings import (
    PASSING,
    Ask,
    Began,
    CodeSeen,
    Enrolled,
    Enrolling,
    Event,
    Finish,
    Join,
    Joined,
    KeyTapped,
    NotEnrolled,
    NotJoined,
    Seen,
    Step,
    Tick,
    Trouble,
)
from device.enrolling.slips import show_me_a_code_slip, trouble_slip
from device.till.effects import MakeSound, Print, ShowLight
from device.till.signals import Light, Sound
from protocol.claim_qr import ClaimQr, read_claim_qr
from protocol.wifi_qr import WifiNetwork, WifiRefusal, read_wifi_qr

SEEN_GAP_S: Final = 4.0
"""A code out of view for this long was taken away; shown again, it is tried again."""
SEEN_MAX: Final = 4
CLAIM_S: Final = 900.0
"""A claim lives 15 minutes by the cloud's clock: after that nothing comes of it."""
RETRY_S: Final = 5.0
RETRY_MAX_S: Final = 60.0

_OF_WIFI: Final = {
    WifiRefusal.WEP: Trouble.WIFI_WEP,
    WifiRefusal.ENTERPRISE: Trouble.WIFI_ENTERPRISE,
    WifiRefusal.MALFORMED: Trouble.WIFI_MALFORMED,
}


def step(state: Enrolling, event: Event, now: float) -> Step:
    """What follows from one event at `now` (monotonic seconds)."""
    before = light_of(state)
    state, effects = _step(state, event, now)
    light = light_of(state)
    if light is not before or isinstance(event, Began):
        effects = (ShowLight(light), *effects)
    return state, effects


def deadline_of(state: Enrolling) -> float | None:
    """When the next `Tick` is due."""
    return None if state.is_asking or state.network is not None else state.retry_at


def light_of(state: Enrolling) -> Light:
    if state.enrolled_as:
        return Light.ENROLLED
    if state.network is not None:
        return Light.JOINING
    if state.is_asking and state.failures == 0:
        return Light.ASKING
    match state.trouble:
        case None:
            return Light.ENROL
        case Trouble.DISK:
            return Light.FAULT
        case Trouble.NO_WAY | Trouble.CLOUD_STRANGE | Trouble.CLOUD_BUSY:
            return Light.NO_WAY
        case _:
            return Light.NOT_ENROLLED


def _step(state: Enrolling, event: Event, now: float) -> Step:
    match event:
        case Began(need=need, serial=serial, has_certificate=has_certificate):
            state = Enrolling(need=need, serial=serial, has_certificate=has_certificate)
            return _ask(state) if has_certificate else (state, (_slip_of(state),))
        case CodeSeen(text=text):
            return _see(state, text, now)
        case KeyTapped():
            return state, (MakeSound(Sound.CLICK), _slip_of(state))
        case Joined():
            return _joined(state, now)
        case NotJoined(trouble=trouble):
            return _not_joined(state, trouble)
        case Enrolled(device_id=device_id):
            state = replace(state, enrolled_as=device_id, is_asking=False, asking=None, claim=None)
            return state, (MakeSound(Sound.REFUNDED), Finish())
        case NotEnrolled():
            return _not_enrolled(state, event, now)
        case Tick():
            return _try_again(state, now)
        case _:
            assert_never(event)


def _see(state: Enrolling, text: str, now: float) -> Step:
    lies_there = any(each.text == text and now < each.at + SEEN_GAP_S for each in state.seen)
    others = tuple(each for each in state.seen if each.text != text and now < each.at + SEEN_GAP_S)
    state = replace(state, seen=(Seen(text, now), *others)[:SEEN_MAX])
    if lies_there or state.enrolled_as:
        return state, ()
    claim = read_claim_qr(text)
    if claim is not None:
        return _take_claim(state, claim, now)
    match read_wifi_qr(text):
        case WifiNetwork() as network:
            return _take_network(state, network)
        case WifiRefusal.NOT_A_WIFI_QR:
            # A badge, a wallet, a link: nothing to this appliance.
            return state, (MakeSound(Sound.REFRESH_QR),)
        case refusal:
            return _tell(replace(state, told=None), _OF_WIFI[refusal])


def _take_claim(state: Enrolling, claim: ClaimQr, now: float) -> Step:
    state = replace(state, claim=claim, claim_until=now + CLAIM_S, told=None, failures=0)
    beep = MakeSound(Sound.SCANNED)
    if state.is_asking or state.network is not None:
        # Once that is over, the newest claim is the one to try.
        return state, (beep,)
    state, effects = _ask(state)
    return state, (beep, *effects)


def _take_network(state: Enrolling, network: WifiNetwork) -> Step:
    state = replace(state, told=None)
    beep = MakeSound(Sound.SCANNED)
    if state.network is not None:
        return replace(state, next_network=network), (beep,)
    return replace(state, network=network), (beep, Join(network))


def _joined(state: Enrolling, now: float) -> Step:
    if state.next_network is not None:
        return _join_next(state, state.next_network)
    state = replace(state, network=None, trouble=None, failures=0)
    if state.is_asking:
        # It asks over the way that was: if nothing comes of that, at once over this one.
        return replace(state, retry_at=now), ()
    if state.claim is None and not state.has_certificate:
        return state, (MakeSound(Sound.REFUNDED),)
    return _ask(state)


def _not_joined(state: Enrolling, trouble: Trouble) -> Step:
    if state.next_network is not None:
        return _join_next(state, state.next_network)
    state, effects = _tell(replace(state, network=None), trouble)
    if not state.is_asking and (state.claim is not None or state.has_certificate):
        # A claim that was shown meanwhile may find a cable.
        state, asks = _ask(state)
        return state, (*effects, *asks)
    return state, effects


def _join_next(state: Enrolling, network: WifiNetwork) -> Step:
    return replace(state, network=network, next_network=None), (Join(network),)


def _not_enrolled(state: Enrolling, event: NotEnrolled, now: float) -> Step:
    tried, trouble = state.asking, event.trouble
    state = replace(
        state,
        asking=None,
        is_asking=False,
        has_certificate=event.has_certificate,
        failures=state.failures + 1,
    )
    if state.claim is not None and state.claim != tried:
        return _ask(replace(state, failures=0))
    if trouble not in PASSING or not (state.claim is not None or state.has_certificate):
        return _tell(replace(state, claim=None, retry_at=None), trouble, event.detail)
    is_at_once = state.retry_at is not None and state.retry_at <= now
    state, effects = _tell(state, trouble, event.detail)
    wait_s = 0.0 if is_at_once else min(RETRY_MAX_S, RETRY_S * 2.0 ** min(state.failures - 1, 10))
    return replace(state, retry_at=now + wait_s), effects


def _try_again(state: Enrolling, now: float) -> Step:
    due_at = deadline_of(state)
    if due_at is None or now < due_at:
        return state, ()
    if state.claim is not None and now >= state.claim_until:
        return _tell(replace(state, claim=None, retry_at=None), Trouble.CLAIM_EXPIRED)
    return _ask(state)


def _ask(state: Enrolling) -> Step:
    state = replace(state, asking=state.claim, is_asking=True, retry_at=None)
    return state, (Ask(state.claim),)


def _tell(state: Enrolling, trouble: Trouble, detail: str = "") -> Step:
    """On the lamp, and once on paper."""
    is_new = trouble is not state.told
    state = replace(state, trouble=trouble, detail=detail, told=trouble)
    return state, (MakeSound(Sound.DECLINED), _slip_of(state)) if is_new else ()


def _slip_of(state: Enrolling) -> Print:
    if state.trouble is None:
        return Print(show_me_a_code_slip(state.need, state.serial))
    return Print(trouble_slip(state.trouble, state.detail, state.serial))
