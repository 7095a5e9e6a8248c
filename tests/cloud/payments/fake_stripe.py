"""A small server that speaks Stripe's API as its reference documents it: on loopback, in memory."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """An answer instead of the right one; status 0: the connection just ends."""

    status: int
    error: Json = field(default_factory=dict[str, Any])
    is_done: bool = False
    """Whether the deed is done all the same: its answer alone is lost."""


class StripeError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.error = {"type": "invalid_request_error", "code": code, "message": message}


class FakeStripe(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.numbers = count(1)
        self.sessions: dict[str, Json] = {}
        self.intents: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputed: dict[str, int] = {}
        self.events: list[Json] = []
        self.kept: dict[str, tuple[Json, int, Json]] = {}
        """What was answered under each idempotency key: the request, the status, the answer."""
        self.asked: list[tuple[str, str, Json, dict[str, str]]] = []
        self.faults: list[Fault | None] = []
        """For the next requests, in turn; None: that one is answered as it should be."""
        self.refunds_go: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    # What Stripe's own pages and people do.

    def pay(self, session_id: str, *, refunds_go: str = "succeeded") -> None:
        session = self.sessions[session_id]
        intent: Json = {
            "id": f"pi_{next(self.numbers)}",
            "object": "payment_intent",
            "amount": session["amount_total"],
            "currency": session["currency"],
            "metadata": session["payment_intent_data"]["metadata"],
            "status": "succeeded",
        }
        self.intents[intent["id"]] = intent
        self.refunds_go[intent["id"]] = refunds_go
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"]}
        self.tell("checkout.session.completed", session)

    def decline(self, session_id: str) -> None:
        session = self.sessions[session_id]
        intent: Json = {
            "id": f"pi_{next(self.numbers)}",
            "object": "payment_intent",
            "amount": session["amount_total"],
            "currency": session["currency"],
            "metadata": session["payment_intent_data"]["metadata"],
            "status": "requires_payment_method",
            "last_payment_error": {"code": "card_declined", "decline_code": "generic_decline"},
        }
        self.tell("payment_intent.payment_failed", intent)

    def make_refund(self, intent_id: str, amount: int, metadata: Json) -> Json:
        gone = sum(
            each["amount"]
            for each in self.refunds.values()
            if each["payment_intent"] == intent_id and each["status"] != "failed"
        )
        if intent_id in self.disputed:
            raise StripeError(400, "charge_disputed", "Charge has been charged back.")
        if amount > self.intents[intent_id]["amount"] - gone:
            raise StripeError(400, "charge_already_refunded", "Charge has already been refunded.")
        refund: Json = {
            "id": f"re_{next(self.numbers)}",
            "object": "refund",
            "amount": amount,
            "charge": f"ch_{intent_id}",
            "currency": self.intents[intent_id]["currency"],
            "metadata": metadata,
            "payment_intent": intent_id,
            "status": self.refunds_go[intent_id],
        }
        self.refunds[refund["id"]] = refund
        self.tell("refund.created", refund)
        # Without `refunds`, as since version 2022-11-15.
        charge = {
            "id": refund["charge"],
            "object": "charge",
            "amount_refunded": gone + amount,
            "payment_intent": intent_id,
        }
        self.tell("charge.refunded", charge)
        return refund

    def change_refund(self, refund_id: str, status: str) -> None:
        self.refunds[refund_id]["status"] = status
        kind = "refund.failed" if status == "failed" else "refund.updated"
        self.tell(kind, self.refunds[refund_id])

    def dispute(self, intent_id: str, status: str = "needs_response") -> Json:
        intent = self.intents[intent_id]
        self.disputed[intent_id] = intent["amount"]
        dispute: Json = {
            "id": f"dp_{next(self.numbers)}",
            "object": "dispute",
            "amount": intent["amount"],
            "charge": f"ch_{intent_id}",
            "currency": intent["currency"],
            "metadata": {},
            "payment_intent": intent_id,
            "reason": "fraudulent",
            "status": status,
        }
        self.tell("charge.dispute.created", dispute)
        return dispute

    def close_dispute(self, dispute: Json, status: str) -> None:
        if status == "won":
            del self.disputed[dispute["payment_intent"]]
        self.tell("charge.dispute.closed", dispute | {"status": status})

    def tell(self, kind: str, thing: Json) -> None:
        self.events.append(
            {
                "id": f"evt_{next(self.numbers)}",
                "object": "event",
                "api_version": "2026-10-28.endive",
                "created": 1_780_000_000,
                "data": {"object": json.loads(json.dumps(thing))},
                "livemode": False,
                "pending_webhooks": 1,
                "request": {"id": None, "idempotency_key": None},
                "type": kind,
            }
        )

    # What its API answers.

    def answer(self, method: str, path: str, said: Json, key: str | None) -> tuple[int, Json]:
        with self.lock:
            if key is not None and key in self.kept:
                before, status, answer = self.kept[key]
                if before == said:
                    return status, answer
                error = {"type": "idempotency_error", "message": "Keys are for the same request."}
                return 400, {"error": error}
            try:
                status, answer = 200, self._do(method, path.strip("/").split("/")[1:], said)
            except StripeError as error:
                status, answer = error.status, {"error": error.error}
            # Pictures of the moment, as over a wire.
            answer = json.loads(json.dumps(answer))
            if key is not None and status == 200:
                self.kept[key] = (said, status, answer)
            return status, answer

    def _do(self, method: str, path: list[str], said: Json) -> Json:
        match method, path:
            case "POST", ["checkout", "sessions"]:
                return self._open(said)
            case "GET", ["checkout", "sessions", session_id]:
                return self._expand(self._session(session_id))
            case "POST", ["checkout", "sessions", session_id, "expire"]:
                session = self._session(session_id)
                if session["status"] != "open":
                    raise StripeError(400, "resource_invalid_state", "Only open sessions expire.")
                session["status"] = "expired"
                self.tell("checkout.session.expired", session)
                return session
            case "GET", ["refunds"]:
                found = [
                    each
                    for each in self.refunds.values()
                    if each["payment_intent"] == said["payment_intent"]
                ]
                return {"object": "list", "data": found, "has_more": False, "url": "/v1/refunds"}
            case "POST", ["refunds"]:
                return self.make_refund(
                    said["payment_intent"], int(said["amount"]), said.get("metadata", {})
                )
            case "GET", ["refunds", refund_id] if refund_id in self.refunds:
                return self.refunds[refund_id]
            case _:
                raise StripeError(404, "resource_missing", "No such thing.")

    def _open(self, said: Json) -> Json:
        price = said["line_items"]["0"]["price_data"]
        assert said["mode"] == "payment"
        assert said["allowed_payment_method_types"] == {"0": "card"}
        if int(price["unit_amount"]) < 50:
            raise StripeError(400, "amount_too_small", "At least 50 cents.")
        session_id = f"cs_test_{next(self.numbers)}"
        session: Json = {
            "id": session_id,
            "object": "checkout.session",
            "amount_total": int(price["unit_amount"]),
            "client_reference_id": said["client_reference_id"],
            "currency": price["currency"],
            "expires_at": int(said.get("expires_at", 0)),
            "metadata": said["metadata"],
            "mode": "payment",
            "payment_intent": None,
            "payment_intent_data": said["payment_intent_data"],
            "payment_status": "unpaid",
            "status": "open",
            "success_url": said["success_url"],
            "url": f"https://checkout.stripe.test/c/pay/{session_id}",
        }
        self.sessions[session_id] = session
        return session

    def _session(self, session_id: str) -> Json:
        if session_id not in self.sessions:
            raise StripeError(404, "resource_missing", "No such checkout.session.")
        return self.sessions[session_id]

    def _expand(self, session: Json) -> Json:
        intent = session["payment_intent"]
        return session | {"payment_intent": None if intent is None else self.intents[intent]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET", urlsplit(self.path).query)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("POST", body.decode())

    def _answer(self, method: str, text: str) -> None:
        stripe = self.server
        assert isinstance(stripe, FakeStripe)
        path, said = urlsplit(self.path).path, _nested(text)
        stripe.asked.append((method, path, said, dict(self.headers)))
        fault = stripe.faults.pop(0) if stripe.faults else None
        key = self.headers.get("Idempotency-Key")
        if fault is None:
            status, answer = stripe.answer(method, path, said, key)
        else:
            status, answer = fault.status, {"error": fault.error}
            if fault.is_done:
                stripe.answer(method, path, said, key)
        if status == 0:
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Request-Id", "req_1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Quiet."""


def _nested(text: str) -> Json:
    """`a[b][0]=c` as Stripe's forms nest it."""
    said: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = name.replace("]", "").split("[")
        place, path = said, [first, *rest]
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return said


@contextmanager
def fake_stripe() -> Generator[FakeStripe]:
    server = FakeStripe()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
