"""What a journal amounts to: the policy, the session, and everything that is not settled yet."""

from dataclasses import dataclass, replace
from typing import assert_never

from device.till.entries import (
    Entry,
    EpochBegan,
    LightShown,
    MessageClosed,
    PolicyTaken,
    Resent,
    SaleAbandoned,
    SaleAnswered,
    SaleCancelled,
    SaleKept,
    SaleOpened,
    SessionBegan,
    SessionEnded,
)
from protocol.messages import Approved


@dataclass(frozen=True)
class OpenSale:
    """A sale that still waits for its final answer.

    `approval`: decided, and not yet known to have been shown. `is_cancelled`: the cloud's answer
    to the cancel is outstanding.
    """

    number: int
    sale: SaleOpened
    approval: Approved | None = None
    is_cancelled: bool = False


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
    resent_for: str = ""
    """The restore of the cloud's database after which the journal was said again."""

    def after(self, number: int, entry: Entry) -> "Standing":
        """The standing once entry `number` is written; an entry about no open sale changes none."""
        match entry:
            case EpochBegan():
                return self
            case PolicyTaken():
                return replace(self, policy=entry)
            case SessionBegan():
                return replace(self, session=entry)
            case SessionEnded(session_id=session_id, key=key):
                mine = self.session is not None and self.session.session.session_id == session_id
                sign_outs = self.sign_outs
                if key is not None:
                    sign_outs = (*sign_outs, OpenSignOut(number, session_id, key))
                return replace(self, session=None if mine else self.session, sign_outs=sign_outs)
            case SaleOpened():
                return replace(self, sales=(*self.sales, OpenSale(number, entry)))
            case SaleAnswered(key=key, outcome=outcome):
                approved = isinstance(outcome, Approved)
                return self._with(key, approval=outcome) if approved else self._without(key)
            case SaleCancelled(key=key):
                return self._with(key, is_cancelled=True)
            case SaleAbandoned(key=key) | LightShown(key=key) | SaleKept(key=key):
                # A cancelled sale stays open for the cloud's answer, whatever else is said of it.
                return replace(
                    self,
                    sales=tuple(
                        each for each in self.sales if each.sale.key != key or each.is_cancelled
                    ),
                )
            case Resent(restore_id=restore_id):
                return replace(self, resent_for=restore_id)
            case MessageClosed(key=key):
                still_open = tuple(each for each in self.sign_outs if each.key != key)
                return replace(self._without(key), sign_outs=still_open)
            case _:
                assert_never(entry)

    def settled_below(self, last: int) -> int:
        """Every entry below this number has its final answer."""
        numbers = [each.number for each in (*self.sales, *self.sign_outs)]
        return min(numbers, default=last + 1)

    def sale(self, key: str) -> OpenSale | None:
        return next((each for each in self.sales if each.sale.key == key), None)

    def _with(
        self, key: str, *, approval: Approved | None = None, is_cancelled: bool = False
    ) -> "Standing":
        return replace(
            self,
            sales=tuple(
                replace(
                    each,
                    approval=each.approval or approval,
                    is_cancelled=each.is_cancelled or is_cancelled,
                )
                if each.sale.key == key
                else each
                for each in self.sales
            ),
        )

    def _without(self, key: str) -> "Standing":
        return replace(self, sales=tuple(each for each in self.sales if each.sale.key != key))
