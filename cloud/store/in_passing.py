"""What heartbeats are told besides: changes of the deny list, and keys that a policy lacks."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from cloud.ledger.deny_list import ListState, newest_version, page, serial_held
from cloud.ledger.facts import Appliance, Presented, ToldInPassing
from cloud.store.deny_list import read_denied_changes, read_list_states
from cloud.store.remembered import EventKeys, Remembered
from cloud.store.tables import events
from protocol.ids import DeviceId, EventId, IdempotencyKey
from protocol.messages import DeniedChanges, Heartbeat
from protocol.named_key import NamedKey

FindWalletKeys = Callable[[EventId], tuple[NamedKey, ...]]
LIST_STATES_KEPT: Final = timedelta(seconds=2)
"""So long a change may stay unsaid: a thousand appliances that beat cost a query each two
seconds, not one each."""
WALLET_KEYS_KEPT: Final = timedelta(seconds=10)
"""A new key signs only once every appliance has a policy that holds it, which takes longer."""


def tell_in_passing(
    connection: Connection,
    remembered: Remembered,
    find_wallet_keys: FindWalletKeys,
    batch: Sequence[Presented],
    appliances: Mapping[DeviceId, Appliance],
) -> dict[IdempotencyKey, ToldInPassing]:
    """For each heartbeat of an appliance that stands at an event, by the heartbeat's key."""
    beats = [
        (each.request, event_id, each.arrived_at)
        for each in batch
        if isinstance(each.request, Heartbeat)
        for event_id in [appliances[each.request.device].event_id]
        if event_id is not None
    ]
    if not beats:
        return {}
    event_ids = {event_id for _, event_id, _ in beats}
    currencies = _find_currencies(connection, remembered, event_ids)
    policies = remembered.find_policies(
        connection, ((beat.device, beat.policy_version) for beat, _, _ in beats)
    )
    wallet_keys = {
        event_id: _find_keys(remembered, find_wallet_keys, event_id, beats[0][2])
        for event_id in event_ids
    }
    read: dict[tuple[str, int], DeniedChanges | None] = {}
    told: dict[IdempotencyKey, ToldInPassing] = {}
    for beat, event_id, at in beats:
        asked = currencies[event_id], beat.denied_version
        if asked not in read:
            read[asked] = _read_denied(connection, remembered, *asked, at)
        policy = policies.get((beat.device, beat.policy_version))
        told[beat.idempotency_key] = ToldInPassing(
            read[asked],
            ()
            if policy is None
            else tuple(
                each for each in wallet_keys[event_id] if each.kid not in policy.wallet_kids
            ),
        )
    return told


def _read_denied(
    connection: Connection, remembered: Remembered, currency: str, version: int, now: datetime
) -> DeniedChanges | None:
    """None where the till holds the newest list."""
    kept = remembered.list_states
    if (
        kept is not None
        and abs(now - kept.read_at) < LIST_STATES_KEPT
        and version == newest_version(kept.states.get(currency))
    ):
        return None
    # Another worker may have told it a newer version than is remembered here.
    states: dict[str, ListState] = read_list_states(connection)
    remembered.keep_list_states(states, now)
    state = states.get(currency)
    if version == newest_version(state):
        return None
    held = serial_held(state, version)
    changes = [] if state is None else read_denied_changes(connection, currency, state, held)
    return page(state, held, changes)


def _find_keys(
    remembered: Remembered, find_wallet_keys: FindWalletKeys, event_id: EventId, now: datetime
) -> tuple[NamedKey, ...]:
    """From the key ring's folder, but not for every batch."""
    kept = remembered.wallet_keys.get(event_id)
    if kept is None or abs(now - kept.read_at) >= WALLET_KEYS_KEPT:
        kept = EventKeys(find_wallet_keys(event_id), now)
        remembered.wallet_keys[event_id] = kept
    return kept.keys


def _find_currencies(
    connection: Connection, remembered: Remembered, event_ids: set[EventId]
) -> dict[EventId, str]:
    """An event keeps its currency: each is read once."""
    missing = event_ids - remembered.currencies.keys()
    if missing:
        found = select(events.c.event_id, events.c.currency).where(events.c.event_id.in_(missing))
        remembered.currencies.update(
            {EventId(row.event_id): str(row.currency) for row in connection.execute(found)}
        )
    return {event_id: remembered.currencies[event_id] for event_id in event_ids}
