"""The HTTP edge over a small event, asked over real HTTP; its clock is the test's."""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.types import ASGIApp

from cloud.access.roles import Role
from cloud.api.app import make_app
from cloud.api.changes import WalletChanges
from cloud.api.context import Cloud
from cloud.operations.people.access_tokens import create_token
from cloud.operations.people.sign_in_attendee import invite
from cloud.operations.updates.bundle_folder import BundleFolder
from cloud.payments.built_in import BuiltInProvider
from cloud.payments.provider import CardProvider
from tests.cloud.floor import Floor, Guest

URL = "http://wallet.test"
SECRET = b"a secret of the test's own"


@dataclass
class Attendee:
    """Someone with a session: their bearer header, and who they are on the floor."""

    headers: dict[str, str]
    guest: Guest


class Edge:
    def __init__(self, url: str, folder: Path, public_url: str = URL) -> None:
        self.floor = Floor(url, folder / "keys")
        self.provider = BuiltInProvider(public_url, SECRET)
        self.cloud = Cloud(
            database=self.floor.database,
            keys=self.floor.keys,
            desk=self.floor.desk,
            public_url=public_url,
            changes=WalletChanges(self.floor.database),
            bundles=BundleFolder(folder / "updates", 1_000_000),
            provider=self.provider,
            built_in=self.provider,
            clock=self.floor.now,
        )
        self._stack = ExitStack()
        self.http = self._stack.enter_context(self.client())
        made = create_token(self.floor.database, Role.OPS, "ana", None, self.floor.now())
        self.ops_token = made.token
        self.ops = {"Authorization": f"Bearer {made.token}"}

    @contextmanager
    def client(self, provider: CardProvider | None = None) -> Generator[httpx.Client]:
        """A server of its own, and someone who asks it."""
        cloud = self.cloud if provider is None else replace(self.cloud, provider=provider)
        with (
            serving(make_app(cloud)) as url,
            asking(url) as http,
        ):
            yield http

    def close(self) -> None:
        self._stack.close()
        self.floor.close()

    def link(self) -> tuple[str, str]:
        """A new attendee's id and the secret in their sign-in link."""
        invitation = invite(self.floor.database, None, actor="test", now=self.floor.now())
        return invitation.user_id, invitation.link_token

    def sign_in(self) -> Attendee:
        user_id, link = self.link()
        answer = self.http.post("/v1/session", json={"link": link, "bearer": True})
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['bearer']}"}
        with self.floor.database.reading() as connection:
            payer_id = connection.exec_driver_sql(
                "SELECT payer_id FROM users WHERE user_id = "
                + (f"'{UUID(user_id).hex}'" if self.is_sqlite else f"'{user_id}'")
            ).scalar_one()
        return Attendee(headers, Guest(user_id, payer_id))

    @property
    def is_sqlite(self) -> bool:
        return self.floor.database.dialect == "sqlite"

    def open_top_up(self, attendee: Attendee, cents: int = 2000, key: str = "k" * 20) -> Any:
        return self.http.post(
            "/v1/topups",
            json={"amount_in_cents": cents, "currency": "EUR"},
            headers=attendee.headers | {"Idempotency-Key": key},
        )

    def top_up(self, attendee: Attendee, cents: int = 2000, key: str = "k" * 20) -> None:
        opened = self.open_top_up(attendee, cents, key)
        assert opened.status_code == 201, opened.text
        answers = self.pay(opened.json()["id"])
        assert answers[0].json() == {"outcome": "credited"}

    def pay(self, payment_id: str, card: str = "4242424242424242") -> list[Any]:
        """At the provider's page; what its webhooks were answered."""
        self.provider.pay(f"test_{payment_id}", card)
        return self.tell_all()

    def tell_all(self) -> list[Any]:
        """Each webhook that the provider has yet to tell, once; what they were answered."""
        answers: list[Any] = []
        for event_id, body in self.provider.untold():
            answer = self.tell(body)
            if answer.is_success:
                self.provider.mark_told(event_id, taken=True)
            answers.append(answer)
        return answers

    def webhook(self, payment_id: str, cents: int, kind: str = "payment.succeeded") -> bytes:
        said = (
            f'{{"id":"evt_{payment_id}_{kind}","type":"{kind}","reference":"test_{payment_id}",'
            f'"amount":{{"amount_in_cents":{cents},"currency":"EUR"}}}}'
        )
        return said.encode()

    def tell(self, body: bytes, signature: str | None = None) -> Any:
        """As the provider does; signed just now unless told otherwise."""
        signed = self.provider.sign(body, self.floor.now()) if signature is None else signature
        return self.http.post(
            "/v1/webhooks/test", content=body, headers={"RailTix-Signature": signed}
        )

    def wallet(self, attendee: Attendee) -> Any:
        answer = self.http.get("/v1/wallet", headers=attendee.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def qr(self, attendee: Attendee, event_id: str = "summer-fair") -> Any:
        return self.http.post(
            "/v1/wallet/qr", json={"event_id": event_id}, headers=attendee.headers
        )


def asking(url: str) -> httpx.Client:
    """Somebody at a plain address: reading the world's authorities would cost 50 ms a test."""
    return httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False)


@contextmanager
def serving(app: ASGIApp) -> Generator[str]:
    """The application behind a socket on a free port, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def certificate(
    common_name: str,
    now: datetime,
    curve: ec.EllipticCurve | None = None,
    valid: timedelta = timedelta(days=90),
) -> tuple[str, ec.EllipticCurvePrivateKey]:
    """A certificate (PEM) for this name, and its key."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + valid)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode(), key
