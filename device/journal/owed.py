"""What a journal still owes the cloud, and whose journal it is; reads only."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from device.journal.journal import JournalFault, LaterJournal, look_at
from device.journal.salvage import files_set_aside, salvage
from device.till.standing import Standing
from protocol.encoding import from_base64url
from protocol.money import Money, format_cents


class _Addressed(msgspec.Struct, frozen=True):
    device_id: str = ""


def whose(state: Path) -> str:
    """The appliance that the journal's policy is for; empty where that cannot be known."""
    try:
        chain = look_at(state)
    except JournalFault:
        return ""
    taken = None if chain is None else chain.standing.policy
    parts = [] if taken is None else taken.token.encode("ascii", "replace").split(b".")
    payload = from_base64url(parts[1]) if len(parts) == 3 else None
    try:
        return msgspec.json.decode(payload or b"", type=_Addressed).device_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def what_is_owed(state: Path) -> list[str]:
    """What no signed answer has closed: a line a kind, with how many and how much.

    Raises JournalFault where that cannot be known.
    """
    chain = look_at(state)
    if chain is not None and chain.passed_over:
        raise LaterJournal(f"{chain.passed_over} entries of a kind that only a later release knows")
    if chain is not None:
        return _lines(chain.standing)
    # A new journal would begin with what the damaged ones still owe; none has begun.
    saved = salvage(files_set_aside(state))
    return [f"  {len(saved.keys)} in a damaged journal"] if saved.keys else []


def _lines(standing: Standing) -> list[str]:
    cancelled = [each.sale.amount for each in standing.sales if each.is_cancelled]
    undecided = [each.sale.amount for each in standing.sales if each.is_undecided]
    unseen = [
        each.sale.amount
        for each in standing.sales
        if each.approval is not None and not each.is_cancelled
    ]
    refunds = [each.refund.amount for each in standing.refunds]
    return [
        *_line("sale taken offline", "sales taken offline", [e.amount for e in standing.unsynced]),
        *_line("cancelled sale", "cancelled sales", cancelled),
        *_line("sale without a decision", "sales without a decision", undecided),
        *_line("sale that staff may not have seen", "sales that staff may not have seen", unseen),
        *_line("refund", "refunds", refunds),
        *_line("sign-out", "sign-outs", [None] * len(standing.sign_outs)),
    ]


def _line(one: str, several: str, amounts: Sequence[Money | None]) -> list[str]:
    if not amounts:
        return []
    sums: dict[str, int] = {}
    for amount in amounts:
        if amount is not None:
            sums[amount.currency] = sums.get(amount.currency, 0) + amount.amount_in_cents
    told = " and ".join(f"{format_cents(cents)} {name}" for name, cents in sorted(sums.items()))
    count = f"  {len(amounts)} {one if len(amounts) == 1 else several}"
    return [f"{count}, {told}" if told else count]
