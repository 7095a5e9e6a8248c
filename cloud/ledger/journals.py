"""Whether an appliance's journal is still the one that the cloud was told of: nothing that an
honest appliance can say, late, twice or out of order, is ever held against it."""

from typing import Final

import msgspec

from cloud.ledger.decisions import QuarantineCause
from cloud.ledger.facts import Appliance
from protocol.ids import IdempotencyKey
from protocol.messages import (
    Cancel,
    Deduct,
    Heartbeat,
    JournalKnown,
    JournalPosition,
    OfflineAcceptance,
    Refund,
)

LEFT_MAX: Final = 16
"""Epochs that are remembered after they were left: a journal is set aside once in years."""

Placed = Deduct | OfflineAcceptance | Cancel | Refund
"""What has an entry of its own in the journal."""


class Heard(msgspec.Struct, frozen=True):
    """What one heartbeat says of its journal, beside what was known."""

    journal: JournalPosition | None = None
    """What is known from now on; None: as before."""
    left: tuple[str, ...] = ()
    """The epochs before that one, the newest last."""
    settled_by: str | None = None
    """The firmware that counted what is settled."""
    begins_epoch: bool = False
    known: JournalKnown | None = None
    """What it is told, where it says less than is known: it may just be late."""
    doubt: QuarantineCause | None = None


def hear_journal(appliance: Appliance, request: Heartbeat) -> Heard:
    """By what cannot be otherwise: a journal only grows, one entry has one content, and whoever
    was told how far it goes has written that far."""
    before, now = appliance.journal, request.journal
    if before is None:
        return Heard(now, settled_by=request.firmware)
    if appliance.journal_anew:
        # Ops released it: whatever it says now is where it stands.
        begins = now.epoch != before.epoch
        return Heard(now, settled_by=request.firmware, begins_epoch=begins)
    told = request.journal_told
    if told is not None and told.releases != appliance.releases:
        told = None
    if now.epoch != before.epoch:
        return _hear_other_epoch(appliance, before, request, told)
    if told is not None and told.epoch == now.epoch and now.last < told.last:
        return Heard(doubt=QuarantineCause.WENT_BACK)
    if now.last < before.last:
        return Heard(known=_known(appliance, before))
    if now.last == before.last and now.head != before.head:
        return Heard(doubt=QuarantineCause.FORKED)
    if now.settled_below < before.settled_below:
        if request.firmware == appliance.settled_by and now.last > before.last:
            return Heard(doubt=QuarantineCause.WENT_BACK)
        # Another program may count other entries as settled; what was said stands, as that one's.
        stands = msgspec.structs.replace(now, settled_below=before.settled_below)
        return Heard(stands, appliance.journal_left, appliance.settled_by)
    return Heard(now, appliance.journal_left, request.firmware)


def _hear_other_epoch(
    appliance: Appliance,
    before: JournalPosition,
    request: Heartbeat,
    told: JournalKnown | None,
) -> Heard:
    """A journal was set aside and another begun; none ever comes back but in a late message.

    Another epoch is taken for a newer one only from somebody who was told of this one: the first
    heartbeat of an older may be on its way still. So the epochs stand in their true order.
    """
    now, epochs = request.journal, (*appliance.journal_left, before.epoch)
    if now.epoch not in epochs:
        if told is not None and told.epoch == before.epoch:
            return Heard(now, epochs[-LEFT_MAX:], request.firmware, begins_epoch=True)
    elif (
        told is not None
        and told.epoch in epochs
        and epochs.index(told.epoch) > epochs.index(now.epoch)
    ):
        return Heard(doubt=QuarantineCause.RETURNED)
    return Heard(known=_known(appliance, before))


def doubt_entry(
    appliance: Appliance, request: Placed, *, is_known: bool, others: frozenset[IdempotencyKey]
) -> QuarantineCause | None:
    """What is wrong with a sale's own place in the journal.

    `is_known`: its key was answered before. `others`: the other keys that said they stand at this
    very entry. 0 is no entry: the till no longer knew it.
    """
    if request.entry > 0 and others:
        return QuarantineCause.ENTRY_TWICE
    before, now = appliance.journal, request.journal
    if before is None or appliance.journal_anew or before.epoch != now.epoch:
        return None
    if before.last == now.last and before.head != now.head:
        return QuarantineCause.FORKED
    if (
        not is_known
        and isinstance(request, Deduct | OfflineAcceptance)
        and 0 < request.entry < before.settled_below
        # A cloud that came back from a backup no longer knows what it answered.
        and appliance.resend is None
    ):
        return QuarantineCause.ENTRY_UNSEEN
    return None


def _known(appliance: Appliance, journal: JournalPosition) -> JournalKnown:
    return JournalKnown(journal.epoch, journal.last, appliance.releases)
