from sqlalchemy import func, select

from cloud.store.pruning import prune_spent_tokens
from cloud.store.tables import spent_tokens
from protocol.messages import Declined, Reason
from tests.cloud.floor import Floor


def test_a_used_qr_is_remembered_as_long_as_it_could_come_again(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    qr = floor.qr(guest)
    floor.ask(till, till.deduct(qr))

    def prune() -> int:
        with floor.database.transaction() as connection:
            return prune_spent_tokens(connection, floor.now())

    floor.pass_time(hours=47)
    assert prune() == 0
    floor.pass_time(hours=2)
    assert prune() == 1
    with floor.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(spent_tokens)).scalar_one() == 0
    floor.pass_time(hours=-48)
    assert floor.ask_one(till, till.deduct(qr)) == Declined(Reason.TOKEN_EXPIRED)
