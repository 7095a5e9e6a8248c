"""What a journal says of sales taken offline: the spell, the codes taken, and who is denied."""

from dataclasses import dataclass, field, replace
from typing import Final

from device.till.entries import (
    DeniedTaken,
    Entry,
    EpochBegan,
    MessageClosed,
    SaleAcceptedOffline,
    SaleAnswered,
    Synced,
    SyncRefused,
    WalletKeysTaken,
)
from protocol.messages import Approved
from protocol.wallet_qr import EARLY_S, LATE_S, LIFETIME_MAX_S

CLOCK_BACK_MAX_MS: Final = 30_000
"""A clock further behind the journal's newest time than this is not believed."""
_TOKENS_KEPT_MS: Final = 120_000
"""So long after a code ran out it is remembered: longer than a clock may be behind and a sale may
wait for its reply."""
_APPROVED_TOKEN_MS: Final = (EARLY_S + LIFETIME_MAX_S + LATE_S) * 1000
"""A code that the cloud approved has run out this long after, whenever it was made."""


@dataclass(frozen=True)
class PayerSum:
    """What one wallet bought in this spell."""

    payer_id: str
    sum_in_cents: int
    count: int


@dataclass(frozen=True)
class Spell:
    """From the first offline acceptance until every one has a signed answer."""

    sum_in_cents: int = 0
    count: int = 0
    payers: tuple[PayerSum, ...] = ()
    unanswered: tuple[str, ...] = ()
    """The keys whose acceptance waits for its signed answer, oldest first."""

    def payer(self, payer_id: str) -> PayerSum:
        nothing = PayerSum(payer_id, 0, 0)
        return next((each for each in self.payers if each.payer_id == payer_id), nothing)

    def with_sale(self, sale: SaleAcceptedOffline) -> "Spell":
        if sale.key in self.unanswered:
            return self
        cents = sale.amount.amount_in_cents
        before = self.payer(sale.payer_id)
        payer = PayerSum(sale.payer_id, before.sum_in_cents + cents, before.count + 1)
        others = tuple(each for each in self.payers if each.payer_id != sale.payer_id)
        return Spell(
            self.sum_in_cents + cents,
            self.count + 1,
            (*others, payer),
            (*self.unanswered, sale.key),
        )

    def without(self, key: str) -> "Spell":
        """Answered. What was sold counts on until the last one is."""
        unanswered = tuple(each for each in self.unanswered if each != key)
        return replace(self, unanswered=unanswered) if unanswered else Spell()


@dataclass(frozen=True)
class TakenToken:
    """A code that paid for something here; it cannot count any more after `until_ms`."""

    token_id: str
    until_ms: int


@dataclass(frozen=True)
class OfflineRecord:
    """The fold of what bears on offline sales; small, because codes run out."""

    epoch: str = ""
    spell: Spell = field(default_factory=Spell)
    tokens: tuple[TakenToken, ...] = ()
    newest_ms: int = 0
    """The newest time that the cloud signed or that a trusted clock gave: no true clock is behind
    it."""
    synced_at_ms: int | None = None
    """The last signed answer to a heartbeat in this epoch."""
    denied: frozenset[str] = frozenset()
    denied_version: int = 0
    denied_at_ms: int | None = None
    """When the deny list was last known to be whole and the newest; None: it is in pieces."""
    wallet_keys: WalletKeysTaken | None = None

    def after(self, entry: Entry) -> "OfflineRecord":
        """Taking the same entries again, in the same order, changes nothing."""
        match entry:
            case EpochBegan(epoch=epoch):
                return OfflineRecord(epoch=epoch)
            case SaleAcceptedOffline(accepted_at_ms=at_ms):
                until_ms = (entry.token_expires_s + LATE_S) * 1000
                record = self._with_token(entry.token_id, until_ms, at_ms)
                return replace(record, spell=self.spell.with_sale(entry))
            case SaleAnswered(outcome=Approved(token_id=token_id, at_ms=at_ms)):
                return self._with_token(token_id, at_ms + _APPROVED_TOKEN_MS, at_ms)
            case MessageClosed(key=key):
                return replace(self, spell=self.spell.without(key))
            case Synced(at_ms=at_ms, denied_at_ms=denied_at_ms):
                newest_ms = max(self.newest_ms, at_ms)
                return replace(
                    self, newest_ms=newest_ms, synced_at_ms=at_ms, denied_at_ms=denied_at_ms
                )
            case SyncRefused():
                return replace(self, synced_at_ms=None)
            case DeniedTaken(changes=changes, at_ms=at_ms):
                before = frozenset[str]() if changes.is_whole else self.denied
                denied = (before - set(changes.removed)) | set(changes.added)
                return replace(
                    self,
                    denied=denied,
                    denied_version=changes.version,
                    denied_at_ms=None if changes.more else at_ms,
                )
            case WalletKeysTaken():
                return replace(self, wallet_keys=entry)
            case _:
                return self

    def has_taken(self, token_id: str) -> bool:
        return any(each.token_id == token_id for each in self.tokens)

    def _with_token(self, token_id: str, until_ms: int, at_ms: int) -> "OfflineRecord":
        newest_ms = max(self.newest_ms, at_ms)
        # Whatever clock is believed from now on says that a code left out here has run out.
        still_good = tuple(
            each for each in self.tokens if each.until_ms + _TOKENS_KEPT_MS >= newest_ms
        )
        taken = TakenToken(token_id, until_ms)
        return replace(self, tokens=(*still_good, taken), newest_ms=newest_ms)
