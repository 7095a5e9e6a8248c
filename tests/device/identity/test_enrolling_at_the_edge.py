"""From a claim to an identity on the disk: what the cloud may say, and a power cut at each line."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.credentials import load
from device.enrolling.happenings import Enrolled, NotEnrolled, Trouble
from device.identity import enrolment, exchange
from device.identity.enrolment import Enroller, serial_of
from device.identity.files import WELCOME_FILE, read_cloud, recover
from tests.device.identity.office import Asked, Authority, Office, Said


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Office(tmp_path) as office:
        yield office


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    return state


def enroller(state: Path, *, clock_is_set: bool = True) -> Enroller:
    return Enroller(state, serial="serial-1", clock_is_set=lambda: clock_is_set)


def told(office: Office, path: str, said: Said) -> None:
    """The usual answers, but for this path."""
    office.answers = lambda asked: said if asked.path.endswith(path) else office.usual(asked)


def spki(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def trouble_of(ended: Enrolled | NotEnrolled) -> Trouble | None:
    return ended.trouble if isinstance(ended, NotEnrolled) else None


def paths(office: Office) -> list[str]:
    return [each.path.rpartition("/")[2] for each in office.asked]


def test_a_claim_becomes_an_identity_that_loads(office: Office, state: Path) -> None:
    assert enroller(state).enrol(office.claim()) == Enrolled("bar-1")
    credentials = load(state)
    assert credentials.device_id == "bar-1"
    credentials.tls_context()
    cloud = read_cloud(state / "identity")
    assert cloud.url == f"https://127.0.0.1:{office.port}"
    assert cloud.broker is not None
    assert (state / "identity" / WELCOME_FILE).exists()
    assert sorted(each.name for each in state.iterdir()) == ["identity"]
    assert (state / "identity" / "key.pem").stat().st_mode & 0o077 == 0


def test_the_secret_is_sent_to_nobody_but_whom_the_claim_names(office: Office, state: Path) -> None:
    claim = office.claim(fingerprint=bytes(32))
    assert trouble_of(enroller(state).enrol(claim)) is Trouble.WRONG_FINGERPRINT
    other = Authority()
    told(office, "cacerts", Said(body=office.certs(other.root)))
    claim = office.claim(fingerprint=other.fingerprint)
    # They show the right root, and cannot prove to be of it.
    assert trouble_of(enroller(state).enrol(claim)) is Trouble.NOT_BELIEVED
    assert [each.authorization for each in office.asked] == ["", ""]


@pytest.mark.parametrize(
    ("server", "trouble"),
    [
        ({"host": "127.0.0.2"}, Trouble.NOT_BELIEVED),
        ({"begins": -9, "ends": -1}, Trouble.CLOCK),
        ({"begins": 1}, Trouble.CLOCK),
    ],
)
def test_a_server_that_is_not_what_it_says_gets_no_secret(
    tmp_path: Path, state: Path, server: dict[str, Any], trouble: Trouble
) -> None:
    with Office(tmp_path, **server) as office:
        assert trouble_of(enroller(state).enrol(office.claim())) is trouble
        assert paths(office) == ["cacerts"]


def test_a_clock_that_nobody_has_set_keeps_no_appliance_from_enrolling(
    tmp_path: Path, state: Path
) -> None:
    """To a Pi that wakes up in the past every certificate is not valid yet."""
    with Office(tmp_path, begins=1) as office:
        ended = enroller(state, clock_is_set=False).enrol(office.claim())
    assert ended == Enrolled("bar-1")


PROBLEMS = [
    (401, "claim_wrong", Trouble.CLAIM_WRONG),
    (401, "", Trouble.CLAIM_WRONG),
    (403, "claim_expired", Trouble.CLAIM_EXPIRED),
    (403, "claim_used", Trouble.CLAIM_USED),
    (403, "claim_locked", Trouble.CLAIM_LOCKED),
    (403, "claim_withdrawn", Trouble.CLAIM_WITHDRAWN),
    (403, "serial_wrong", Trouble.SERIAL_WRONG),
    (403, "device_revoked", Trouble.DEVICE_REVOKED),
    (400, "csr_not_usable", Trouble.CSR_NOT_USABLE),
    (409, "key_on_another_device", Trouble.KEY_ON_ANOTHER_DEVICE),
    (503, "enrolment_closed", Trouble.ENROLMENT_CLOSED),
    (429, "too_many", Trouble.CLOUD_BUSY),
    (503, "", Trouble.CLOUD_BUSY),
    (202, "", Trouble.CLOUD_BUSY),
    (302, "", Trouble.CLOUD_STRANGE),
    (404, "disk", Trouble.CLOUD_STRANGE),
]


@pytest.mark.parametrize(("status", "code", "trouble"), PROBLEMS)
def test_each_refusal_of_the_cloud_is_known_by_name(
    office: Office, state: Path, status: int, code: str, trouble: Trouble
) -> None:
    told(office, "simpleenroll", Said(status, json.dumps({"code": code}).encode()))
    assert trouble_of(enroller(state).enrol(office.claim())) is trouble
    assert not (state / "identity").exists()


GARBAGE = [
    Said(body=b""),
    Said(body=b"<html>sign in to the hotel</html>"),
    Said(body=b"AAAA"),
    Said(body=b"MIIB" * 1000),
    Said(body=b"x" * (exchange.ANSWER_BYTES_MAX + 10)),
    Said(raw=b"not http at all\r\n\r\n"),
    Said(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
    Said(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n"),
    Said(raw=b""),
]


@pytest.mark.parametrize("path", ["cacerts", "simpleenroll", "connection"])
@pytest.mark.parametrize("at", range(len(GARBAGE)))
def test_garbage_is_no_answer_and_the_same_claim_may_be_tried_again(
    office: Office, state: Path, path: str, at: int
) -> None:
    told(office, path, GARBAGE[at])
    ended = enroller(state).enrol(office.claim())
    assert trouble_of(ended) in {Trouble.CLOUD_STRANGE, Trouble.NO_WAY}
    assert not (state / "identity").exists()
    office.answers = office.usual
    assert enroller(state).enrol(office.claim()) == Enrolled("bar-1")
    assert len({spki(leaf) for leaf in office.leaves}) == 1


def test_an_answer_that_never_ends_is_cut_off(
    office: Office, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange.exchange, "__kwdefaults__", _hasty())
    waiting = Event()

    def slow(asked: Asked) -> Said:
        waiting.wait(30)
        return Said()

    office.answers = slow
    ended = enroller(state).enrol(office.claim())
    waiting.set()
    assert trouble_of(ended) is Trouble.NO_WAY


def _hasty() -> dict[str, Any]:
    defaults = exchange.exchange.__kwdefaults__
    assert defaults is not None
    return defaults | {"deadline_s": 0.3}


def test_a_certificate_for_another_key_or_of_another_authority_is_not_taken(
    office: Office, state: Path
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    for leaf in (
        office.authority.certify("bar-1", other.public_key()),
        Authority().certify("bar-1", other.public_key()),
    ):
        told(office, "simpleenroll", Said(body=office.certs(leaf)))
        ended = enroller(state).enrol(office.claim())
        assert trouble_of(ended) is Trouble.OTHER_CERTIFICATE

    def of_another_authority(asked: Asked) -> Said:
        said = office.usual(asked)
        if not asked.path.endswith("simpleenroll"):
            return said
        key = office.leaves[-1].public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return Said(body=office.certs(Authority().certify("bar-1", key)))

    office.answers = of_another_authority
    assert trouble_of(enroller(state).enrol(office.claim())) is Trouble.OTHER_CERTIFICATE
    assert not (state / "identity").exists()


def test_a_name_that_no_topic_can_hold_is_not_taken(office: Office, state: Path) -> None:
    office.device_id = "bar/#"
    assert trouble_of(enroller(state).enrol(office.claim())) is Trouble.OTHER_CERTIFICATE


def test_nobody_listening_is_no_way(office: Office, state: Path) -> None:
    claim = office.claim(host="127.0.0.1", port=1)
    assert trouble_of(enroller(state).enrol(claim)) is Trouble.NO_WAY


def test_a_wire_cut_in_the_handshake_is_no_way_and_no_strange_cloud(
    office: Office, state: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with listener.accept()[0] as wire:
                # All of the hello was read, so that the wire ends in order and is not reset.
                wire.recv(65536)

        other_end = Thread(target=hang_up)
        other_end.start()
        claim = office.claim(host="127.0.0.1", port=listener.getsockname()[1])
        ended = enroller(state).enrol(claim)
        other_end.join()
    assert trouble_of(ended) is Trouble.NO_WAY


def test_what_another_name_still_owes_is_not_left_behind(
    office: Office, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def owed(_: Path) -> list[str]:
        return ["  1 sale"]

    def whose(_: Path) -> str:
        return "grill-9"

    monkeypatch.setattr(enrolment, "whose", whose)
    monkeypatch.setattr(enrolment, "what_is_owed", owed)
    ended = enroller(state).enrol(office.claim())
    assert ended == NotEnrolled(Trouble.OTHER_NAME, "grill-9")
    assert not (state / "identity").exists()
    office.device_id = "grill-9"
    assert enroller(state).enrol(office.claim()) == Enrolled("grill-9")


class CutError(BaseException):
    """The power goes."""


def test_a_power_cut_at_each_flush_and_rename_leads_to_one_identity_with_one_key(
    office: Office, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_at(moment: int, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal moments
            moments += 1
            if moments == moment:
                raise CutError
            return real(*arguments, **named)

        return step

    cuts = 0
    for at in range(1, 60):
        moments = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", cut_at(at, os.fsync))
            patch.setattr(Path, "rename", cut_at(at, Path.rename))
            patch.setattr(Path, "replace", cut_at(at, Path.replace))
            try:
                recover(state)
                again = enroller(state)
                if (state / "identity" / "certificate.pem").exists():
                    break
                ended = again.enrol(None if again.has_certificate else office.claim())
                assert isinstance(ended, Enrolled)
                break
            except CutError:
                cuts += 1
    assert cuts > 10
    recover(state)
    assert load(state).device_id == "bar-1"
    load(state).tls_context()
    keys = {spki(leaf) for leaf in office.leaves}
    # A key that never reached the disk whole was never sent either.
    assert len(keys) == 1


def test_a_full_disk_is_told_and_the_next_try_goes_on(
    office: Office, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    for at in range(3):
        with monkeypatch.context() as patch:
            if at != 1:
                patch.setattr(os, "fsync", full)
                ended = enroller(state).enrol(office.claim())
                assert ended == NotEnrolled(Trouble.DISK, "No space left on device")
    assert enroller(state).enrol(office.claim()) == Enrolled("bar-1")


def test_the_serial_is_what_is_set_else_the_boards_own(tmp_path: Path) -> None:
    board = tmp_path / "serial-number"
    board.write_bytes(b"10000000abcdef01\0")
    assert serial_of("", board) == "10000000abcdef01"
    assert serial_of("mine", board) == "mine"
    assert serial_of("", tmp_path / "none") == ""
    board.write_bytes(b"two words\xff")
    assert serial_of("", board) == ""
