import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.worker.mqtt5 import (
    PACKET_BYTES_MAX,
    Acknowledged,
    Closed,
    Connected,
    Event,
    Message,
    ProtocolError,
    Session,
    Subscribed,
    Unsubscribed,
    publish_packet,
)

CONNACK = bytes.fromhex("20 03 00 00 00")
SUBACK = bytes.fromhex("90 04 00 01 00 01")
UNSUBACK = bytes.fromhex("b0 04 00 02 00 00")
PINGRESP = bytes.fromhex("d0 00")
LONG = publish_packet("railtix/v1/devices/till-1/requests", b"q" * 1300, 7, expiry_s=4)
SHORT = publish_packet("a", b"", 8)

# One of each form, and of each place that an expiry may have among them.
PROPERTIES = [
    bytes.fromhex("01 01"),  # payload format: a byte
    bytes.fromhex("23 00 05"),  # topic alias: two bytes
    bytes.fromhex("0b 80 01"),  # subscription identifier: a variable byte integer
    bytes.fromhex("08 00 03") + b"abc",  # response topic: text
    bytes.fromhex("09 00 02 ff fe"),  # correlation data: binary
    bytes.fromhex("26 00 01 61 00 02 62 62"),  # user property: a pair
]
EXPIRY = bytes.fromhex("02 00 00 00 09")


def greeted() -> Session:
    session = Session()
    session.connect(keep_alive_s=15, receive_max=256)
    assert session.to_send().startswith(b"\x10")
    return session


def message_with(properties: bytes) -> bytes:
    body = b"\x00\x01a\x00\x01" + bytes([len(properties)]) + properties + b"payload"
    return b"\x32" + bytes([len(body)]) + body


def published_ids(packets: bytes) -> list[int]:
    """Of publishes whose topic is `a` and whose payload is one byte."""
    assert len(packets) % 9 == 0
    return [int.from_bytes(packets[at + 5 : at + 7], "big") for at in range(0, len(packets), 9)]


@given(st.lists(st.integers(1, 400)))
def test_a_stream_says_the_same_wherever_it_is_cut(lengths: list[int]) -> None:
    stream = CONNACK + SUBACK + LONG + PINGRESP + SHORT + LONG + UNSUBACK
    session, events, at = greeted(), list[Event](), 0
    for length in [*lengths, len(stream)]:
        events += session.receive(stream[at : at + length])
        at += length
    message = Message("railtix/v1/devices/till-1/requests", b"q" * 1300, b"\x00\x07", 4)
    empty = Message("a", b"", b"\x00\x08", None)
    assert events == [Connected(0, None), Subscribed(1), message, empty, message, Unsubscribed()]


@given(st.permutations([*PROPERTIES, EXPIRY]))
def test_an_expiry_is_found_among_all_kinds_of_properties(properties: list[bytes]) -> None:
    [message] = greeted().receive(message_with(b"".join(properties)))
    assert message == Message("a", b"payload", b"\x00\x01", 9)


@given(st.permutations(PROPERTIES))
def test_without_an_expiry_a_message_counts_for_ever(properties: list[bytes]) -> None:
    [message] = greeted().receive(message_with(b"".join(properties)))
    assert message == Message("a", b"payload", b"\x00\x01", None)


@given(st.binary(max_size=300))
def test_no_bytes_from_a_broker_do_more_than_end_the_connection(noise: bytes) -> None:
    session = greeted()
    try:
        session.receive(noise)
    except ProtocolError:
        return
    session.publish("a", b"x", retain=False)
    assert session.to_send()


@pytest.mark.parametrize(
    "packet",
    [
        bytes.fromhex("40 02 00 09"),  # an acknowledgement of what was never sent
        bytes.fromhex("32 80 80 80 80 01"),  # a length of five bytes
        bytes.fromhex("32") + bytes.fromhex("ff ff ff 7f"),  # 256 MiB to come
        bytes.fromhex("34 06 00 01 61 00 01 00"),  # QoS 2, which we did not ask for
        message_with(bytes.fromhex("7f 00")),  # an unknown property
        message_with(bytes.fromhex("02 00 00")),  # a property cut short
        bytes.fromhex("32 06 00 01 61 00 01 7f"),  # properties longer than the packet
        bytes.fromhex("32 06 00 01 ff 00 01 00"),  # a topic that is not UTF-8
        bytes.fromhex("20 00"),  # a CONNACK of nothing
        bytes.fromhex("f0 00"),  # a kind that no broker sends
    ],
    ids=bytes.hex,
)
def test_what_a_broker_must_not_say_ends_the_connection(packet: bytes) -> None:
    with pytest.raises(ProtocolError):
        greeted().receive(packet + bytes(8))


def test_a_packet_beyond_the_bound_is_refused_before_it_has_come() -> None:
    head = publish_packet("a", b"x" * PACKET_BYTES_MAX, 1)[:10]
    with pytest.raises(ProtocolError, match="bytes"):
        greeted().receive(head)


def test_no_more_is_in_flight_than_the_broker_takes_and_the_rest_follows_in_order() -> None:
    session = greeted()
    [connected] = session.receive(bytes.fromhex("20 06 00 00 03 21 00 02"))  # receive maximum 2
    assert connected == Connected(0, None)
    for number in range(4):
        session.publish("a", b"x", retain=False, token=number)
    assert published_ids(session.to_send()) == [1, 2]
    assert session.to_send() == b""

    assert session.receive(bytes.fromhex("40 02 00 01")) == [Acknowledged(0, 0)]
    assert published_ids(session.to_send()) == [3]
    events = session.receive(bytes.fromhex("40 02 00 02 40 03 00 03 87"))
    assert events == [Acknowledged(1, 0), Acknowledged(2, 0x87)]
    assert published_ids(session.to_send()) == [4]
    assert not session.is_settled
    assert session.receive(bytes.fromhex("40 02 00 04")) == [Acknowledged(3, 0)]
    assert session.is_settled


def test_a_packet_id_in_flight_is_not_given_twice() -> None:
    session = greeted()
    session.publish("a", b"x", retain=False)
    assert published_ids(session.to_send()) == [1]
    for expected in [*range(2, 0x10000), 2]:
        session.publish("a", b"x", retain=False)
        [packet_id] = published_ids(session.to_send())
        assert packet_id == expected
        session.receive(b"\x40\x02" + packet_id.to_bytes(2, "big"))


def test_the_broker_may_ask_for_another_keep_alive_and_say_why_it_leaves() -> None:
    session = greeted()
    assert session.receive(bytes.fromhex("20 06 00 00 03 13 00 0a")) == [Connected(0, 10)]
    assert session.receive(bytes.fromhex("e0 02 8e 00 e0 00")) == [Closed(0x8E), Closed(0)]


def test_a_message_is_acknowledged_by_its_own_id() -> None:
    session = greeted()
    [message] = session.receive(SHORT)
    assert isinstance(message, Message)
    session.acknowledge(message)
    assert session.to_send() == bytes.fromhex("40 02 00 08")


def test_a_message_at_qos_0_is_read_and_needs_no_acknowledgement() -> None:
    session = greeted()
    [message] = session.receive(bytes.fromhex("30 05 00 01 61 00 78"))
    assert isinstance(message, Message)
    assert message == Message("a", b"x", b"", None)
    session.acknowledge(message)
    assert session.to_send() == b""
