import socket
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.hardware import reports
from device.hardware.reports import (
    PACKET_MAX,
    TEXT_MAX,
    Faulted,
    Look,
    Looked,
    NonsenseError,
    Ready,
    receive_look,
    receive_report,
    send,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def line() -> Iterator[Pair]:
    ours, theirs = reports.pair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "report",
    [
        Ready(),
        Looked(3, 1.5, 1.75, None),
        Looked(3, 1.5, 1.75, "7" * TEXT_MAX),
        Looked(3, 1.5, 1.75, "\U0001f37a" * TEXT_MAX),
        Faulted(has_frame=True, what="ValueError"),
    ],
)
def test_a_report_arrives_whole(line: Pair, report: reports.Report) -> None:
    ours, theirs = line
    send(theirs, report)
    assert receive_report(ours) == report


def test_an_order_arrives_whole_and_its_end_is_an_end(line: Pair) -> None:
    ours, theirs = line
    send(ours, Look(7, is_looking=True))
    ours.close()
    assert receive_look(theirs) == Look(7, is_looking=True)
    assert receive_look(theirs) is None


def test_a_process_that_is_gone_says_nothing_more(line: Pair) -> None:
    ours, theirs = line
    theirs.close()
    assert receive_report(ours) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00",
        b"\xc1" * 40,
        b"x" * (PACKET_MAX + 1),
        b"\x91" * 10_000,
        msgspec.msgpack.encode(["ready", 1]),
        msgspec.msgpack.encode(["looked", 1, 2.0, 3.0]),
        msgspec.msgpack.encode(["looked", "1", 2.0, 3.0, None]),
        msgspec.msgpack.encode(["looked", 1, 2.0, 3.0, "7" * (TEXT_MAX + 1)]),
        msgspec.msgpack.encode(["looked", 1, 2.0, 3.0, b"\xff"]),
        b"\x95\xa6looked\x01\xcb" + b"\x00" * 8 + b"\xcb" + b"\x00" * 8 + b"\xa1\xff",
        msgspec.msgpack.encode(["faulted", True, "x" * 301]),
        msgspec.msgpack.encode(["obey", 1]),
        msgspec.msgpack.encode({"type": "ready"}),
    ],
)
def test_what_is_no_report_is_nonsense(line: Pair, packet: bytes) -> None:
    ours, theirs = line
    theirs.send(packet)
    with pytest.raises(NonsenseError):
        receive_report(ours)


@given(packet=st.binary(min_size=1, max_size=200))
def test_any_bytes_at_all_are_a_report_or_nonsense(packet: bytes) -> None:
    ours, theirs = reports.pair()
    with ours, theirs:
        theirs.send(packet)
        try:
            report = receive_report(ours)
        except NonsenseError:
            return
        assert isinstance(report, Ready | Looked | Faulted)


def test_a_line_that_nobody_reads_does_not_hold_up_the_sender(line: Pair) -> None:
    ours, _theirs = line
    ours.setblocking(False)

    def order_on_and_on() -> None:
        for number in range(1_000_000):
            send(ours, Look(number, is_looking=True))

    with pytest.raises(BlockingIOError):
        order_on_and_on()
