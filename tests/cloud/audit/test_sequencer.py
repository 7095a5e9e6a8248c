from tests.cloud.audit.log import Log


def test_everything_that_was_written_is_in_the_tree_and_sound(log: Log) -> None:
    till, guest = log.floor.add_till(), log.floor.add_guest()
    log.sell(till, guest, 3)
    before = log.verify()
    assert (before.is_sound, before.unproven, before.leaves) == (True, 7, 0)

    first, second, *_ = log.sequence()
    assert (first.leaves, second.leaves) == (1, 7)
    after = log.verify(log.kept())
    assert after.findings == []
    assert (after.leaves, after.unproven, after.epochs) == (8, 0, 1)
    assert log.count_pending() == 0

    log.sell(till, guest)
    assert log.verify(log.kept()).unproven == 2
    log.sequence()
    assert log.verify(log.kept()).leaves == 10
