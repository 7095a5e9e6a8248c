"""Puts before a person what was approved a day ago and no appliance has said it knows of."""

from datetime import datetime, timedelta
from typing import Final

from cloud.ledger.decisions import ReviewCause
from cloud.store.database import Database
from cloud.store.locks import lock_devices
from cloud.store.records import AuditRow, write_audit_records
from cloud.store.unsettled import find_unsettled_devices, review_unsettled_of

UNSETTLED_FOR: Final = timedelta(hours=24)


def review_unsettled(database: Database, now: datetime) -> int:
    """How many approvals it put on the review list.

    Looks at every key there is, without a lock: once an hour is often enough.
    """
    before = now - UNSETTLED_FOR
    with database.reading() as connection:
        device_ids = find_unsettled_devices(connection, before)
    found = 0
    for device_id in device_ids:
        with database.transaction() as connection:
            lock_devices(connection, [device_id])
            reviewed = review_unsettled_of(
                connection, device_id, ReviewCause.NEVER_SETTLED, now, approved_before=before
            )
            if reviewed == 0:
                # It has said so meanwhile, or another courier was here first.
                continue
            deed = AuditRow(
                at=now,
                actor="system:courier",
                action="approvals_unsettled",
                outcome="done",
                device_id=device_id,
                detail={"put_on_the_review_list": reviewed},
            )
            write_audit_records(connection, [deed])
        found += reviewed
    return found
