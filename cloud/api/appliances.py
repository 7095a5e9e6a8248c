"""The appliances' own listener: EST, their requests, health; TLS with certificates of our own."""

import ssl
import threading
from pathlib import Path
from socket import socket
from typing import Annotated, Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from cloud.api import est, health, pos, pos_updates, problems
from cloud.api.context import Cloud, TheCloud
from cloud.api.defences import Defences
from cloud.api.methods import Addresses, Methods
from cloud.api.problems import answers
from cloud.api.requests import Requests
from cloud.api.server import Server
from cloud.api.tls_peer import PeerWire, peer_thumbprint
from cloud.operations.enrolment.enrol_gate import read_connection
from cloud.operations.refusals import Refusal
from cloud.settings import AppliancesSettings, HttpSettings, SettingsError

STARTS_WITHIN_S: Final = 30.0

_log = structlog.stdlib.get_logger("cloud.appliances")

router = APIRouter(prefix="/v1/pos", tags=["appliances"])


class BrokerView(BaseModel):
    host: Annotated[str, Field(examples=["broker.example.org"])]
    port: Annotated[int, Field(examples=[8883])]


class PolicyKeyView(BaseModel):
    kid: str
    spki: str


class ConnectionView(BaseModel):
    device_id: Annotated[str, Field(examples=["bar-north-1"])]
    event_name: str | None
    stall_name: str | None
    broker: BrokerView
    policy_keys: list[PolicyKeyView]
    """What its policies are signed by; the one that signs now comes first."""
    cloud_time_ms: int
    """For an appliance whose clock was never set."""


@router.get("/connection", response_model=ConnectionView, responses=answers(401, 403))
def get_connection(request: Request, cloud: TheCloud) -> ConnectionView | Response:
    """What an enrolled appliance needs beside its certificate, which it shows in TLS."""
    gate = est.gate_of(cloud)
    now = cloud.clock()
    found = read_connection(cloud.database, cloud.keys, peer_thumbprint(request), now)
    if isinstance(found, Refusal):
        return est.refused(found)
    return ConnectionView(
        device_id=found.device_id,
        event_name=found.event_name,
        stall_name=found.stall_name,
        broker=BrokerView(host=gate.broker_host, port=gate.broker_port),
        policy_keys=[PolicyKeyView(kid=key.kid, spki=key.spki) for key in found.policy_keys],
        cloud_time_ms=int(now.timestamp() * 1000),
    )


def make_appliances_app(cloud: Cloud) -> ASGIApp:
    """Nothing for attendees, nothing for ops: those are behind the other listener."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.cloud = cloud
    routers = (est.router, router, pos.router, pos_updates.router, health.probes)
    for each in routers:
        app.include_router(each)
    addresses = Addresses([*app.routes, *(route for each in routers for route in each.routes)])
    problems.install(app, addresses)
    defended = Defences(Methods(app, addresses), is_https=True)
    return Requests(defended, cloud.clock, writes_lines=cloud.writes_access_log)


class AppliancesListener:
    """A server beside the other one, in a thread of its own."""

    def __init__(self, cloud: Cloud, settings: AppliancesSettings, listening: socket) -> None:
        """Raises SettingsError where certificate, key and root do not fit together."""
        self._listening = listening
        self._server = Server(
            make_appliances_app(cloud),
            HttpSettings(tls_certificate=settings.certificate, tls_key=settings.key),
            wire=PeerWire,
        )
        context = self._server.config.ssl
        assert context is not None, "it was given a certificate"
        _take_client_certificates(context, settings)
        self._thread = threading.Thread(target=self._run, name="appliances")

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Return once it listens. Raises RuntimeError where it does not come up."""
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(STARTS_WITHIN_S / 0.01)):
            if self._server.started or not self._thread.is_alive():
                break
            waited.wait(0.01)
        if not self._server.started:
            self.stop()
            raise RuntimeError("the appliances' listener did not start")

    def leave(self, *, at_once: bool = False) -> None:
        """Take no new connections; `at_once`: wait for no answer either."""
        self._server.should_exit = True
        self._server.force_exit = self._server.force_exit or at_once

    def stop(self) -> None:
        """Return once each request that is here has its answer."""
        self.leave()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listening])
        except Exception:
            _log.exception("appliances_listener_failed")
            raise


def root_file(settings: AppliancesSettings) -> Path:
    return settings.authorities or settings.certificate.with_name("ca.pem")


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Raises SettingsError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"appliances: {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"appliances: {path} holds no certificate (PEM)") from error


def _take_client_certificates(context: ssl.SSLContext, settings: AppliancesSettings) -> None:
    """Ours or none. The issuing certificate is known too: not every client sends it along."""
    issuing = read_certificates(settings.certificate)[1:]
    for each in [*read_certificates(root_file(settings)), *issuing]:
        context.load_verify_locations(cadata=each.public_bytes(Encoding.DER))
    context.verify_mode = ssl.CERT_OPTIONAL
