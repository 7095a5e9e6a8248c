import base64
import json
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device.hardware.build import Hardware, HardwareRefusedError, open_hardware
from device.hardware.escpos_bytes import compose
from device.hardware.settings import HardwareSettings, KeypadPins, PrinterSettings
from device.till.receipt import Slip, SlipKind, Text, copy_of
from device.till.signals import Light, PrinterState, Sound
from venue.phone import phone

Until = Callable[[Callable[[], bool]], None]


@dataclass
class Appliance:
    """The parts of an appliance behind the simulated edge, and what they reported."""

    hardware: Hardware
    path: Path
    keys: list[tuple[str, bool]]
    qrs: list[str]
    papers: list[tuple[PrinterState, int]] = field(default_factory=list)


class Client:
    """A client of the socket that knows no more than the format's description."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(20)
        self.lines = self.socket.makefile("rb")

    def send(self, order: object) -> None:
        self.socket.sendall(json.dumps(order).encode() + b"\n")

    def next(self, key: str) -> dict[str, Any]:
        """The next message that has `key`."""
        while line := self.lines.readline():
            message: dict[str, Any] = json.loads(line)
            if key in message:
                return message
        raise AssertionError("the appliance hung up")

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@dataclass
class Clients:
    path: Path
    open: list[Client] = field(default_factory=list)

    def __call__(self) -> Client:
        self.open.append(Client(self.path))
        return self.open[-1]


def ignore_key(key: str, held: bool) -> None: ...


def ignore_qr(text: str, captured_at: float, decoded_at: float) -> None: ...


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    path, keys, qrs = tmp_path / "edge", list[tuple[str, bool]](), list[str]()

    def on_qr(text: str, captured_at: float, decoded_at: float) -> None:
        qrs.append(text)

    papers = list[tuple[PrinterState, int]]()
    hardware = open_hardware(
        HardwareSettings(kind="simulated", socket=str(path)),
        on_key=lambda key, held: keys.append((key, held)),
        on_qr=on_qr,
        on_printer=lambda state, waiting: papers.append((state, waiting)),
        state=tmp_path,
        image_marker=tmp_path / "no such file",
    )
    yield Appliance(hardware, path, keys, qrs, papers)
    hardware.close()


@pytest.fixture
def connect(appliance: Appliance) -> Iterator[Clients]:
    clients = Clients(appliance.path)
    yield clients
    for client in clients.open:
        client.close()


def scene(grey: "np.typing.NDArray[np.uint8]") -> dict[str, object]:
    height, width = grey.shape
    pixels = base64.b64encode(grey.tobytes()).decode()
    return {"scene": {"width": width, "height": height, "grey": pixels}}


def test_a_tap_goes_through_the_keypads_driver(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    for key in "500#":
        client.send({"tap": key})
    assert [client.next("tapped")["tapped"] for _ in "500#"] == list("500#")
    assert appliance.keys == [(key, False) for key in "500#"]


def test_a_tap_may_be_a_long_press(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    client.send({"tap": "*", "hold_ms": 1000})
    client.next("tapped")
    assert appliance.keys == [("*", True)]


def test_press_and_release_are_two_orders(
    appliance: Appliance, connect: Clients, until: Until
) -> None:
    client = connect()
    client.send({"press": "7"})
    until(lambda: appliance.keys == [("7", False)])
    client.send({"release": "7"})
    for key in "87":
        client.send({"tap": key})
        client.next("tapped")
    assert appliance.keys == [("7", False), ("8", False), ("7", False)]


def test_every_client_sees_the_lamp_from_the_moment_it_connects(
    appliance: Appliance, connect: Clients
) -> None:
    first = connect()
    assert first.next("pins")["pins"] == {"red": 0, "green": 0, "blue": 0}
    appliance.hardware.lamp.show(Light.APPROVED)
    green = {"red": 0, "green": 1, "blue": 0}
    seen = first.next("pins")
    assert seen["pins"] == green
    assert connect().next("pins") == seen


def test_sounds_are_heard(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    client.next("pins")
    appliance.hardware.buzzer.play(Sound.APPROVED)
    assert client.next("tone")["tone"] == pytest.approx(2640)
    assert client.next("tone")["tone"] is None


def test_a_scene_stays_before_the_camera_and_is_read_by_the_real_scanner(
    appliance: Appliance, connect: Clients, until: Until
) -> None:
    client = connect()
    appliance.hardware.scanner.look(True)
    client.send(scene(phone("123456", np.random.default_rng(1))))
    captured_at = client.next("captured_at")["captured_at"]
    until(lambda: bool(appliance.qrs) and appliance.hardware.scanner.health().frames > 8)
    assert appliance.qrs == ["123456"]
    last_frame_at = appliance.hardware.scanner.health().last_frame_at
    assert last_frame_at is not None
    assert last_frame_at > captured_at
    client.send({"scene": None})
    misses = appliance.hardware.scanner.health().misses
    until(lambda: appliance.hardware.scanner.health().misses > misses + 2)
    assert appliance.hardware.scanner.health().misses > misses + 2


def test_the_bytes_of_a_slip_arrive_in_one_piece(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    client.next("pins")
    slip = Slip((Text("hello"),))
    appliance.hardware.printer.print(slip)
    printed = base64.b64decode(client.next("printed")["printed"])
    assert printed == compose(slip, PrinterSettings())


def test_what_did_not_print_without_paper_prints_when_there_is_some(
    appliance: Appliance, connect: Clients, until: Until
) -> None:
    client = connect()
    client.send({"paper": "out"})
    client.send({"tap": "1"})
    client.next("tapped")
    slip = Slip((Text("late"),), SlipKind.RECEIPT)
    appliance.hardware.printer.print(slip)
    until(lambda: appliance.papers[-1:] == [(PrinterState.NO_PAPER, 1)])
    client.send({"paper": "ok"})
    late = compose(copy_of(slip), PrinterSettings())
    assert base64.b64decode(client.next("printed")["printed"]) == late
    until(lambda: appliance.papers[-1] == (PrinterState.OK, 0))
    assert appliance.papers[-2:] == [(PrinterState.NO_PAPER, 1), (PrinterState.OK, 0)]


@pytest.mark.parametrize(
    "order",
    [
        {"tap": "X"},
        {"tap": "12"},
        {"press": ""},
        {"explode": True},
        {"tap": "1", "hold_ms": -1},
        {"paper": "wet"},
        {"scene": {"width": 16, "height": 16, "grey": "AAAA"}},
        {"scene": {"width": 0, "height": 0, "grey": ""}},
        ["tap", "1"],
        None,
    ],
)
def test_a_wrong_order_is_refused_and_the_next_one_obeyed(
    appliance: Appliance, connect: Clients, order: object
) -> None:
    client = connect()
    client.send(order)
    assert client.next("refused")["refused"]
    client.send({"tap": "1"})
    client.next("tapped")
    assert appliance.keys == [("1", False)]


def test_bytes_that_are_no_json_are_refused(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    client.socket.sendall(b"\xff\xfe\n")
    assert client.next("refused")["refused"]


def test_a_client_that_goes_away_disturbs_nobody(appliance: Appliance, connect: Clients) -> None:
    staying, leaving = connect(), connect()
    staying.next("pins")
    leaving.close()
    appliance.hardware.lamp.show(Light.DECLINED)
    assert staying.next("pins")["pins"]["red"] == 1


def test_only_its_own_user_reaches_the_keys(appliance: Appliance) -> None:
    assert stat.S_IMODE(appliance.path.stat().st_mode) == 0o600


def test_closing_hangs_up_and_leaves_no_socket(appliance: Appliance, connect: Clients) -> None:
    client = connect()
    appliance.hardware.lamp.show(Light.READY)
    appliance.hardware.close()
    levels = [json.loads(line) for line in client.lines]
    assert levels[-1]["pins"] == {"red": 0, "green": 0, "blue": 0}
    assert not appliance.path.exists()


def test_a_socket_left_by_a_killed_appliance_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "edge"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    hardware = open_hardware(
        HardwareSettings(kind="simulated", socket=str(path)),
        on_key=ignore_key,
        on_qr=ignore_qr,
        image_marker=tmp_path / "no such file",
    )
    client = Client(path)
    assert client.next("pins")
    client.close()
    hardware.close()


def test_a_simulation_is_refused_in_a_shipped_image(tmp_path: Path) -> None:
    marker = tmp_path / "image"
    marker.touch()
    with pytest.raises(HardwareRefusedError):
        open_hardware(
            HardwareSettings(kind="simulated", socket=str(tmp_path / "edge")),
            on_key=ignore_key,
            on_qr=ignore_qr,
            image_marker=marker,
        )
    assert not (tmp_path / "edge").exists()


def test_a_part_that_cannot_be_opened_closes_those_that_were(tmp_path: Path) -> None:
    settings = HardwareSettings(
        kind="simulated",
        socket=str(tmp_path / "edge"),
        keypad=KeypadPins(rows=(99, 6, 13, 19)),
    )
    with pytest.raises(ValueError, match="99"):
        open_hardware(
            settings,
            on_key=ignore_key,
            on_qr=ignore_qr,
            image_marker=tmp_path / "no such file",
        )
    assert not (tmp_path / "edge").exists()


def test_one_pin_for_two_parts_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="GPIO 18 is wired to two parts"):
        HardwareSettings(keypad=KeypadPins(rows=(18, 6, 13, 19)))


def test_a_simulation_without_a_socket_is_refused() -> None:
    with pytest.raises(ValueError, match="socket"):
        HardwareSettings(kind="simulated")
