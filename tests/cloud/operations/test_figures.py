from datetime import timedelta

from sqlalchemy import insert, update
from uuid_utils.compat import uuid7

from cloud.operations.proof.figures import Figures, read_figures
from cloud.store.tables import audit_pending, devices, letters
from tests.cloud.floor import Floor


def test_figures_say_how_much_waits_and_for_how_long(floor: Floor) -> None:
    before = read_figures_of(floor)
    with floor.database.transaction() as connection:
        connection.execute(
            insert(audit_pending).values(pending_id=uuid7(), records=b"", transactions=b"")
        )
        for state, waits in (("waiting", True), ("waiting", True), ("given_up", False)):
            connection.execute(
                insert(letters).values(
                    letter_id=uuid7(),
                    to_address="a@b.test",
                    kind="one_time_code",
                    state=state,
                    next_try_at=floor.now() if waits else None,
                    created_at=floor.now() - timedelta(seconds=90),
                )
            )
    floor.add_till("till-1")
    floor.add_till("till-2")
    with floor.database.transaction() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == "till-1")
            .values(last_seen_at=floor.now(), queue=3)
        )
        connection.execute(
            update(devices)
            .where(devices.c.device_id == "till-2")
            .values(last_seen_at=floor.now() - timedelta(minutes=4), queue=4)
        )
    found = read_figures_of(floor)
    assert found.audit_pending == before.audit_pending + 1
    assert (found.letters_waiting, found.letters_oldest_s, found.letters_given_up) == (2, 90.0, 1)
    assert (found.devices, found.devices_silent, found.devices_queue) == ({"active": 2}, 1, 7)
    assert (found.review_entries_open, found.payments_pending) == (0, 0)


def read_figures_of(floor: Floor) -> Figures:
    with floor.database.reading() as connection:
        return read_figures(connection, floor.now())
