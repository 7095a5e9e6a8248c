"""What a journal amounts to: the policy, the session, and everything that is not settled yet."""

from dataclasses import dataclass, field, replace
from typing import assert_never

from device.till.entries import (
    DeniedTaken,
    Entry,
    EpochBegan,
    LightShown,
    MessageClosed,
    PolicyTaken,
    RefundAbandoned,
    RefundAnswered,
    RefundOpened,
    RefundShown,
    Resent,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionBegan,
    SessionEnded,
    Synced,
    SyncRefused,
    WalletKeysTaken,
)
from device.till.shift import LastSale, Shift, last_sale_of
from device.till.spell import OfflineRecord, Spell
from protocol.messages import Approved, Outcome, Refunded
from protocol.money import Money


@dataclass(frozen=True)
class OpenSale:
    """A sale that still waits for its final answer.

    `approval`: decided, and not yet known to have been shown. `acceptance`: decided by the till
    alone; the cloud's answer is outstanding, and until `is_shown` so is the light. `is_cancelled`:
    the cloud's answer to the cancel is outstanding, and nothing else is said of this sale.
    """

    number: int
    sale: SaleOpened
    approval: Approved | None = None
    acceptance: SaleAcceptedOffline | None = None
    is_shown: bool = False
    is_cancelled: bool = False

    @property
    def is_undecided(self) -> bool:
        return self.approval is None and self.acceptance is None and not self.is_cancelled

    @property
    def may_be_unseen(self) -> bool:
        """It was green, or was to be, and nobody noted that the light was on."""
        return not (self.is_undecided or self.is_shown or self.is_cancelled)


@dataclass(frozen=True)
class Unsynced:
    """A sale taken offline that has no signed answer so far; `number` is its own entry's."""

    number: int
    sale: SaleOpened
    accepted_at_ms: int
    amount: Money


@dataclass(frozen=True)
class OpenRefund:
    """A refund that has no answer yet, or whose answer staff may not have."""

    number: int
    refund: RefundOpened
    answer: Outcome | None = None


@dataclass(frozen=True)
class OpenSignOut:
    """A sign-out that the cloud has not answered."""

    number: int
    session_id: str
    key: str


@dataclass(frozen=True)
class Standing:
    """The fold of all entries so far; small, because what is settled leaves it."""

    policy: PolicyTaken | None = None
    session: SessionBegan | None = None
    sales: tuple[OpenSale, ...] = ()
    sign_outs: tuple[OpenSignOut, ...] = ()
    refunds: tuple[OpenRefund, ...] = ()
    last_sale: LastSale | None = None
    shift: Shift = field(default_factory=Shift)
    """Of the session that is, or was last, open."""
    resent_for: str = ""
    """The restore of the cloud's database after which the journal was said again."""
    record: OfflineRecord = field(default_factory=OfflineRecord)

    @property
    def unsynced(self) -> tuple[Unsynced, ...]:
        """Oldest first."""
        return tuple(
            Unsynced(each.number, each.sale, each.acceptance.accepted_at_ms, each.acceptance.amount)
            for each in self.sales
            if each.acceptance is not None and not each.is_cancelled
        )

    @property
    def spell(self) -> Spell:
        return self.record.spell

    def after(self, number: int, entry: Entry) -> "Standing":
        """The standing once entry `number` is written; an entry about no open sale changes none."""
        return replace(self._after(number, entry), record=self.record.after(entry))

    # One branch an entry.
    def _after(self, number: int, entry: Entry) -> "Standing":  # noqa: C901, PLR0912
        match entry:
            case EpochBegan() | Synced() | SyncRefused() | DeniedTaken() | WalletKeysTaken():
                return self
            case PolicyTaken():
                return replace(self, policy=entry)
            case SessionBegan():
                return replace(self, session=entry, shift=Shift())
            case SessionEnded(session_id=session_id, key=key):
                mine = self.session is not None and self.session.session.session_id == session_id
                sign_outs = self.sign_outs
                if key is not None:
                    sign_outs = (*sign_outs, OpenSignOut(number, session_id, key))
                return replace(self, session=None if mine else self.session, sign_outs=sign_outs)
            case SaleOpened():
                return replace(self, sales=(*self.sales, OpenSale(number, entry)))
            case SaleAnswered(key=key, outcome=outcome):
                if not isinstance(outcome, Approved):
                    return self._without(key)
                return self._sold(key, outcome)
            case SaleCancelled(key=key):
                return self._unsold(key)
            case SaleAcceptedOffline(key=key):
                return self._sold_offline(key, entry)
            case SaleAbandoned(key=key) | LightShown(key=key) | SaleKept(key=key):
                return self._shown(key)
            case RefundOpened():
                return replace(self, refunds=(*self.refunds, OpenRefund(number, entry)))
            case RefundAnswered(key=key, outcome=outcome):
                return self._gave_back(key, outcome)
            case RefundShown(key=key) | RefundAbandoned(key=key):
                refunds = tuple(each for each in self.refunds if each.refund.key != key)
                return replace(self, refunds=refunds)
            case Resent(restore_id=restore_id):
                return replace(self, resent_for=restore_id)
            case MessageClosed(key=key, kind=kind):
                sale = self.sale(key)
                if kind == "offline_acceptance" and sale is not None and sale.is_cancelled:
                    # It was said before the cancel was, whose answer is the one that counts.
                    return self
                still_open = tuple(each for each in self.sign_outs if each.key != key)
                return replace(self._without(key), sign_outs=still_open)
            case _:
                assert_never(entry)

    def settled_below(self, last: int) -> int:
        """Every entry below this number has its final answer."""
        numbers = [each.number for each in (*self.sales, *self.sign_outs, *self.refunds)]
        return min(numbers, default=last + 1)

    def sale(self, key: str) -> OpenSale | None:
        return next((each for each in self.sales if each.sale.key == key), None)

    def refund(self, key: str) -> OpenRefund | None:
        return next((each for each in self.refunds if each.refund.key == key), None)

    def number_of(self, key: str) -> int:
        """The number of an open sale's or refund's own entry; 0 where none is open under it."""
        found = self.sale(key) or self.refund(key)
        return 0 if found is None else found.number

    def _sold(self, key: str, approval: Approved) -> "Standing":
        found = self.sale(key)
        standing = self._with(key, approval=approval)
        if found is None:
            return standing
        last = last_sale_of(found.sale, approval, approval.at_ms)
        return replace(standing, last_sale=last, shift=self.shift.sold(found.sale))

    def _sold_offline(self, key: str, acceptance: SaleAcceptedOffline) -> "Standing":
        found = self.sale(key)
        standing = self._with(key, acceptance=acceptance)
        if found is None:
            return standing
        last = last_sale_of(found.sale, None, acceptance.accepted_at_ms)
        return replace(standing, last_sale=last, shift=self.shift.sold(found.sale, offline=True))

    def _unsold(self, key: str) -> "Standing":
        """A sale that was paid is taken back: no receipt of it is printed again."""
        found = self.sale(key)
        standing = self._with(key, is_cancelled=True)
        if found is None or found.is_undecided or found.is_cancelled:
            return standing
        is_last = self.last_sale is not None and self.last_sale.sale.key == key
        last = None if is_last else self.last_sale
        shift = self.shift.unsold(found.sale, offline=found.acceptance is not None)
        return replace(standing, last_sale=last, shift=shift)

    def _gave_back(self, key: str, answer: Outcome) -> "Standing":
        found = self.refund(key)
        if found is None:
            return self
        answered = replace(found, answer=answer)
        refunds = tuple(answered if each is found else each for each in self.refunds)
        standing = replace(self, refunds=refunds)
        if not isinstance(answer, Refunded):
            return standing
        cents, last = answer.amount.amount_in_cents, self.last_sale
        if last is not None and last.sale.key == found.refund.sale.key:
            last = last.after_refund(cents)
        return replace(standing, last_sale=last, shift=self.shift.gave_back(cents))

    def _shown(self, key: str) -> "Standing":
        """Seen, or never asked for. What waits for the cloud's answer stays, whatever is said."""
        sales = (
            replace(each, is_shown=True) if each.sale.key == key else each for each in self.sales
        )
        return replace(
            self,
            sales=tuple(
                each
                for each in sales
                if each.sale.key != key or each.is_cancelled or each.acceptance is not None
            ),
        )

    def _with(
        self,
        key: str,
        *,
        approval: Approved | None = None,
        acceptance: SaleAcceptedOffline | None = None,
        is_cancelled: bool = False,
    ) -> "Standing":
        return replace(
            self,
            sales=tuple(
                replace(
                    each,
                    approval=each.approval or approval,
                    acceptance=each.acceptance or acceptance,
                    is_cancelled=each.is_cancelled or is_cancelled,
                )
                if each.sale.key == key
                else each
                for each in self.sales
            ),
        )

    def _without(self, key: str) -> "Standing":
        return replace(self, sales=tuple(each for each in self.sales if each.sale.key != key))
