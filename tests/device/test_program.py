import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.messages import Cancel, Deduct, Reason, SignIn
from protocol.policy import Policy
from tests.device.fake_cloud import FakeCloud, but
from tests.device.stage import PIN, a_badge, a_wallet_qr, declined
from venue.edge import Edge
from venue.lights import Light
from venue.paper import plain
from venue.phone import badge, phone
from venue.programs import Program
from venue.servers import Broker

REFRESH_HZ = 880


def run_pos(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path, broker: Broker, state: Path) -> Path:
    path = tmp_path / "pos.toml"
    path.write_text(
        f"""
        [broker]
        host = "{broker.host}"
        port = {broker.port}
        [state]
        directory = "{state}"
        [hardware]
        kind = "simulated"
        socket = "{tmp_path / "edge"}"
        """
    )
    return path


@pytest.fixture
def program(config: Path, tmp_path: Path) -> Iterator[Program]:
    argv = [sys.executable, "-m", "device", "run", "--config", config]
    with Program("railtix-pos", argv, tmp_path / "pos.log") as program:
        yield program


@pytest.fixture
def edge(program: Program, tmp_path: Path) -> Iterator[Edge]:
    with Edge(tmp_path / "edge") as edge:
        yield edge


def log_of(program: Program, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in program.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def sign_in(edge: Edge) -> None:
    edge.wait_for_light(Light.NOBODY_SIGNED_IN, timeout_s=20)
    edge.show(badge(a_badge(), np.random.default_rng(1), "easy"))
    edge.wait_for_light(Light.KEY_THE_AMOUNT)
    edge.clear()
    edge.type(f"{PIN}#")
    edge.wait_for_light(Light.READY)


def now() -> float:
    return time.monotonic()  # noqa: TID251 -- the lamp's time


def sell(edge: Edge, keys: str, qr: int) -> None:
    edge.type(f"{keys}#")
    edge.wait_for_light(Light.SHOW_QR, since=now() - 0.1)
    edge.show(phone(a_wallet_qr(qr), np.random.default_rng(qr), "easy"))


def test_a_sale_from_badge_to_receipt_and_out_with_a_dark_lamp(
    fake_cloud: FakeCloud, edge: Edge, program: Program, config: Path, real_policy: Policy
) -> None:
    fake_cloud.publish_policy(real_policy)
    sign_in(edge)
    assert isinstance(fake_cloud.wait_for(SignIn).request, SignIn)

    began_at = now()
    sell(edge, "500", 1)
    edge.wait_for_approval(began_at)
    receipt = plain(edge.wait_for_paper(began_at).printed)
    assert "Summer Fair" in receipt
    assert "5.00 EUR" in receipt
    assert "15.00 EUR" in receipt
    assert "KX7-42P" in receipt
    deduct = fake_cloud.wait_for(Deduct)
    assert deduct.expiry_s is not None
    assert deduct.expiry_s <= 4

    (timed,) = log_of(program, "sale_timed")
    assert timed["key"] == deduct.request.key
    assert timed["outcome"] == "approved"
    stages = timed["ms"]
    assert stages["cloud"] == 1.234
    parts = sum(value for name, value in stages.items() if name != "total")
    assert parts == pytest.approx(stages["total"], abs=0.01)
    assert all(value >= 0 for value in stages.values())

    asked = run_pos("status", "--config", config)
    assert asked.returncode == 0
    assert "till-1" in asked.stdout
    assert "North Bar, Summer Fair" in asked.stdout
    assert "signed in    AL" in asked.stdout
    assert "0 undecided, 0 approved and perhaps not shown, 0 cancels" in asked.stdout

    second = run_pos("run", "--config", config)
    assert second.returncode == 2
    assert "in use by another railtix-pos" in second.stderr

    edge.clear()
    assert program.stop() == 0
    assert (edge.levels[-1].red, edge.levels[-1].green, edge.levels[-1].blue) == (0, 0, 0)
    log = program.log.read_text()
    assert PIN not in log
    assert a_badge() not in log
    assert log_of(program, "stopping")[0]["signal"] == "SIGTERM"


def test_a_kill_while_asking_cancels_after_the_restart_and_the_session_goes_on(
    fake_cloud: FakeCloud, edge: Edge, program: Program, real_policy: Policy
) -> None:
    fake_cloud.publish_policy(real_policy)
    sign_in(edge)
    fake_cloud.decide = but(Deduct, None)
    sell(edge, "500", 1)
    deduct = fake_cloud.wait_for(Deduct)
    program.kill()
    edge.close()
    program.start()
    cancel = fake_cloud.wait_for(Cancel, timeout_s=20)
    assert cancel.request.key == deduct.request.key
    assert cancel.expiry_s is None
    assert isinstance(cancel.request, Cancel)
    assert isinstance(deduct.request, Deduct)
    assert cancel.request.entry == deduct.request.entry
    with Edge(Path(program.log).with_name("edge")) as again:
        again.wait_for_light(Light.READY, timeout_s=20)
        assert again.approvals() == ()


def test_a_used_code_blinks_red_and_a_fresh_one_pays(
    fake_cloud: FakeCloud, edge: Edge, real_policy: Policy
) -> None:
    fake_cloud.publish_policy(real_policy)
    sign_in(edge)
    fake_cloud.decide = but(Deduct, declined(Reason.TOKEN_ALREADY_USED))
    began_at = now()
    sell(edge, "A1", 1)
    edge.wait_for_light(Light.REFRESH_QR, since=began_at)
    first = fake_cloud.wait_for(Deduct).request
    fake_cloud.decide = but(SignIn, None)
    edge.show(phone(a_wallet_qr(2), np.random.default_rng(2), "easy"))
    edge.wait_for_approval(began_at)
    second = fake_cloud.wait_for(Deduct).request
    assert isinstance(first, Deduct)
    assert isinstance(second, Deduct)
    assert second.key != first.key
    assert second.correlation_id == first.correlation_id


def test_help_reads_well_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from device.__main__ import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'paho', 'numpy', 'gpiozero', 'sqlite3', 'cryptography', 'escpos'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "railtix/pos.toml" in ended.stdout
    for command in ("run", "status"):
        assert run_pos(command, "--help").returncode == 0


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pos.toml"
    path.write_text('[broker]\nhost = "localhost"\nport = "many"\n')
    ended = run_pos("run", "--config", path)
    assert ended.returncode == 2
    assert "broker.port" in ended.stderr


def test_an_appliance_without_an_identity_asks_for_a_code_and_takes_no_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pos.toml"
    path.write_text(
        f"""
        [state]
        directory = "{tmp_path / "state"}"
        [enrolment]
        serial = "serial-1"
        [hardware]
        kind = "simulated"
        socket = "{tmp_path / "edge"}"
        """
    )
    argv = [sys.executable, "-m", "device", "run", "--config", path]
    with Program("railtix-pos", argv, tmp_path / "pos.log") as program:
        with Edge(tmp_path / "edge") as edge:
            edge.wait_for_light(Light.ENROL, timeout_s=60)
            first = plain(edge.wait_for_paper(timeout_s=60).printed)
            assert "Show me a code" in first
            assert "serial-1" in first
            began_at = now()
            edge.show(badge(a_badge(), np.random.default_rng(1), "easy"))
            edge.wait_for_tone(REFRESH_HZ, began_at, timeout_s=60)
            edge.tap("5")
            edge.wait_for_paper(began_at, timeout_s=60)
            assert edge.light() is Light.ENROL
            asked = run_pos("status", "--config", path)
        assert asked.returncode == 1
        assert "not enrolled" in asked.stdout
        assert "it waits to be enrolled: show me a code" in asked.stdout
        assert "running" in asked.stdout
        assert "not known yet" in asked.stdout
        assert program.stop(within_s=60) == 0
    assert not (tmp_path / "state" / "identity").exists()


def test_ctrl_c_stops_it_cleanly_even_before_it_ever_connected(
    config: Path, tmp_path: Path, broker: Broker
) -> None:
    broker.stop()
    argv = [sys.executable, "-m", "device", "run", "--config", config]
    program = Program("railtix-pos", argv, tmp_path / "pos.log", stop_signal=signal.SIGINT)
    with program, Edge(tmp_path / "edge") as edge:
        edge.wait_for_light(Light.OFFLINE_NOT_ALLOWED, timeout_s=20)
        assert program.stop(within_s=60) == 0
