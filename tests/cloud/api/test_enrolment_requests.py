"""Certificate requests as clients send them: what is taken, and that the rest costs no claim."""

import base64
from collections.abc import Callable
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cloud.api.enrolment_office import Box, Office, said, set_status


def _with_bad_signature(box: Box) -> bytes:
    der = bytearray(box.csr())
    der[-1] ^= 1
    return bytes(der)


def _with_anothers_key(box: Box) -> bytes:
    """Somebody else's public key, signed with one's own."""
    spki = ec.generate_private_key(ec.SECP256R1()).public_key()
    own = box.csr()
    return own.replace(_point(box.key.public_key()), _point(spki))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _two_serials(box: Box) -> bytes:
    serial = x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "1")
    other = x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "2")
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([serial, other]))
    return builder.sign(box.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _curve(curve: ec.EllipticCurve) -> Callable[[Box], bytes]:
    return lambda box: Box(box.folder, ec.generate_private_key(curve)).csr()


def _rsa(box: Box) -> bytes:
    return Box(box.folder, rsa.generate_private_key(65537, 2048)).csr()


def _of_another_version(box: Box) -> bytes:
    return box.csr().replace(b"\x02\x01\x00", b"\x02\x01\x05", 1)


_NOT_USABLE: Final[dict[str, Callable[[Box], bytes]]] = {
    "bad signature": lambda box: base64.b64encode(_with_bad_signature(box)),
    "another's key": lambda box: base64.b64encode(_with_anothers_key(box)),
    "P-384": lambda box: base64.b64encode(_curve(ec.SECP384R1())(box)),
    "secp256k1": lambda box: base64.b64encode(_curve(ec.SECP256K1())(box)),
    "RSA": lambda box: base64.b64encode(_rsa(box)),
    "version 6": lambda box: base64.b64encode(_of_another_version(box)),
    "two serials": lambda box: base64.b64encode(_two_serials(box)),
    "DER": lambda box: box.csr(),
    "cut off": lambda box: base64.b64encode(box.csr())[:-9],
    "something behind": lambda box: base64.b64encode(box.csr() + b"x"),
    "nothing": lambda _: b"",
    "no base64": lambda _: b"=",
    "deep": lambda _: base64.b64encode(b"\x30\x82" * 1000),
    "long": lambda _: base64.b64encode(bytes(5000)),
}


@pytest.mark.parametrize("what", _NOT_USABLE)
def test_a_request_without_a_p_256_key_and_its_proof_is_refused_and_costs_no_claim(
    office: Office, what: str
) -> None:
    claim, box = office.claim(), office.box()
    answer = office.enrol(box, claim, body=_NOT_USABLE[what](box))
    assert said(answer) == (400, "csr_not_usable")
    assert office.enrol(box, claim).status_code == 200


def test_a_request_that_cannot_be_used_is_in_the_audit_log(office: Office) -> None:
    claim = office.claim(device_id="unusable-1")
    office.enrol(office.box(), claim, body=b"AAAA")
    assert office.deeds("unusable-1")[-1] == ("claim_refused", "csr_not_usable")


def _with_white_space(der: bytes) -> bytes:
    return b" " + base64.encodebytes(der).replace(b"\n", b"\r\n\t")


@pytest.mark.parametrize(
    ("encode", "headers"),
    [
        pytest.param(base64.b64encode, {}, id="one line"),
        pytest.param(base64.encodebytes, {"Content-Transfer-Encoding": "base64"}, id="lines"),
        pytest.param(
            _with_white_space,
            {"Content-Type": "Application/PKCS10; charset=utf-8"},
            id="white space",
        ),
    ],
)
def test_base64_is_read_however_clients_wrap_it(
    office: Office, encode: Callable[[bytes], bytes], headers: dict[str, str]
) -> None:
    claim, box = office.claim(), office.box()
    answer = office.enrol(box, claim, body=encode(box.csr()), headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("kind", ["application/json", "application/pkcs10x", "text/plain", ""])
@pytest.mark.parametrize("path", ["simpleenroll", "simplereenroll"])
def test_a_body_that_is_not_marked_as_a_request_is_not_read(
    office: Office, path: str, kind: str
) -> None:
    answer = office.http.post(
        f"/.well-known/est/{path}",
        content=base64.b64encode(office.box().csr()),
        headers={"Content-Type": kind},
    )
    assert said(answer) == (415, "not_a_csr")


def test_a_megabyte_is_not_read(office: Office) -> None:
    claim = office.claim()
    answer = office.enrol(office.box(), claim, body=b"A" * 1_000_000)
    assert said(answer) == (413, "body_too_large")


def test_what_the_request_says_of_its_holder_decides_nothing(office: Office) -> None:
    claim, box = office.claim(device_id="meek-1"), office.box()
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cloud-worker-1")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"let me in")
    )
    csr = builder.sign(box.key, hashes.SHA256()).public_bytes(Encoding.DER)
    box.keep(office.enrol(box, claim, body=base64.b64encode(csr)))
    names = box.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["meek-1"]
    extensions = box.certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_the_leaf_comes_first_whatever_the_appliance_is_called(office: Office) -> None:
    box = office.enrolled(device_id="w" * 40)
    [leaf, issuing] = box.chain
    leaf.verify_directly_issued_by(issuing)


def test_a_key_that_is_known_as_another_appliances_is_refused_for_ever(office: Office) -> None:
    box = office.enrolled(device_id="first-1")
    claim = office.claim(device_id="copy-1")
    assert said(office.enrol(box, claim)) == (409, "key_on_another_device")
    set_status(office, "first-1", "revoked")
    assert said(office.enrol(box, claim)) == (409, "key_on_another_device")
    assert office.deeds("copy-1")[-1] == ("claim_refused", "key_on_another_device")
    other = office.enrolled(device_id="other-1")
    assert said(office.renew(other, box.key)) == (409, "key_on_another_device")
    assert office.enrol(office.box(), claim).status_code == 200
