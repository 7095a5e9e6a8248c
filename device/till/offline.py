"""The risk rules: what the till may sell alone, one small function a rule, and no other place."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from device.till.entries import SaleOpened
from device.till.spell import CLOCK_BACK_MAX_MS, OfflineRecord
from protocol.messages import SignedIn
from protocol.policy import OfflineRules, Policy
from protocol.wallet_qr import QrRefusal, SignedQr, WalletToken, check_time


class OfflineRefusal(StrEnum):
    """Why the till does not sell alone."""

    NOT_ALLOWED = "offline_not_allowed"
    NEVER_SYNCED = "never_synced_in_this_epoch"
    CLOCK_UNTRUSTED = "clock_untrusted"
    CLOCK_BEHIND = "clock_behind_the_journal"
    SESSION_OVER = "session_over"
    POLICY_EXPIRED = "policy_expired"
    SYNC_TOO_OLD = "sync_too_old"
    DENY_LIST_TOO_OLD = "deny_list_too_old"
    SPELL_SALES = "spell_sales_reached"
    SPELL_SUM = "spell_sum_reached"
    POLICY_CHANGED = "policy_changed_during_the_sale"
    WRONG_CURRENCY = "wrong_currency"
    SALE_TOO_LARGE = "sale_too_large_offline"
    TOKEN_TAKEN = "token_taken_here_before"  # noqa: S105  # the name of a refusal
    PAYER_DENIED = "payer_denied"
    NO_ALLOWANCE = "no_offline_allowance"
    WALLET_SALES = "wallet_sales_reached"
    WALLET_SUM = "wallet_sum_reached"


Refusal = OfflineRefusal | QrRefusal

FRESH_CODE_HELPS: Final = frozenset[Refusal](
    {*QrRefusal, OfflineRefusal.TOKEN_TAKEN, OfflineRefusal.NO_ALLOWANCE}
)
"""The customer's phone may show another one that counts."""


@dataclass(frozen=True)
class Grounds:
    """What the till decides on; `now_ms` is trusted time, None where there is none."""

    policy: Policy
    session: SignedIn | None
    record: OfflineRecord
    now_ms: int | None

    @property
    def rules(self) -> OfflineRules:
        return self.policy.offline


@dataclass(frozen=True)
class Accepted:
    """Nothing speaks against it."""

    token: WalletToken


def may_accept(
    grounds: Grounds, sale: SaleOpened, qr: SignedQr | QrRefusal, scanned_at_ms: int
) -> Accepted | Refusal:
    """Whether the goods may go out on the till's word alone. The first rule that fails is named."""
    refusal = may_open(grounds, sale)
    if refusal is not None:
        return refusal
    if isinstance(qr, QrRefusal):
        return qr
    in_time = check_time(qr.token, scanned_at_ms / 1000)
    if in_time is not None:
        return in_time
    refusals = (rule(grounds, sale, qr.token) for rule in WALLET_RULES)
    refusal = next((each for each in refusals if each is not None), None)
    return Accepted(qr.token) if refusal is None else refusal


def may_open(grounds: Grounds, sale: SaleOpened) -> OfflineRefusal | None:
    """What speaks against a sale before any code is seen."""
    standing = may_sell(grounds)
    if standing is not None:
        return standing
    refusals = (rule(grounds, sale) for rule in SALE_RULES)
    return next((each for each in refusals if each is not None), None)


def may_sell(grounds: Grounds) -> OfflineRefusal | None:
    """What speaks against any sale at all: the light of a till at rest tells it."""
    refusals = (rule(grounds) for rule in STANDING_RULES)
    return next((each for each in refusals if each is not None), None)


def sells_until_ms(grounds: Grounds) -> int:
    """Where `may_sell` says nothing: until when, if nothing else happens."""
    record, rules, session = grounds.record, grounds.rules, grounds.session
    assert session is not None, "somebody is signed in"
    assert record.synced_at_ms is not None, "it was synced"
    assert record.denied_at_ms is not None, "the deny list is whole"
    return min(
        session.expires_at_ms,
        grounds.policy.expires_at_ms,
        record.synced_at_ms + rules.sync_age_max_s * 1000 + 1,
        record.denied_at_ms + rules.deny_list_age_max_s * 1000 + 1,
    )


def policy_allows(grounds: Grounds) -> OfflineRefusal | None:
    return None if grounds.rules.allowed else OfflineRefusal.NOT_ALLOWED


def was_synced(grounds: Grounds) -> OfflineRefusal | None:
    """The cloud knows this journal: a new one may be a clone's, or have lost a spell."""
    return OfflineRefusal.NEVER_SYNCED if grounds.record.synced_at_ms is None else None


def clock_is_trusted(grounds: Grounds) -> OfflineRefusal | None:
    return OfflineRefusal.CLOCK_UNTRUSTED if grounds.now_ms is None else None


def clock_is_not_behind(grounds: Grounds) -> OfflineRefusal | None:
    """Codes that ran out are forgotten: a clock that runs back would take them once more."""
    is_behind = _now(grounds) < grounds.record.newest_ms - CLOCK_BACK_MAX_MS
    return OfflineRefusal.CLOCK_BEHIND if is_behind else None


def session_goes_on(grounds: Grounds) -> OfflineRefusal | None:
    """Somebody signed in while the cloud was there, for this stall, and not for too long."""
    session, policy = grounds.session, grounds.policy
    if session is None or _now(grounds) >= session.expires_at_ms:
        return OfflineRefusal.SESSION_OVER
    is_here = (session.event_id, session.stall_id) == (policy.event_id, policy.stall_id)
    return None if is_here else OfflineRefusal.SESSION_OVER


def policy_goes_on(grounds: Grounds) -> OfflineRefusal | None:
    is_over = _now(grounds) >= grounds.policy.expires_at_ms
    return OfflineRefusal.POLICY_EXPIRED if is_over else None


def sync_is_fresh(grounds: Grounds) -> OfflineRefusal | None:
    age_max_ms = grounds.rules.sync_age_max_s * 1000
    is_fresh = _age_ms(grounds, grounds.record.synced_at_ms) <= age_max_ms
    return None if is_fresh else OfflineRefusal.SYNC_TOO_OLD


def deny_list_is_fresh(grounds: Grounds) -> OfflineRefusal | None:
    age_max_ms = grounds.rules.deny_list_age_max_s * 1000
    is_fresh = _age_ms(grounds, grounds.record.denied_at_ms) <= age_max_ms
    return None if is_fresh else OfflineRefusal.DENY_LIST_TOO_OLD


def spell_has_sales_left(grounds: Grounds) -> OfflineRefusal | None:
    has_left = grounds.record.spell.count < grounds.rules.spell_sales_max
    return None if has_left else OfflineRefusal.SPELL_SALES


def spell_has_money_left(grounds: Grounds) -> OfflineRefusal | None:
    has_left = grounds.record.spell.sum_in_cents < grounds.rules.spell_max_in_cents
    return None if has_left else OfflineRefusal.SPELL_SUM


def policy_is_the_sales_own(grounds: Grounds, sale: SaleOpened) -> OfflineRefusal | None:
    """The upload is judged by the version that the sale was begun under."""
    is_same = sale.policy_version == grounds.policy.version
    return None if is_same else OfflineRefusal.POLICY_CHANGED


def currency_is_the_events(grounds: Grounds, sale: SaleOpened) -> OfflineRefusal | None:
    is_same = sale.amount.currency == grounds.policy.currency
    return None if is_same else OfflineRefusal.WRONG_CURRENCY


def sale_is_small(grounds: Grounds, sale: SaleOpened) -> OfflineRefusal | None:
    limit = min(grounds.rules.sale_max_in_cents, grounds.policy.sale_max_in_cents)
    is_small = sale.amount.amount_in_cents <= limit
    return None if is_small else OfflineRefusal.SALE_TOO_LARGE


def spell_stays_small(grounds: Grounds, sale: SaleOpened) -> OfflineRefusal | None:
    total = grounds.record.spell.sum_in_cents + sale.amount.amount_in_cents
    return None if total <= grounds.rules.spell_max_in_cents else OfflineRefusal.SPELL_SUM


def token_is_new(grounds: Grounds, _: SaleOpened, token: WalletToken) -> OfflineRefusal | None:
    """Whatever paid here once, online or off, never pays here again."""
    return OfflineRefusal.TOKEN_TAKEN if grounds.record.has_taken(token.jti) else None


def payer_is_not_denied(
    grounds: Grounds, _: SaleOpened, token: WalletToken
) -> OfflineRefusal | None:
    return OfflineRefusal.PAYER_DENIED if token.sub in grounds.record.denied else None


def code_has_an_allowance(_: Grounds, __: SaleOpened, token: WalletToken) -> OfflineRefusal | None:
    return None if token.oal > 0 else OfflineRefusal.NO_ALLOWANCE


def wallet_has_sales_left(
    grounds: Grounds, _: SaleOpened, token: WalletToken
) -> OfflineRefusal | None:
    count = grounds.record.spell.payer(token.sub).count
    has_left = count < grounds.rules.wallet_sales_max
    return None if has_left else OfflineRefusal.WALLET_SALES


def wallet_stays_small(
    grounds: Grounds, sale: SaleOpened, token: WalletToken
) -> OfflineRefusal | None:
    """The allowance is the wallet's at this till for the whole spell, not for each code."""
    total = grounds.record.spell.payer(token.sub).sum_in_cents + sale.amount.amount_in_cents
    is_small = total <= min(token.oal, grounds.rules.wallet_max_in_cents)
    return None if is_small else OfflineRefusal.WALLET_SUM


STANDING_RULES: Final[tuple[Callable[[Grounds], OfflineRefusal | None], ...]] = (
    policy_allows,
    was_synced,
    # Whatever follows these two may ask what time it is.
    clock_is_trusted,
    clock_is_not_behind,
    session_goes_on,
    policy_goes_on,
    sync_is_fresh,
    deny_list_is_fresh,
    spell_has_sales_left,
    spell_has_money_left,
)
SALE_RULES: Final[tuple[Callable[[Grounds, SaleOpened], OfflineRefusal | None], ...]] = (
    policy_is_the_sales_own,
    currency_is_the_events,
    sale_is_small,
    spell_stays_small,
)
WALLET_RULES: Final[
    tuple[Callable[[Grounds, SaleOpened, WalletToken], OfflineRefusal | None], ...]
] = (
    token_is_new,
    payer_is_not_denied,
    code_has_an_allowance,
    wallet_has_sales_left,
    wallet_stays_small,
)


def _now(grounds: Grounds) -> int:
    assert grounds.now_ms is not None, "the clock is trusted: that rule comes first"
    return grounds.now_ms


def _age_ms(grounds: Grounds, at_ms: int | None) -> float:
    return float("inf") if at_ms is None else _now(grounds) - at_ms
