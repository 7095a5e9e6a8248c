"""A cloud with an authority and the appliances' listener: over real TLS, with the test's clock."""

import base64
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from sqlalchemy import select, update

from cloud.access.pace import Pace
from cloud.access.roles import Role
from cloud.api.app import make_app
from cloud.api.changes import WalletChanges
from cloud.api.context import Cloud
from cloud.api.limits import Limits
from cloud.gate import OwnGate
from cloud.operations.people.access_tokens import create_token
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.settings import AppliancesSettings, AuthoritySettings, LimitSettings, Settings
from cloud.store.tables import audit_records, device_certificates, devices
from protocol.claim_qr import ClaimQr, read_claim_qr
from provisioning.authority.certificates import Constraints, Server
from provisioning.authority.credentials import Credentials
from provisioning.authority.folder import Authority, Issued, found
from tests.cloud.api.edge import asking, serving
from tests.cloud.floor import EVENT, Floor

PKCS10 = {"Content-Type": "application/pkcs10"}
OFTEN = Pace(1_000_000, 1)


@dataclass
class Box:
    """An appliance out of its box: a key, and what it was given for it."""

    folder: Path
    key: Any = field(repr=False)
    chain: list[x509.Certificate] = field(default_factory=list[x509.Certificate])

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    def csr(self, name: str = "anybody", serial: str | None = None) -> bytes:
        attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
        if serial is not None:
            attributes.append(x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, serial))
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def keep(self, answer: httpx.Response) -> "Box":
        assert answer.status_code == 200, answer.text
        self.chain = certificates_in(answer)
        return self

    def files(self) -> tuple[str, str]:
        """Its certificate's and its key's, as TLS reads them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self.folder / "certificate.pem", self.folder / "key.pem"
        certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in self.chain))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(certificate), str(key)


class Office:
    def __init__(
        self, url: str, folder: Path, *, enrolment_failures: Pace = OFTEN, is_closed: bool = False
    ) -> None:
        """`is_closed`: the listener is there, and the authority is not."""
        self.folder = folder
        # TLS reads the real clock, so ours begins there.
        self.floor = Floor(url, folder / "keys", starts_at=datetime.now(UTC))  # noqa: TID251
        authority = found(folder / "ca", None, Constraints(), self.floor.now())
        assert isinstance(authority, Authority)
        self.authority = authority
        own = Credentials(folder / "appliances")
        self._certify_itself(own)
        self.settings = Settings(
            state=folder,
            authority=None if is_closed else AuthoritySettings(folder=folder / "ca"),
            appliances=AppliancesSettings(port=0, certificate=own.certificate, key=own.key),
        )
        self._stack = ExitStack()
        try:
            self._open(enrolment_failures)
        except BaseException:
            self.close()
            raise

    def _certify_itself(self, own: Credentials) -> None:
        key = own.own_key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        names = Server(dns=("localhost",), ips=(ip_address("127.0.0.1"),))
        issued = self.authority.issue(names, key.public_key(), self.floor.now())
        assert isinstance(issued, Issued)
        own.keep(issued)

    def _open(self, enrolment_failures: Pace) -> None:
        assert self.settings.appliances is not None
        own_gate = OwnGate(self.settings, self.settings.appliances)
        self._stack.callback(own_gate.close)
        self.url = own_gate.own_url
        self.cloud = Cloud(
            database=self.floor.database,
            keys=self.floor.keys,
            desk=self.floor.desk,
            public_url="http://wallet.test",
            changes=WalletChanges(self.floor.database),
            bundles=BundleFolder(self.folder / "updates", 10_000_000),
            gate=own_gate.gate,
            clock=self.floor.now,
            limits=Limits(LimitSettings(enrolment_failures=enrolment_failures)),
        )
        listener = own_gate.listener(self.cloud)
        listener.start()
        self._stack.callback(listener.stop)
        self.ops_url = self._stack.enter_context(serving(make_app(self.cloud)))
        self.ops = self._stack.enter_context(asking(self.ops_url))
        made = create_token(self.floor.database, Role.OPS, "ana", None, self.floor.now())
        self.token = made.token
        self.ops.headers["Authorization"] = f"Bearer {made.token}"
        self.http = self.client()

    def close(self) -> None:
        self._stack.close()
        self.floor.close()

    def client(self, box: Box | None = None) -> httpx.Client:
        """Somebody who trusts our root alone; with a box's certificate where it has one."""
        trust = ssl.create_default_context(cafile=str(self.folder / "ca" / "root.pem"))
        if box is not None:
            trust.load_cert_chain(*box.files())
        made = httpx.Client(base_url=f"{self.url}/", verify=trust, timeout=60, trust_env=False)
        return self._stack.enter_context(made)

    def box(self, key: Any = None) -> Box:
        drawn = key or ec.generate_private_key(ec.SECP256R1())
        self._boxes = getattr(self, "_boxes", 0) + 1
        return Box(self.folder / f"box-{self._boxes}", drawn)

    def claim(self, stall: str = "bar", **wanted: Any) -> ClaimQr:
        said = {"event_id": EVENT, "stall_id": stall, **wanted}
        answer = self.ops.post("/v1/ops/claims", json=said)
        assert answer.status_code == 201, answer.text
        claim = read_claim_qr(answer.json()["qr_text"])
        assert claim is not None
        return claim

    def look(self, claim: ClaimQr) -> Any:
        return self.ops.get(f"/v1/ops/claims/{claim.claim_id}").json()

    def enrol(
        self,
        box: Box,
        claim: ClaimQr,
        *,
        secret: str | None = None,
        serial: str | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        return self.http.post(
            "/.well-known/est/simpleenroll",
            content=base64.encodebytes(box.csr(serial=serial)) if body is None else body,
            headers=PKCS10 | (headers or {}),
            auth=(claim.claim_id, secret or claim.secret),
        )

    def enrolled(self, **wanted: Any) -> Box:
        """A box that used a claim of its own."""
        box = self.box()
        return box.keep(self.enrol(box, self.claim(**wanted), serial=wanted.get("serial")))

    def renew(self, box: Box, key: Any = None) -> httpx.Response:
        csr = self.box(key).csr() if key is not None else box.csr()
        return self.client(box).post(
            "/.well-known/est/simplereenroll", content=base64.b64encode(csr), headers=PKCS10
        )

    # What is kept.

    def deeds(self, device_id: str | None = None) -> list[tuple[str, str | None]]:
        """What the audit log says of an appliance's enrolment, and why where that is said."""
        wanted = select(audit_records).order_by(audit_records.c.id)
        if device_id is not None:
            wanted = wanted.where(audit_records.c.device_id == device_id)
        with self.floor.database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [(row.action, (row.detail or {}).get("why")) for row in rows]

    def certificates_of(self, device_id: str) -> Sequence[Any]:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(device_certificates).where(device_certificates.c.device_id == device_id)
            ).all()

    def device(self, device_id: str) -> Any:
        with self.floor.database.reading() as connection:
            return connection.execute(
                select(devices).where(devices.c.device_id == device_id)
            ).one_or_none()


def certificates_in(answer: httpx.Response) -> list[x509.Certificate]:
    """The leaf first, as its own issuer comes last."""
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def set_status(office: Office, device_id: str, status: str) -> None:
    with office.floor.database.transaction() as connection:
        connection.execute(
            update(devices)
            .where(devices.c.device_id == device_id)
            .values(status=status, revoked_at=office.floor.now())
        )
