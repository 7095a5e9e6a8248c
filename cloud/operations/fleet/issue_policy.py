"""A new version of the signed policy for an appliance: a worker publishes it, nobody edits it."""

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from cloud.keys import KeyRing
from cloud.store.tables import devices, event_versions, events, policies, products, stalls
from protocol.encoding import from_base64url
from protocol.ids import DeviceId, EventId
from protocol.policy import OfflineRules, Policy, Product, sign_policy

VALID: Final = timedelta(days=60)
AFTER_THE_EVENT: Final = timedelta(days=2)
_Row = Row[*tuple[Any, ...]]


class _Said(msgspec.Struct):
    """What of a policy of our own is said again."""

    top_up_url: str | None = None


_SAID: Final = msgspec.json.Decoder(_Said)


def issue_policies(
    connection: Connection,
    keys: KeyRing,
    event_id: EventId,
    now: datetime,
    *,
    top_up_url: str | None = None,
) -> dict[DeviceId, int]:
    """A new version for every appliance of this event; each with its version."""
    return {
        device_id: issue_policy(connection, keys, device_id, now, top_up_url=top_up_url)
        for device_id in assigned_devices(connection, event_id)
    }


def assigned_devices(connection: Connection, event_id: EventId) -> list[DeviceId]:
    """The appliances at this event's stalls that are not revoked."""
    found = (
        select(devices.c.device_id)
        .where(
            devices.c.event_id == event_id,
            devices.c.stall_id.is_not(None),
            devices.c.status == "active",
        )
        .order_by(devices.c.device_id)
    )
    return [DeviceId(device_id) for device_id in connection.execute(found).scalars()]


def issue_policy(
    connection: Connection,
    keys: KeyRing,
    device_id: DeviceId,
    now: datetime,
    *,
    top_up_url: str | None = None,
) -> int:
    """A new version for one appliance that is assigned to a stall; returns the version.

    `top_up_url`: where attendees buy Credits; None: as its newest policy says.
    """
    device = connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id)
        .values(policy_version=devices.c.policy_version + 1)
        .returning(devices)
    ).one()
    assert device.stall_id is not None, "an appliance without a stall has no policy"
    place = connection.execute(
        select(events, stalls.c.name.label("stall_name"))
        .join(stalls, stalls.c.event_id == events.c.event_id)
        .where(events.c.event_id == device.event_id, stalls.c.stall_id == device.stall_id)
    ).one()
    top_up_url = top_up_url or _top_up_url_before(connection, device_id)
    policy = _policy(connection, keys, device, place, now, top_up_url=top_up_url)
    connection.execute(
        insert(policies).values(
            device_id=device_id,
            version=policy.version,
            jws=sign_policy(policy, keys.policy.private, keys.policy.kid),
            event_version=_event_version(connection, device.event_id),
            issued_at=now,
            expires_at=expires_at(place.ends_at, now),
        )
    )
    return policy.version


def _event_version(connection: Connection, event_id: EventId) -> int | None:
    """Which of the event's versions it is made from; None where none was kept."""
    newest = select(func.max(event_versions.c.version)).where(event_versions.c.event_id == event_id)
    return connection.execute(newest).scalar_one()


def _policy(
    connection: Connection,
    keys: KeyRing,
    device: _Row,
    place: _Row,
    now: datetime,
    *,
    top_up_url: str | None,
) -> Policy:
    price_list = connection.execute(
        select(products.c.number, products.c.name, products.c.price_in_cents)
        .where(products.c.event_id == device.event_id, products.c.stall_id == device.stall_id)
        .order_by(products.c.number)
    )
    return Policy(
        version=device.policy_version,
        device_id=device.device_id,
        issued_at_ms=_ms(now),
        expires_at_ms=_ms(expires_at(place.ends_at, now)),
        event_id=place.event_id,
        event_name=place.name,
        stall_id=device.stall_id,
        stall_name=place.stall_name,
        currency=place.currency,
        locale=place.locale,
        timezone=place.timezone,
        sale_max_in_cents=place.sale_max_in_cents,
        reply_timeout_ms=place.reply_timeout_ms,
        products=tuple(Product(row.number, row.name, row.price_in_cents) for row in price_list),
        offline=msgspec.convert(place.offline_rules or {}, OfflineRules),
        top_up_url=top_up_url,
        wallet_keys=keys.known_wallets(place.event_id),
        reply_keys=keys.known("reply"),
        badge_keys=keys.known("badge"),
        pin_key=keys.pin.named,
    )


def _top_up_url_before(connection: Connection, device_id: DeviceId) -> str | None:
    """A program that does not know the cloud's address (it changes a key) keeps what was said."""
    jws = connection.execute(
        select(policies.c.jws)
        .where(policies.c.device_id == device_id)
        .order_by(policies.c.version.desc())
        .limit(1)
    ).scalar_one_or_none()
    payload = None if jws is None else from_base64url(jws.encode().split(b".")[1])
    return None if payload is None else _SAID.decode(payload).top_up_url


def expires_at(
    event_ends_at: datetime | None, now: datetime, *, after_the_end: bool = True
) -> datetime:
    """Past the event's end by two days, so that no till goes dumb while the last guests pay.

    `after_the_end`: whoever issues one later still means it to count, for two days more.
    """
    if event_ends_at is None:
        return now + VALID
    ends_at = event_ends_at + AFTER_THE_EVENT
    return max(ends_at, now + AFTER_THE_EVENT) if after_the_end else ends_at


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
