"""A new version of the signed policy for an appliance: a worker publishes it, nobody edits it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from cloud.keys import KeyRing
from cloud.operations.updates.due import Due, due_update, read_releases
from cloud.store.tables import devices, event_versions, events, policies, products, stalls
from protocol.encoding import from_base64url
from protocol.ids import DeviceId, EventId
from protocol.policy import NamedKey, OfflineRules, Policy, Product, sign_policy

VALID: Final = timedelta(days=60)
AFTER_THE_EVENT: Final = timedelta(days=2)
_AT_ONCE: Final = 500
"""Appliances in one statement."""
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
    assigned = assigned_devices(connection, event_id)
    return issue_to(connection, keys, assigned, now, top_up_url=top_up_url)


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
    return issue_to(connection, keys, [device_id], now, top_up_url=top_up_url)[device_id]


def issue_to(
    connection: Connection,
    keys: KeyRing,
    device_ids: Sequence[DeviceId],
    now: datetime,
    *,
    top_up_url: str | None = None,
    after_the_end: bool = True,
) -> dict[DeviceId, int]:
    """The same for many: what an event's policies share is read once, since sales wait for the
    locks meanwhile. Nothing is said to an appliance that was never entered.

    `after_the_end`: as for `expires_at`.
    """
    issued: dict[DeviceId, int] = {}
    shared: dict[EventId, _Shared] = {}
    releases = read_releases(connection)
    for start in range(0, len(device_ids), _AT_ONCE):
        some = device_ids[start : start + _AT_ONCE]
        rows = connection.execute(
            update(devices)
            .where(devices.c.device_id.in_(some))
            .values(policy_version=devices.c.policy_version + 1)
            .returning(
                devices.c.device_id,
                devices.c.event_id,
                devices.c.stall_id,
                devices.c.policy_version,
                devices.c.channel,
                devices.c.compatible,
                devices.c.slot,
                devices.c.announced_version,
                devices.c.announced_downgrade,
            )
        ).all()
        for event_id in {row.event_id for row in rows} - shared.keys():
            shared[event_id] = _read_shared(connection, keys, event_id)
        urls = {} if top_up_url else _top_up_urls_before(connection, some)
        letters: list[dict[str, Any]] = []
        announced: list[dict[str, Any]] = []
        for row in rows:
            words = shared[row.event_id]
            due = due_for(releases, row)
            until = expires_at(words.event.ends_at, now, after_the_end=after_the_end)
            policy = _policy(
                words,
                row,
                due,
                issued_at=now,
                expires_at=until,
                top_up_url=top_up_url or urls.get(row.device_id),
            )
            if is_news(due, row):
                announced.append(_announced(row, due))
            letters.append(
                {
                    "device_id": row.device_id,
                    "version": policy.version,
                    "jws": sign_policy(policy, keys.policy.private, keys.policy.kid),
                    "event_version": words.version,
                    "issued_at": now,
                    "expires_at": until,
                }
            )
        if letters:
            connection.execute(insert(policies), letters)
        if announced:
            connection.execute(_ANNOUNCE, announced)
        issued |= {each["device_id"]: each["version"] for each in letters}
    return issued


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all policies of one event say."""

    event: _Row
    version: int | None
    """Which of the event's versions they are made from; None where none was kept."""
    stall_names: Mapping[str, str]
    products: Mapping[str, tuple[Product, ...]]
    offline: OfflineRules
    wallet_keys: tuple[NamedKey, ...]
    reply_keys: tuple[NamedKey, ...]
    badge_keys: tuple[NamedKey, ...]
    pin_key: NamedKey


def _read_shared(connection: Connection, keys: KeyRing, event_id: EventId) -> _Shared:
    event = connection.execute(select(events).where(events.c.event_id == event_id)).one()
    newest = select(func.max(event_versions.c.version)).where(event_versions.c.event_id == event_id)
    names = connection.execute(
        select(stalls.c.stall_id, stalls.c.name).where(stalls.c.event_id == event_id)
    )
    price_lists: dict[str, list[Product]] = {}
    for row in connection.execute(
        select(products).where(products.c.event_id == event_id).order_by(products.c.number)
    ):
        product = Product(row.number, row.name, row.price_in_cents)
        price_lists.setdefault(row.stall_id, []).append(product)
    return _Shared(
        event=event,
        version=connection.execute(newest).scalar_one(),
        stall_names={row.stall_id: row.name for row in names},
        products={stall_id: tuple(listed) for stall_id, listed in price_lists.items()},
        offline=msgspec.convert(event.offline_rules or {}, OfflineRules),
        wallet_keys=keys.known_wallets(event_id),
        reply_keys=keys.known("reply"),
        badge_keys=keys.known("badge"),
        pin_key=keys.pin.named,
    )


def due_for(releases: Sequence[Due], device: _Row) -> Due | None:
    """What the next policy of this appliance announces."""
    return due_update(
        releases,
        device.device_id,
        channel=device.channel,
        compatible=device.compatible,
        slot=device.slot,
    )


def is_news(due: Due | None, device: _Row) -> bool:
    """Whether its newest policy says something else. A percentage that grew is none: this
    appliance was among those before."""
    said = (device.announced_version, device.announced_downgrade)
    return said != ((None, False) if due is None else (due.version, due.allow_downgrade))


def _announced(device: _Row, due: Due | None) -> dict[str, Any]:
    return {
        "of_device_id": device.device_id,
        "version": None if due is None else due.version,
        "downgrade": due is not None and due.allow_downgrade,
    }


def _policy(
    words: _Shared,
    device: _Row,
    due: Due | None,
    *,
    issued_at: datetime,
    expires_at: datetime,
    top_up_url: str | None,
) -> Policy:
    assert device.stall_id is not None, "an appliance without a stall has no policy"
    event = words.event
    return Policy(
        version=device.policy_version,
        device_id=device.device_id,
        issued_at_ms=_ms(issued_at),
        expires_at_ms=_ms(expires_at),
        event_id=event.event_id,
        event_name=event.name,
        stall_id=device.stall_id,
        stall_name=words.stall_names[device.stall_id],
        currency=event.currency,
        locale=event.locale,
        timezone=event.timezone,
        sale_max_in_cents=event.sale_max_in_cents,
        reply_timeout_ms=event.reply_timeout_ms,
        products=words.products.get(device.stall_id, ()),
        offline=words.offline,
        top_up_url=top_up_url,
        wallet_keys=words.wallet_keys,
        reply_keys=words.reply_keys,
        badge_keys=words.badge_keys,
        pin_key=words.pin_key,
        update=msgspec.UNSET if due is None else due.update(),
    )


def _top_up_urls_before(
    connection: Connection, device_ids: Sequence[DeviceId]
) -> dict[str, str | None]:
    """A program that does not know the cloud's address (it changes a key) keeps what was said."""
    newest = (
        select(policies.c.device_id, func.max(policies.c.version).label("version"))
        .where(policies.c.device_id.in_(device_ids))
        .group_by(policies.c.device_id)
        .subquery()
    )
    found = connection.execute(
        select(policies.c.device_id, policies.c.jws).join(
            newest,
            (policies.c.device_id == newest.c.device_id) & (policies.c.version == newest.c.version),
        )
    )
    return {row.device_id: _top_up_url_of(row.jws) for row in found}


def _top_up_url_of(jws: str) -> str | None:
    payload = from_base64url(jws.encode().split(b".")[1])
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


_ANNOUNCE: Final = (
    update(devices)
    .where(devices.c.device_id == bindparam("of_device_id"))
    .values(
        announced_version=bindparam("version", type_=devices.c.announced_version.type),
        announced_downgrade=bindparam("downgrade", type_=devices.c.announced_downgrade.type),
    )
)
