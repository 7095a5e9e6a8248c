"""Each rule at its edge; what holds them together is tried in test_selling_alone.py."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from device.till import offline
from device.till.entries import SaleAcceptedOffline, SaleAnswered, SaleOpened
from device.till.offline import (
    SALE_RULES,
    STANDING_RULES,
    WALLET_RULES,
    Accepted,
    Grounds,
    OfflineRefusal,
    Refusal,
    may_accept,
    may_sell,
    sells_until_ms,
)
from device.till.spell import OfflineRecord, PayerSum, Spell, TakenToken
from device.till.standing import Standing
from device.till.syncing import fold
from protocol.money import Money
from protocol.policy import OfflineRules
from protocol.wallet_qr import QrRefusal, SignedQr, WalletToken
from tests.device.stage import EPOCH_MS, a_policy, a_session, approved

RULES = OfflineRules(
    allowed=True,
    sale_max_in_cents=1000,
    wallet_max_in_cents=2000,
    wallet_sales_max=3,
    spell_max_in_cents=20_000,
    spell_sales_max=50,
    sync_age_max_s=7200,
    deny_list_age_max_s=3600,
)
NOW_MS = EPOCH_MS + 1_000_000
TOKEN = WalletToken(
    sub="payerpayer1",
    jti="token-000001",
    nonce="noncenonce1",
    iat=NOW_MS // 1000 - 10,
    exp=NOW_MS // 1000 + 80,
    oal=2000,
)
CODE = SignedQr(TOKEN, "w1")
SALE = SaleOpened(
    key="k" * 22,
    correlation_id="c" * 22,
    session_id="s" * 22,
    initials="AL",
    event_id="summer",
    stall_id="bar",
    policy_version=1,
    amount=Money(500, "EUR"),
    lines=(),
    at_ms=NOW_MS,
)


@dataclass(frozen=True)
class Offer:
    """A sale that nothing speaks against; each case changes one thing about it."""

    grounds: Grounds
    sale: SaleOpened = SALE
    qr: SignedQr | QrRefusal = CODE
    scanned_at_ms: int = NOW_MS

    def judged(self) -> Accepted | Refusal:
        return may_accept(self.grounds, self.sale, self.qr, self.scanned_at_ms)


def a_good_offer() -> Offer:
    record = replace(
        Standing().record, epoch="e", synced_at_ms=NOW_MS, denied_at_ms=NOW_MS, newest_ms=NOW_MS
    )
    policy = a_policy(offline=RULES)
    return Offer(Grounds(policy, a_session(), record, NOW_MS))


Change = Callable[[Offer], Offer]


def rules(**changes: int | bool) -> Change:
    def change(offer: Offer) -> Offer:
        offline = structs.replace(offer.grounds.policy.offline, **changes)
        policy = structs.replace(offer.grounds.policy, offline=offline)
        return replace(offer, grounds=replace(offer.grounds, policy=policy))

    return change


def policy(**changes: object) -> Change:
    def change(offer: Offer) -> Offer:
        changed = structs.replace(offer.grounds.policy, **changes)
        return replace(offer, grounds=replace(offer.grounds, policy=changed))

    return change


def record(**changes: object) -> Change:
    def change(offer: Offer) -> Offer:
        changed = replace(offer.grounds.record, **changes)  # type: ignore[arg-type]
        return replace(offer, grounds=replace(offer.grounds, record=changed))

    return change


def grounds(**changes: object) -> Change:
    return lambda offer: replace(offer, grounds=replace(offer.grounds, **changes))  # type: ignore[arg-type]


def session(**changes: object) -> Change:
    return grounds(session=structs.replace(a_session(), **changes))


def sale(**changes: object) -> Change:
    return lambda offer: replace(offer, sale=structs.replace(offer.sale, **changes))


def token(**changes: object) -> Change:
    def change(offer: Offer) -> Offer:
        assert isinstance(offer.qr, SignedQr)
        return replace(offer, qr=SignedQr(structs.replace(offer.qr.token, **changes), "w1"))

    return change


def scanned(at_ms: int) -> Change:
    return lambda offer: replace(offer, scanned_at_ms=at_ms)


def of(cents: int, currency: str = "EUR") -> Change:
    return sale(amount=Money(cents, currency))


def spell(sum_in_cents: int, count: int, *payers: PayerSum) -> Change:
    return record(spell=Spell(sum_in_cents, count, payers, ("older-key",)))


def mine(sum_in_cents: int, count: int) -> PayerSum:
    return PayerSum(TOKEN.sub, sum_in_cents, count)


GOOD = None
CASES: list[tuple[str, Refusal | None, tuple[Change, ...]]] = [
    ("nothing speaks against it", GOOD, ()),
    # The policy.
    ("the policy does not allow it", OfflineRefusal.NOT_ALLOWED, (rules(allowed=False),)),
    ("the policy's last millisecond", GOOD, (policy(expires_at_ms=NOW_MS + 1),)),
    ("the policy is over", OfflineRefusal.POLICY_EXPIRED, (policy(expires_at_ms=NOW_MS),)),
    ("begun under another policy", OfflineRefusal.POLICY_CHANGED, (sale(policy_version=2),)),
    # The first sync of this epoch, and its age.
    ("a journal without a sync", OfflineRefusal.NEVER_SYNCED, (record(synced_at_ms=None),)),
    ("a sync as old as may be", GOOD, (record(synced_at_ms=NOW_MS - 7_200_000),)),
    ("a sync too old", OfflineRefusal.SYNC_TOO_OLD, (record(synced_at_ms=NOW_MS - 7_200_001),)),
    # The clock.
    ("no trusted clock", OfflineRefusal.CLOCK_UNTRUSTED, (grounds(now_ms=None),)),
    ("a clock as far behind as may be", GOOD, (record(newest_ms=NOW_MS + 30_000),)),
    ("a clock behind", OfflineRefusal.CLOCK_BEHIND, (record(newest_ms=NOW_MS + 30_001),)),
    # The staff session.
    ("nobody signed in", OfflineRefusal.SESSION_OVER, (grounds(session=None),)),
    ("the session's last millisecond", GOOD, (session(expires_at_ms=NOW_MS + 1),)),
    ("the session is over", OfflineRefusal.SESSION_OVER, (session(expires_at_ms=NOW_MS),)),
    ("another stall's session", OfflineRefusal.SESSION_OVER, (policy(stall_id="grill"),)),
    ("another event's session", OfflineRefusal.SESSION_OVER, (policy(event_id="winter"),)),
    # The deny list.
    ("a deny list as old as may be", GOOD, (record(denied_at_ms=NOW_MS - 3_600_000),)),
    (
        "a deny list too old",
        OfflineRefusal.DENY_LIST_TOO_OLD,
        (record(denied_at_ms=NOW_MS - 3_600_001),),
    ),
    ("a deny list in pieces", OfflineRefusal.DENY_LIST_TOO_OLD, (record(denied_at_ms=None),)),
    ("others are denied", GOOD, (record(denied=frozenset({"payerpayer2"})),)),
    (
        "the payer is denied",
        OfflineRefusal.PAYER_DENIED,
        (record(denied=frozenset({TOKEN.sub, "payerpayer2"})),),
    ),
    # The sale.
    ("the largest sale", GOOD, (of(1000),)),
    ("a sale too large", OfflineRefusal.SALE_TOO_LARGE, (of(1001),)),
    (
        "a sale too large online too",
        OfflineRefusal.SALE_TOO_LARGE,
        (policy(sale_max_in_cents=499),),
    ),
    ("another currency", OfflineRefusal.WRONG_CURRENCY, (of(500, "CHF"),)),
    # The appliance's spell.
    ("the spell's last sale", GOOD, (spell(4900, 49),)),
    ("no sale left in the spell", OfflineRefusal.SPELL_SALES, (spell(5000, 50),)),
    ("the spell's last cent", GOOD, (spell(19_500, 40),)),
    ("over the spell's sum", OfflineRefusal.SPELL_SUM, (spell(19_501, 40),)),
    ("no cent left in the spell", OfflineRefusal.SPELL_SUM, (spell(20_000, 40),)),
    # The wallet in this spell.
    ("the wallet's last sale", GOOD, (spell(600, 2, mine(600, 2)),)),
    ("no sale left for the wallet", OfflineRefusal.WALLET_SALES, (spell(600, 3, mine(600, 3)),)),
    ("the wallet's last cent", GOOD, (spell(1500, 2, mine(1500, 2)),)),
    ("over the wallet's sum", OfflineRefusal.WALLET_SUM, (spell(1501, 2, mine(1501, 2)),)),
    ("another wallet's sales", GOOD, (spell(2000, 3, PayerSum("payerpayer2", 2000, 3)),)),
    ("no allowance", OfflineRefusal.NO_ALLOWANCE, (token(oal=0),)),
    ("the allowance's last cent", GOOD, (token(oal=500),)),
    ("over the allowance", OfflineRefusal.WALLET_SUM, (token(oal=499),)),
    ("what was bought counts", GOOD, (token(oal=700), spell(200, 1, mine(200, 1)))),
    (
        "a smaller allowance later",
        OfflineRefusal.WALLET_SUM,
        (token(oal=699), spell(200, 1, mine(200, 1))),
    ),
    (
        "a large allowance",
        OfflineRefusal.WALLET_SUM,
        (token(oal=9999), spell(1501, 1, mine(1501, 1))),
    ),
    # The code.
    (
        "a code that paid here before",
        OfflineRefusal.TOKEN_TAKEN,
        (record(tokens=(TakenToken(TOKEN.jti, NOW_MS),)),),
    ),
    ("another paid here before", GOOD, (record(tokens=(TakenToken("token-000002", NOW_MS),)),)),
    *(
        (f"the code is {each}", each, (lambda offer, each=each: replace(offer, qr=each),))
        for each in QrRefusal
    ),
    ("30 s before it was made", GOOD, (scanned((TOKEN.iat - 30) * 1000),)),
    ("sooner", QrRefusal.FROM_THE_FUTURE, (scanned((TOKEN.iat - 30) * 1000 - 1),)),
    ("10 s after it ran out", GOOD, (scanned((TOKEN.exp + 10) * 1000),)),
    ("later", QrRefusal.EXPIRED, (scanned((TOKEN.exp + 10) * 1000 + 1),)),
]


@pytest.mark.parametrize(("refusal", "changes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_each_rule_at_its_edge(refusal: Refusal | None, changes: tuple[Change, ...]) -> None:
    offer = a_good_offer()
    for change in changes:
        offer = change(offer)
    verdict = offer.judged()
    assert (None if isinstance(verdict, Accepted) else verdict) == refusal


def test_every_rule_has_its_row() -> None:
    assert {refusal for _, refusal, _ in CASES} == {None, *OfflineRefusal, *QrRefusal}


def test_what_is_accepted_is_the_code_that_was_judged() -> None:
    assert a_good_offer().judged() == Accepted(TOKEN)


def test_a_code_that_paid_here_never_pays_here_again() -> None:
    offer = a_good_offer()
    taken = SaleAcceptedOffline(
        key="other" * 5,
        wallet_qr="jws",
        payer_id="payerpayer2",
        token_id=TOKEN.jti,
        token_expires_s=TOKEN.exp,
        amount=Money(100, "EUR"),
        scanned_at_ms=NOW_MS,
        accepted_at_ms=NOW_MS,
    )
    alone = fold(offer.grounds.record, (taken,))
    assert record_of(offer, alone).judged() is OfflineRefusal.TOKEN_TAKEN
    paid = structs.replace(approved(), token_id=TOKEN.jti, at_ms=NOW_MS)
    online = fold(offer.grounds.record, (SaleAnswered("k", paid, "t"),))
    assert record_of(offer, online).judged() is OfflineRefusal.TOKEN_TAKEN


@given(
    st.integers(-200_000, 10**7),
    st.integers(-200_000, 10**7),
    st.integers(0, 30_000),
    st.integers(60, 120),
)
def test_a_forgotten_code_has_run_out_by_every_clock_that_is_believed(
    later_ms: int, clock_ms: int, waiting_ms: int, lifetime_s: int
) -> None:
    """Codes leave the record once they are long over, so no clock may make them good again."""
    token = structs.replace(TOKEN, exp=TOKEN.iat + lifetime_s)
    offer = replace(a_good_offer(), qr=SignedQr(token, "w1"))
    first = structs.replace(approved(), token_id=token.jti, at_ms=NOW_MS)
    other = structs.replace(approved(), token_id="token-000002", at_ms=NOW_MS + later_ms)
    record = fold(
        offer.grounds.record, (SaleAnswered("k", first, "t"), SaleAnswered("l", other, "t"))
    )
    now_ms = NOW_MS + clock_ms
    generous = structs.replace(RULES, sync_age_max_s=10**6, deny_list_age_max_s=10**6)
    policy = a_policy(offline=generous, expires_at_ms=NOW_MS + 10**9)
    session = structs.replace(a_session(), expires_at_ms=NOW_MS + 10**9)
    offer = replace(
        offer,
        grounds=Grounds(policy, session, record, now_ms),
        scanned_at_ms=now_ms - waiting_ms,
    )
    assert not isinstance(offer.judged(), Accepted)


def test_a_till_knows_until_when_it_may_sell_alone() -> None:
    for changes in (
        (session(expires_at_ms=NOW_MS + 5000),),
        (policy(expires_at_ms=NOW_MS + 5000),),
        (record(synced_at_ms=NOW_MS + 4999 - 7_200_000),),
        (record(denied_at_ms=NOW_MS + 4999 - 3_600_000),),
    ):
        offer = a_good_offer()
        for change in changes:
            offer = change(offer)
        until = sells_until_ms(offer.grounds)
        assert until == NOW_MS + 5000
        assert may_sell(replace(offer.grounds, now_ms=until - 1)) is None
        assert may_sell(replace(offer.grounds, now_ms=until)) is not None


def test_the_rules_are_all_asked() -> None:
    named = {rule.__name__ for rule in (*STANDING_RULES, *SALE_RULES, *WALLET_RULES)}
    public = {
        name
        for name, each in vars(offline).items()
        if callable(each)
        and getattr(each, "__module__", "") == offline.__name__
        and not name.startswith("_")
        and name[0].islower()
    }
    assert public - named == {"may_accept", "may_open", "may_sell", "sells_until_ms"}


def record_of(offer: Offer, changed: OfflineRecord) -> Offer:
    return replace(offer, grounds=replace(offer.grounds, record=changed))
