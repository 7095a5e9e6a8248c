"""Enrolment over Secure Transport (RFC 7030): how an appliance comes by its certificate."""

import base64
from http import HTTPStatus
from typing import Any, Final

from cryptography import x509
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from cloud.api import est_wire
from cloud.api.context import Cloud, TheCloud
from cloud.api.floods import count_failure, stop_flood
from cloud.api.limits import Limited
from cloud.api.problems import STATUS, answers, problem
from cloud.api.tls_peer import peer_thumbprint
from cloud.operations.enrolment.enrol_claim import Enrolled, enrol
from cloud.operations.enrolment.enrol_gate import CLOSED, Gate
from cloud.operations.enrolment.enrol_renew import renew
from cloud.operations.enrolment.enrol_tries import WRONG, try_claim
from cloud.operations.refusals import Code, Refusal

CHALLENGE: Final = 'Basic realm="enrolment"'
_FAILURES: Final = frozenset(
    {Code.CLAIM_WRONG, Code.CLAIM_LOCKED, Code.CERTIFICATE_UNKNOWN, Code.CSR_NOT_USABLE}
)
"""What guessing looks like."""
_STATUS: Final = {**STATUS, Code.DEVICE_REVOKED: HTTPStatus.FORBIDDEN}

router = APIRouter(prefix="/.well-known/est", tags=["enrolment"])


def _described(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "byte"}}}}}


@router.get("/cacerts", response_class=Response, responses=_described(est_wire.PKCS7))
def ca_certificates(cloud: TheCloud) -> Response:
    """The root and the issuing certificate, for whoever knows the root's fingerprint."""
    gate = gate_of(cloud)
    body = est_wire.certs_only([gate.root, gate.issuing])
    return Response(body, headers=est_wire.ENCODED, media_type=est_wire.PKCS7)


@router.get("/csrattrs", response_class=Response, responses=_described(est_wire.CSR_ATTRIBUTES))
def request_attributes(_: TheCloud) -> Response:
    """What a certificate request needs: a P-256 key; the serial number where a claim names one."""
    body = est_wire.to_base64(est_wire.WANTED)
    return Response(body, headers=est_wire.ENCODED, media_type=est_wire.CSR_ATTRIBUTES)


@router.post(
    "/simpleenroll",
    response_class=Response,
    responses={**_described(est_wire.CERTS_ONLY), **answers(400, 401, 403, 409, 415, 429, 503)},
)
async def enroll(request: Request, cloud: TheCloud) -> Response:
    """The first certificate, for whoever shows a claim's number and secret (HTTP Basic)."""
    body = await request.body()
    return await run_in_threadpool(_enroll, request, cloud, body)


@router.post(
    "/simplereenroll",
    response_class=Response,
    responses={**_described(est_wire.CERTS_ONLY), **answers(400, 401, 403, 409, 415, 429, 503)},
)
async def reenroll(request: Request, cloud: TheCloud) -> Response:
    """The next certificate, for whoever connected with one that still counts."""
    body = await request.body()
    return await run_in_threadpool(_reenroll, request, cloud, body)


def _enroll(request: Request, cloud: Cloud, body: bytes) -> Response:
    authority = gate_of(cloud).authority
    if authority is None:
        return refused(CLOSED)
    if not _is_pkcs10(request):
        return _not_pkcs10()
    credentials = _basic(request)
    if credentials is None:
        # Many a client asks without them first, to be told how.
        return refused(WRONG)
    stop_flood(cloud, Limited.ENROLMENT_FAILURES, request)
    claim_id, secret = credentials
    wrong = try_claim(cloud.database, claim_id, secret, cloud.clock())
    answer = wrong or enrol(
        cloud.database,
        cloud.keys,
        authority,
        claim_id,
        est_wire.from_base64(body) or b"",
        now=cloud.clock(),
        top_up_url=cloud.top_up_url,
    )
    return _answer(request, cloud, answer)


def _reenroll(request: Request, cloud: Cloud, body: bytes) -> Response:
    authority = gate_of(cloud).authority
    if authority is None:
        return refused(CLOSED)
    if not _is_pkcs10(request):
        return _not_pkcs10()
    peer = peer_thumbprint(request)
    if peer is None:
        stop_flood(cloud, Limited.ENROLMENT_FAILURES, request)
    csr = est_wire.from_base64(body) or b""
    answer = renew(cloud.database, authority, peer, csr, now=cloud.clock())
    return _answer(request, cloud, answer)


def _answer(request: Request, cloud: Cloud, answer: Enrolled | Refusal) -> Response:
    if isinstance(answer, Refusal):
        limited = None
        if answer.code in _FAILURES:
            limited = count_failure(cloud, Limited.ENROLMENT_FAILURES, request)
        return refused(limited or answer)
    chain = x509.load_pem_x509_certificates(answer.chain_pem)
    body = est_wire.certs_only(chain)
    return Response(body, headers=est_wire.ENCODED, media_type=est_wire.CERTS_ONLY)


def refused(refusal: Refusal) -> Response:
    """As a problem document; whoever may know a better secret is told how to show it."""
    status = _STATUS[refusal.code]
    headers = {"WWW-Authenticate": CHALLENGE} if status is HTTPStatus.UNAUTHORIZED else {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return problem(status, refusal.code, refusal.detail, refusal.next_step, headers=headers)


def gate_of(cloud: Cloud) -> Gate:
    assert cloud.gate is not None, "these routes are on the gate's own listener"
    return cloud.gate


def _is_pkcs10(request: Request) -> bool:
    said = request.headers.get("content-type", "").partition(";")[0]
    return said.strip().lower() == est_wire.PKCS10


def _not_pkcs10() -> Response:
    return problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "not_a_csr",
        "The body is not marked as a certificate request.",
        f"Send PKCS #10 (DER, base64) with Content-Type: {est_wire.PKCS10}.",
    )


def _basic(request: Request) -> tuple[str, str] | None:
    """User and password (RFC 7617)."""
    scheme, _, said = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = (
            base64.b64decode(said.strip(), validate=True).decode().partition(":")
        )
    except ValueError:
        # No base64, not even ASCII, or no UTF-8.
        return None
    return (user, password) if colon else None
