import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.encoding import to_base64url
from protocol.messages import Approved, Cancelled, Declined, Outcome, Reason, Reply, decode_reply
from protocol.messages import Request as PosRequest
from protocol.signing import Profile, Verified, fingerprint, sign, verify
from tests.cloud.api.edge import Edge
from tests.cloud.floor import Till

JOSE = {"Content-Type": "application/jose"}
DEEP = b"e30.%b.AA" % to_base64url(b'{"x":' + b"[" * 12_000).encode()
"""Brackets nested deeper than any reader goes."""


def test_every_outcome_is_200_with_the_signed_reply_to_this_very_request(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    token = till.sign(sale)
    answer = _send(edge, token, sale.key)
    reply = _reply(edge, answer)
    assert answer.headers["content-type"] == "application/jose"
    assert isinstance(reply.outcome, Approved)
    assert (reply.key, reply.answers) == (sale.key, "deduct")
    assert reply.request_hash == fingerprint(token)
    assert edge.floor.balance(guest) == 1650

    too_much = till.deduct(edge.floor.qr(guest), 5000)
    assert _ask(edge, till, too_much) == Declined(Reason.INSUFFICIENT_FUNDS, reply.outcome.balance)


def test_the_same_bytes_again_get_the_same_outcome_and_post_nothing_more(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    token = till.sign(sale)
    first = _reply(edge, _send(edge, token, sale.key)).outcome
    assert _reply(edge, _send(edge, token, sale.key)).outcome == first
    assert _ask(edge, till, sale) == first, "nor does a fresh signature make it another sale"
    assert edge.floor.balance(guest) == 1650


def test_a_sale_over_the_broker_is_cancelled_over_https(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    assert isinstance(edge.floor.ask_one(till, sale), Approved)
    assert _ask(edge, till, till.cancel(sale)) == Cancelled(sale.amount)
    assert edge.floor.balance(guest) == 2000


def test_staff_sign_in_over_https_too(edge: Edge) -> None:
    till = edge.floor.add_till()
    assert _ask(edge, till, till.sign_in(edge.floor, pin="0000")) == Declined(Reason.PIN_WRONG)


def test_a_revoked_appliance_is_told_so_and_posts_nothing(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    edge.floor.revoke(till)
    sale = till.deduct(edge.floor.qr(guest), 350)
    assert _ask(edge, till, sale) == Declined(Reason.DEVICE_REVOKED)
    assert edge.floor.balance(guest) == 2000


def test_the_header_must_be_the_signed_key(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    for header in ("", secrets.token_urlsafe(16)):
        answer = _send(edge, till.sign(sale), header)
        assert (answer.status_code, answer.json()["code"]) == (400, "key_differs")
    assert edge.http.post("/v1/pos/requests", content=till.sign(sale), headers=JOSE).is_error
    assert edge.floor.balance(guest) == 2000


def test_a_request_of_nobodys_is_refused_and_recorded(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest(2000)
    sale = till.deduct(edge.floor.qr(guest), 350)
    forged = Till(
        till.device_id,
        till.stall_id,
        ec.generate_private_key(ec.SECP256R1()),
        till.thumbprint,
        till.session_id,
        till.now,
    )
    stranger = Till(
        till.device_id, till.stall_id, till.private, "A" * 43, till.session_id, till.now
    )
    for signer, code in ((forged, "bad_signature"), (stranger, "unknown_key")):
        answer = _send(edge, signer.sign(sale), sale.key)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert edge.floor.audit(action="request_refused")[-1].outcome == code
    assert edge.floor.balance(guest) == 2000


def test_another_kind_of_token_is_no_request(lone_edge: Edge) -> None:
    till = lone_edge.floor.add_till()
    payload = b'{"v":1,"key":"' + b"k" * 20 + b'"}'
    badge = sign(Profile.BADGE, payload, till.private, "kid").encode()
    answer = _send(lone_edge, badge, "k" * 20)
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_type")


@pytest.mark.parametrize("body", [b"", b"no token", b"a.b.c", b"...", b"\xff\xfe", DEEP])
def test_what_never_parsed_gets_a_problem_document(lone_edge: Edge, body: bytes) -> None:
    answer = _send(lone_edge, body, "k" * 20)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_only_a_body_marked_as_signed_is_read(lone_edge: Edge) -> None:
    answer = lone_edge.http.post(
        "/v1/pos/requests", content=b"{}", headers={"Idempotency-Key": "k" * 20}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "not_jose")


def _send(edge: Edge, token: bytes, key: str) -> Any:
    headers = JOSE | {"Idempotency-Key": key}
    return edge.http.post("/v1/pos/requests", content=token, headers=headers)


def _ask(edge: Edge, till: Till, request: PosRequest) -> Outcome:
    return _reply(edge, _send(edge, till.sign(request), request.key)).outcome


def _reply(edge: Edge, answer: Any) -> Reply:
    assert answer.status_code == 200, answer.text
    signer = edge.floor.keys.reply

    def find(kid: str) -> ec.EllipticCurvePublicKey | None:
        return signer.private.public_key() if kid == signer.kid else None

    verified = verify(Profile.REPLY, answer.content, find)
    assert isinstance(verified, Verified)
    reply = decode_reply(verified.payload)
    assert isinstance(reply, Reply)
    return reply
