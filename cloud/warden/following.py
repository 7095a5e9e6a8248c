"""After an appliance left: first register, revocation list and broker, then its session's end.

Each step is done before it is noted, so that a crash between the two does it again; doing any of
them again changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, select, update

from cloud.settings import BrokerSettings
from cloud.store.database import Database
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.tables import device_certificates, devices
from cloud.warden.faults import WardenFault
from cloud.warden.registry import Registry
from cloud.warden.takeover import take_over
from provisioning.authority.folder import Left
from provisioning.authority.register import Reason

ACTOR: Final = "system:warden"
AGAIN_AFTER: Final = timedelta(seconds=4)
"""From the first takeover to the second: by then the broker refuses whoever left."""
AGAIN_AFTER_UNSEEN: Final = timedelta(seconds=30)
"""The same where something else carries the list to the broker, nobody here knows when."""
_AT_ONCE: Final = 500


def list_revocations(
    database: Database,
    registry: Registry,
    now: datetime,
    *,
    looks_anyway: bool = True,
    tells_broker: bool = False,
) -> int:
    """Have the CRL and the broker know of every certificate that no longer counts; how many.

    `looks_anyway`: also where there is none, for a CRL that is of yesterday. `tells_broker`: also
    where it has this very CRL, since it may not have read it. Raises WardenFault.
    """
    to_list = (
        select(
            device_certificates.c.thumbprint,
            device_certificates.c.device_id,
            device_certificates.c.revocation_reason,
            devices.c.status,
        )
        .join(devices, devices.c.device_id == device_certificates.c.device_id)
        .where(
            device_certificates.c.revoked_at.is_not(None),
            device_certificates.c.revocation_listed_at.is_(None),
        )
        .order_by(device_certificates.c.device_id)
    )
    with database.reading() as connection:
        rows = connection.execute(to_list).all()
    if not rows and not looks_anyway:
        return 0

    left = [
        Left(
            row.device_id,
            _reason(row.revocation_reason),
            # Of one that left, also what it was issued and the database never heard of.
            None if row.status != "active" else row.thumbprint,
        )
        for row in rows
    ]
    is_new = registry.bring_after(left, now)
    registry.hand_over(at_once=is_new or tells_broker or bool(left))

    thumbprints = [row.thumbprint for row in rows]
    for start in range(0, len(thumbprints), _AT_ONCE):
        with database.transaction() as connection:
            connection.execute(
                update(device_certificates)
                .where(
                    device_certificates.c.thumbprint.in_(thumbprints[start : start + _AT_ONCE]),
                    device_certificates.c.revocation_listed_at.is_(None),
                )
                .values(revocation_listed_at=now)
            )
    return len(rows)


def end_sessions(
    database: Database, registry: Registry, broker: BrokerSettings, now: datetime
) -> int:
    """End the session of each appliance that left, and once more when the broker refuses it.

    Raises WardenFault once the broker does not answer; the others wait as well then.
    """
    fault: WardenFault | None = None
    ended = 0
    for device_id, is_first in _due(database, now, registry.hands_over):
        try:
            issued, key = registry.certify_takeover(device_id, now)
        except WardenFault as error:
            if error.name != "certificate_not_issued":
                raise
            # This one's name, perhaps: the others are not to wait for it.
            fault = error
            continue
        take_over(broker, issued, key)
        with database.transaction() as connection:
            _note_end(connection, device_id, now, is_first=is_first)
        ended += 1
    if fault is not None:
        raise fault
    return ended


def _due(database: Database, now: datetime, hands_over: bool) -> Sequence[tuple[str, bool]]:
    """Appliances that left, whether their session was never ended yet."""
    again_after = AGAIN_AFTER if hands_over else AGAIN_AFTER_UNSEEN
    # A clock that was set back makes nobody wait for longer.
    has_settled = ~devices.c.session_ended_at.between(now - again_after, now)
    leaving = (
        select(devices.c.device_id, devices.c.session_ended_at)
        .where(
            devices.c.status != "active",
            devices.c.session_ended_again_at.is_(None),
            devices.c.session_ended_at.is_(None) | (has_settled & _is_listed(again_after, now)),
        )
        .order_by(devices.c.session_ended_at.is_not(None), devices.c.revoked_at)
    )
    with database.reading() as connection:
        return [
            (row.device_id, row.session_ended_at is None) for row in connection.execute(leaving)
        ]


def _is_listed(again_after: timedelta, now: datetime) -> ColumnElement[bool]:
    """Whether the broker has had time to read of all of its certificates."""
    listed_at = device_certificates.c.revocation_listed_at
    return ~(
        select(device_certificates.c.thumbprint)
        .where(
            device_certificates.c.device_id == devices.c.device_id,
            listed_at.is_(None) | listed_at.between(now - again_after, now),
        )
        .exists()
    )


def _note_end(connection: Connection, device_id: str, now: datetime, *, is_first: bool) -> None:
    column = devices.c.session_ended_at if is_first else devices.c.session_ended_again_at
    noted = connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id, column.is_(None))
        .values({column: now})
        .returning(devices.c.event_id)
    ).one_or_none()
    if is_first and noted is not None:
        deed = AuditRow(
            at=now,
            actor=ACTOR,
            action="broker_session_ended",
            outcome="done",
            device_id=device_id,
            event_id=noted.event_id,
        )
        write_audit_records(connection, [deed])


def _reason(text: str | None) -> Reason:
    return Reason.UNSPECIFIED if text is None else Reason(text)
