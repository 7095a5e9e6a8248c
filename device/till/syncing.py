"""What a heartbeat's signed answer teaches: the time, who is denied, newer keys."""

from dataclasses import replace
from typing import Final

from device.till.effects import Journal
from device.till.entries import (
    DeniedTaken,
    Entry,
    Synced,
    SyncRefused,
    WalletKeysTaken,
)
from device.till.resting import Step
from device.till.spell import OfflineRecord
from device.till.states import NobodySignedIn, Ready, Till, WaitingForPolicy
from device.till.trusted_time import anchor_signed
from protocol.messages import Declined, HeartbeatAnswered, Reason
from protocol.policy import NamedKey

SYNCED_EVERY_MS: Final = 60_000
"""The journal learns of a sync this often: after a restart the last one looks so much older."""


def learn(till: Till, answer: HeartbeatAnswered, now_s: float) -> Till:
    """At once in memory; the journal follows when no customer waits for the disk."""
    anchor = anchor_signed(till.anchor, answer.cloud_time_ms, now_s)
    at_ms = answer.cloud_time_ms
    till = replace(till, anchor=anchor)
    if answer.denied is not None:
        till = _keep(till, DeniedTaken(answer.denied, at_ms))
    keys = _newer_keys(till, answer)
    if keys is not None:
        till = _keep(till, keys)
    is_whole = answer.denied is None or not answer.denied.more
    synced = Synced(at_ms, at_ms if is_whole else None)
    till = replace(till, record=till.record.after(synced))
    is_old = till.sync_saved_ms is None or at_ms >= till.sync_saved_ms + SYNCED_EVERY_MS
    if is_old and till.terms is not None and till.terms.policy.offline.allowed:
        till = replace(_keep(till, synced), sync_saved_ms=at_ms)
    return till


def refuse(till: Till, answer: Declined, at_ms: int) -> Till:
    """Revoked or quarantined: until the cloud says otherwise the till sells nothing alone."""
    if answer.reason not in {Reason.DEVICE_REVOKED, Reason.DEVICE_QUARANTINED}:
        return till
    if till.record.synced_at_ms is None:
        return till
    return replace(_keep(till, SyncRefused(at_ms)), sync_saved_ms=None)


def save(till: Till) -> Step:
    """Write down what was learnt, where the till waits for staff and nobody for the till."""
    match till.phase:
        case WaitingForPolicy() | NobodySignedIn() | Ready(scanned=None) if till.unsaved:
            return replace(till, unsaved=()), (Journal(till.unsaved),)
        case _:
            return till, ()


def fold(record: OfflineRecord, entries: tuple[Entry, ...]) -> OfflineRecord:
    for entry in entries:
        record = record.after(entry)
    return record


def wallet_keys_of(till: Till) -> tuple[NamedKey, ...]:
    """Those that the policy in force lacks. What was said of another policy may be of another
    event."""
    taken = till.record.wallet_keys
    if taken is None or till.terms is None:
        return ()
    return taken.keys if taken.policy_version == till.terms.policy.version else ()


def _newer_keys(till: Till, answer: HeartbeatAnswered) -> WalletKeysTaken | None:
    """None where nothing changed, or where they may belong to a policy that is on its way."""
    if till.terms is None or answer.policy_version != till.terms.policy.version:
        return None
    if answer.wallet_keys == wallet_keys_of(till):
        return None
    return WalletKeysTaken(answer.policy_version, answer.wallet_keys)


def _keep(till: Till, entry: Entry) -> Till:
    return replace(till, record=till.record.after(entry), unsaved=(*till.unsaved, entry))
