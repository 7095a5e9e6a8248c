"""A firmware that hangs is started anew. A system that hangs: test_4_updates.py."""

import pytest

from image.emulation.counter import Counter
from image.emulation.lamp import Hue
from image.emulation.stage import Stage, now

WITHIN_S = 400.0

pytestmark = pytest.mark.timeout(1500)


def restarts(stage: Stage) -> int:
    return int(stage.say("systemctl show railtix-pos -p NRestarts --value"))


def is_up(stage: Stage) -> bool:
    return stage.run("systemctl is-active --quiet railtix-pos").code == 0


def test_a_firmware_that_hangs_is_started_anew(enrolled: Counter, stage: Stage) -> None:
    before = restarts(stage)
    stage.say("systemctl kill --kill-whom=main --signal=STOP railtix-pos")

    stage.wait_for(
        lambda: (restarts(stage) > before and is_up(stage)) or None, "another start", WITHIN_S
    )

    assert "watchdog" in stage.say("journalctl -b -u railtix-pos --no-pager | tail -40").lower()
    enrolled.wait_for_hue(Hue.WHITE, now())
