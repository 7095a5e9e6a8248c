"""A cloud that enrols, over real TLS on loopback: its authority, and whatever it is told to say."""

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import NameOID

from protocol.claim_qr import ClaimQr
from protocol.encoding import public_key_to_text

NOW = datetime.now(UTC)  # noqa: TID251 -- OpenSSL judges by the real clock
POLICY_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A root that issues by itself; `begins` and `ends` in days from now."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.root = self.certify("root", self.key.public_key(), is_ca=True, begins=-1, ends=3650)

    def certify(
        self,
        common: str,
        key: ec.EllipticCurvePublicKey,
        *,
        is_ca: bool = False,
        begins: float = -1,
        ends: float = 90,
        host: str = "127.0.0.1",
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(common))
            .issuer_name(name_of("root"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=begins))
            .not_valid_after(NOW + timedelta(days=ends))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(host))]), critical=False
            )
        )
        return builder.sign(self.key, hashes.SHA256())

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha256(self.root.public_bytes(Encoding.DER)).digest()


@dataclass
class Said:
    """One answer; `raw` goes out as it is, headers and all."""

    status: int = 200
    body: bytes = b""
    raw: bytes | None = None


@dataclass
class Asked:
    path: str
    authorization: str
    body: bytes = field(repr=False)


Answers = Callable[[Asked], Said]


class Office:
    """`with`: it listens. `answers` may be replaced; the usual one enrols whoever asks."""

    def __init__(self, folder: Path, **server: Any) -> None:
        self.authority = Authority()
        self.asked: list[Asked] = []
        self.device_id = "bar-1"
        self.leaves: list[x509.Certificate] = []
        self.answers: Answers = self.usual
        key = ec.generate_private_key(ec.SECP256R1())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pem = folder / "server.pem"
        pem.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + self.authority.certify("server", key.public_key(), **server).public_bytes(
                Encoding.PEM
            )
        )
        self._context.load_cert_chain(pem)
        self._context.load_verify_locations(
            cadata=self.authority.root.public_bytes(Encoding.PEM).decode()
        )
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._server.context = self._context
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_port

    def claim(self, **changed: Any) -> ClaimQr:
        usual: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "fingerprint": self.authority.fingerprint,
            "claim_id": "ABCDEFGHIJ",
            "secret": "S" * 32,
        }
        return ClaimQr(**(usual | changed))

    def usual(self, asked: Asked) -> Said:
        match asked.path.rpartition("/")[2]:
            case "cacerts":
                return Said(body=self.certs(self.authority.root))
            case "simpleenroll" | "simplereenroll":
                request = x509.load_der_x509_csr(base64.b64decode(asked.body))
                key = request.public_key()
                assert isinstance(key, ec.EllipticCurvePublicKey)
                assert request.is_signature_valid
                leaf = self.authority.certify(self.device_id, key)
                self.leaves.append(leaf)
                return Said(body=self.certs(leaf))
            case _:
                told = {
                    "device_id": self.device_id,
                    "event_name": "Fair",
                    "stall_name": None,
                    "broker": {"host": "mq.example", "port": 8883},
                    "policy_keys": [{"kid": "p1", "spki": public_key_to_text(POLICY_KEY)}],
                    "cloud_time_ms": 1,
                }
                return Said(body=json.dumps(told).encode())

    def certs(self, *certificates: x509.Certificate) -> bytes:
        return base64.encodebytes(pkcs7.serialize_certificates(list(certificates), Encoding.DER))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def get_request(self) -> Any:
        plain, address = super().get_request()
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), (
            address
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""


def _handler_of(office: Office) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            asked = Asked(self.path, self.headers.get("Authorization", ""), body)
            office.asked.append(asked)
            said = office.answers(asked)
            if said.raw is not None:
                self.wfile.write(said.raw)
                return
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """The test's own output is enough."""

    return Handler
