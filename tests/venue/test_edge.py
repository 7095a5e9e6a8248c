from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from device.hardware.build import Hardware, open_hardware
from device.hardware.settings import HardwareSettings
from device.till.receipt import Slip, Text
from device.till.signals import Light as Shown
from device.till.signals import Sound
from venue.edge import Edge, EdgeError
from venue.lights import Light
from venue.paper import plain
from venue.phone import phone


@dataclass
class Appliance:
    hardware: Hardware
    keys: list[tuple[str, bool]]
    qrs: list[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge"


@pytest.fixture
def appliance(path: Path) -> Iterator[Appliance]:
    keys, qrs = list[tuple[str, bool]](), list[str]()

    def on_qr(text: str, captured_at: float, decoded_at: float) -> None:
        qrs.append(text)

    hardware = open_hardware(
        HardwareSettings(kind="simulated", socket=str(path)),
        on_key=lambda key, held: keys.append((key, held)),
        on_qr=on_qr,
        image_marker=path / "no such file",
    )
    yield Appliance(hardware, keys, qrs)
    hardware.close()


@pytest.fixture
def edge(appliance: Appliance, path: Path) -> Iterator[Edge]:
    with Edge(path) as made:
        # What happens from here on it is told, and once.
        made.wait_for_light(Light.DARK)
        yield made


def test_what_is_typed_is_what_the_keypad_reports(edge: Edge, appliance: Appliance) -> None:
    edge.type("500#")
    edge.hold("D")
    assert appliance.keys == [*((key, False) for key in "500#"), ("D", True)]


def test_a_phone_that_is_shown_is_seen_until_it_is_taken_away(
    edge: Edge, appliance: Appliance
) -> None:
    appliance.hardware.scanner.look(True)
    edge.show(phone("424242", np.random.default_rng(1)))
    seen_at = edge.wait_for_capture()
    edge.wait_for(lambda: appliance.qrs or None, "the scanner", 10)
    edge.clear()
    edge.show(phone("777777", np.random.default_rng(1)))
    assert edge.wait_for_capture(since=seen_at) > seen_at
    edge.wait_for(lambda: appliance.qrs[1:] or None, "the scanner", 10)
    assert appliance.qrs == ["424242", "777777"]


def test_an_approval_is_seen_at_its_first_edge(edge: Edge, appliance: Appliance) -> None:
    for light in (Shown.READY, Shown.SHOW_QR, Shown.ASKING, Shown.APPROVED):
        appliance.hardware.lamp.show(light)
    green_at = edge.wait_for_approval(since=0)
    assert edge.approvals() == (green_at,)
    assert edge.light() is Light.APPROVED


def test_an_offline_approval_is_told_by_its_amber_blinks(edge: Edge, appliance: Appliance) -> None:
    appliance.hardware.lamp.show(Shown.APPROVED_OFFLINE)
    seen = edge.wait_for_light(Light.APPROVED_OFFLINE)
    assert edge.approvals() == (seen.began_at,)


def test_a_refusal_is_no_approval(edge: Edge, appliance: Appliance) -> None:
    appliance.hardware.lamp.show(Shown.FAULT)
    words = frozenset({Light.FAULT, Light.DECLINED, Light.REFRESH_QR})
    assert edge.wait_for_any_light(words, since=0.1).light is Light.FAULT
    assert edge.approvals() == ()


def test_sounds_and_slips_are_recorded(edge: Edge, appliance: Appliance) -> None:
    appliance.hardware.buzzer.play(Sound.FAULT)
    edge.wait_for_tone(220)
    appliance.hardware.printer.print(Slip((Text("Thank you"),)))
    assert "Thank you" in plain(edge.wait_for_paper().printed)


def test_a_slip_waits_for_paper(edge: Edge, appliance: Appliance) -> None:
    edge.take_paper_out()
    edge.tap("1")
    appliance.hardware.printer.print(Slip((Text("Thank you"),)))
    with pytest.raises(EdgeError, match="a slip of paper: not within"):
        edge.wait_for_paper(timeout_s=0.3)
    edge.put_paper_in()
    assert edge.wait_for_paper().at > 0


def test_waiting_names_what_did_not_come_and_what_the_lamp_said(
    edge: Edge, appliance: Appliance
) -> None:
    appliance.hardware.lamp.show(Shown.READY)
    edge.wait_for_light(Light.READY)
    with pytest.raises(EdgeError, match=r"'approved'.*not within 0\.2 s.*ready"):
        edge.wait_for_light(Light.APPROVED, timeout_s=0.2)


def test_an_order_the_edge_refuses_is_not_waited_for(edge: Edge) -> None:
    with pytest.raises(EdgeError, match="refused"):
        edge.tap("X")


def test_an_appliance_that_is_gone_is_not_waited_for(edge: Edge, appliance: Appliance) -> None:
    appliance.hardware.close()
    with pytest.raises(EdgeError, match="gone"):
        edge.wait_for_paper(timeout_s=30)
    assert edge.is_gone


def test_an_appliance_that_never_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no appliance listens"):
        Edge(tmp_path / "nobody", connect_timeout_s=0.1)
