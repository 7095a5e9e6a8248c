from pathlib import Path

from device.condition.wellbeing import (
    FEEL_EVERY_S,
    FELT_FOR_S,
    Thermometer,
    clock_trust,
    hottest_c,
    wellbeing,
)
from device.till.entries import MessageClosed, SaleAcceptedOffline, SaleOpened
from device.till.standing import Standing
from device.till.states import Till
from device.till.trusted_time import Anchor
from protocol.money import Money
from tests.device.stage import EPOCH_MS


def sensor(folder: Path, name: str, said: str) -> None:
    (folder / name).mkdir()
    (folder / name / "temp").write_text(said)


def test_the_hottest_sensor_counts(tmp_path: Path) -> None:
    sensor(tmp_path, "thermal_zone0", "48312\n")
    sensor(tmp_path, "thermal_zone1", "61873\n")
    assert hottest_c(tmp_path) == 62


def test_a_sensor_that_measures_nothing_is_not_believed(tmp_path: Path) -> None:
    for number, said in enumerate(("-273000", "2147483647", "", "warm", "151000", "9" * 40)):
        sensor(tmp_path, f"thermal_zone{number}", said)
    (tmp_path / "thermal_zone9" / "temp").mkdir(parents=True)
    assert hottest_c(tmp_path) is None
    sensor(tmp_path, "thermal_zone8", "-5400\n")
    assert hottest_c(tmp_path) == -5


def test_a_machine_without_sensors_has_no_temperature(tmp_path: Path) -> None:
    assert hottest_c(tmp_path / "nothing") is None


def test_sensors_are_read_no_more_often_than_they_change_and_forgotten_when_old() -> None:
    readings = iter((41, 55))
    thermometer = Thermometer(lambda: next(readings))
    assert thermometer.says(0.0) is None
    thermometer.feel(100.0)
    thermometer.feel(100.0 + FEEL_EVERY_S / 2)
    assert thermometer.says(101.0) == 41
    thermometer.feel(100.0 + FEEL_EVERY_S)
    assert thermometer.says(111.0) == 55
    assert thermometer.says(111.0 + FELT_FOR_S) is None


def test_the_clock_says_whom_it_believes() -> None:
    assert clock_trust(Till()) == "unset"
    assert clock_trust(Till(anchor=Anchor(1, 2.0, is_signed=False))) == "network"
    assert clock_trust(Till(anchor=Anchor(1, 2.0))) == "cloud"


def test_a_till_that_sold_nothing_owes_nothing() -> None:
    said = wellbeing(Till(), Standing(), None, 12.9)
    assert (said.queue_in_cents, said.last_sale_ms, said.uptime_s) == (0, None, 12)


def test_what_was_sold_offline_counts_until_its_answer_is_signed() -> None:
    standing = Standing()
    for number, cents in ((1, 450), (3, 1200)):
        opened, accepted = sold_offline(f"key-00000000000{number}", cents)
        standing = standing.after(number, opened).after(number + 1, accepted)
    said = wellbeing(Till(), standing, None, 0.0)
    assert (said.queue_in_cents, said.last_sale_ms) == (1650, EPOCH_MS + 5000)
    answered = MessageClosed("key-000000000001", "offline_acceptance", "token")
    assert wellbeing(Till(), standing.after(5, answered), None, 0.0).queue_in_cents == 1200


def sold_offline(key: str, cents: int) -> tuple[SaleOpened, SaleAcceptedOffline]:
    amount = Money(cents, "EUR")
    opened = SaleOpened(
        key=key,
        correlation_id="correlation-000001",
        session_id="session-0123456789",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        policy_version=1,
        amount=amount,
        lines=(),
        at_ms=EPOCH_MS,
    )
    accepted = SaleAcceptedOffline(
        key=key,
        wallet_qr="0" * 40,
        payer_id="payerpayer1",
        token_id="token-000001",
        token_expires_s=EPOCH_MS // 1000 + 90,
        amount=amount,
        scanned_at_ms=EPOCH_MS,
        accepted_at_ms=EPOCH_MS + 5000,
    )
    return opened, accepted
