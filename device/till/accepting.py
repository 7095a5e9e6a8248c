"""Selling alone: what the till asks the rules, and how a sale is accepted offline."""

from dataclasses import replace
from typing import Final

from device.till.contents import AskToPostOffline
from device.till.effects import (
    AccountForSale,
    Journal,
    Look,
    MakeSound,
    Print,
    ShowLight,
)
from device.till.entries import LightShown, SaleAbandoned, SaleAcceptedOffline, SaleOpened
from device.till.events import Now
from device.till.offline import (
    FRESH_CODE_HELPS,
    Accepted,
    Grounds,
    OfflineRefusal,
    Refusal,
    may_accept,
    may_open,
    may_sell,
    sells_until_ms,
)
from device.till.outbox import upload
from device.till.receipt import offline_receipt_of
from device.till.resting import Step, ask_for_fresh_code, decline
from device.till.signals import Light, Sound
from device.till.states import Scanning, Showing, Sighting, Till
from device.till.syncing import wallet_keys_of
from device.till.terms import Terms
from protocol.policy import find
from protocol.signing import PublicKey
from protocol.wallet_qr import QrRefusal, SignedQr, check_signature, read

APPROVED_OFFLINE_S: Final = 2.0
"""Green, and the two amber blinks."""


def with_leave(till: Till, now: Now) -> Till:
    """Until when the till may sell alone, as its resting light says."""
    grounds = _grounds(till, now)
    if grounds is None or grounds.now_ms is None or may_sell(grounds) is not None:
        return till if till.alone_until == 0.0 else replace(till, alone_until=0.0)
    left_s = (sells_until_ms(grounds) - grounds.now_ms) / 1000
    # Whole hundredths: the same moment, however often it is reckoned.
    return replace(till, alone_until=round(now.monotonic_s + left_s, 2) + 0.01)


def refuse_to_open(till: Till, sale: SaleOpened, now: Now) -> OfflineRefusal | None:
    """What speaks against selling this without the cloud, before any code is seen."""
    grounds = _grounds(till, now)
    return OfflineRefusal.SESSION_OVER if grounds is None else may_open(grounds, sale)


def accept(till: Till, sale: SaleOpened, text: str, scanned_s: float, now: Now) -> Step | Refusal:
    """The goods may go out, now and for good; or what speaks against it.

    The code is judged as of the moment it was before the camera. The upload follows once the light
    is on: what nobody saw is never under way.
    """
    terms, grounds = till.terms, _grounds(till, now)
    assert terms is not None, "somebody is signed in, so there is a policy"
    assert grounds is not None, "there is a policy"
    scanned_at_ms = now.wall_ms - round((now.monotonic_s - scanned_s) * 1000)
    jws = read(text)
    if isinstance(jws, QrRefusal):
        return jws
    verdict = may_accept(grounds, sale, _check(till, terms, jws), scanned_at_ms)
    if not isinstance(verdict, Accepted):
        return verdict
    accepted = SaleAcceptedOffline(
        key=sale.key,
        wallet_qr=jws,
        payer_id=verdict.token.sub,
        token_id=verdict.token.jti,
        token_expires_s=verdict.token.exp,
        amount=sale.amount,
        scanned_at_ms=scanned_at_ms,
        accepted_at_ms=now.wall_ms,
    )
    till = upload(till, [AskToPostOffline(sale, accepted)], now.monotonic_s)
    showing = Showing(Light.APPROVED_OFFLINE, now.monotonic_s + APPROVED_OFFLINE_S, sale=sale)
    return replace(till, phase=showing), (
        Journal((accepted,)),
        ShowLight(Light.APPROVED_OFFLINE),
        MakeSound(Sound.APPROVED_OFFLINE),
        Look(False),
        AccountForSale(sale.key, sale.correlation_id, "accepted offline"),
        Print(offline_receipt_of(sale, accepted.accepted_at_ms, terms)),
        Journal((LightShown(sale.key),)),
    )


def decide_at_once(till: Till, then: Scanning, text: str, scanned_s: float, now: Now) -> Step:
    """There is no link, and nothing was published under this key: nobody waits for nothing."""
    sale = then.sale
    accepted = accept(till, sale, text, scanned_s, now)
    if not isinstance(accepted, OfflineRefusal | QrRefusal):
        return accepted
    if accepted in FRESH_CODE_HELPS:
        refusing = replace(then, refused=Sighting(text, now.monotonic_s))
        return ask_for_fresh_code(till, now.monotonic_s, accepted.value, refusing)
    till, effects = decline(till, now.monotonic_s, accepted.value, sale)
    return till, (Journal((SaleAbandoned(sale.key),)), *effects)


def _grounds(till: Till, now: Now) -> Grounds | None:
    if till.terms is None:
        return None
    now_ms = now.wall_ms if now.wall_is_set else None
    return Grounds(till.terms.policy, till.session, till.record, now_ms)


def _check(till: Till, terms: Terms, jws: str) -> SignedQr | QrRefusal:
    """By the policy's keys and by those that the cloud named since."""
    newer = find(wallet_keys_of(till))

    def find_key(kid: str) -> PublicKey | None:
        return terms.find_wallet_key(kid) or newer(kid)

    return check_signature(jws, find_key)
