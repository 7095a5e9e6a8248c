import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloud.payments.delivery import RETRY_AFTER_S, SIGNATURE_HEADER, WebhookDelivery
from cloud.payments.webhook_signature import refuse_webhook, sign_webhook

SECRET = b"a secret of the test's own"


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  # the test's edge


class Shelf:
    """Events that wait, in memory."""

    def __init__(self, *bodies: bytes) -> None:
        self.waiting = {f"evt_{number}": body for number, body in enumerate(bodies)}
        self.ended: dict[str, bool] = {}
        self.all_ended = threading.Event()

    def sign(self, body: bytes, now: datetime) -> str:
        return sign_webhook(body, SECRET, now)

    def untold(self) -> Sequence[tuple[str, bytes]]:
        return list(self.waiting.items())

    def mark_told(self, event_id: str, *, taken: bool) -> None:
        del self.waiting[event_id]
        self.ended[event_id] = taken
        if not self.waiting:
            self.all_ended.set()


class Merchant(ThreadingHTTPServer):
    """Answers with these statuses in turn, then 200; keeps what it was told."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.told: list[tuple[bytes, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        merchant = self.server
        assert isinstance(merchant, Merchant)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        merchant.told.append((body, self.headers[SIGNATURE_HEADER]))
        self.send_response(merchant.statuses.pop(0) if merchant.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Quiet."""


@pytest.fixture
def merchant() -> Iterator[Merchant]:
    server = Merchant(503, 404)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_comes_again_until_it_is_taken_and_then_no_more(merchant: Merchant) -> None:
    shelf = Shelf(b'{"id":"evt_1"}')
    delivery = WebhookDelivery(merchant.url, shelf, now)
    delivery.start()
    assert shelf.all_ended.wait(20)
    delivery.nudge()
    delivery.stop()
    assert shelf.ended == {"evt_0": True}
    assert [body for body, _ in merchant.told] == [b'{"id":"evt_1"}'] * 3
    for body, signature in merchant.told:
        assert refuse_webhook(body, signature, SECRET, now()) is None


def test_one_that_is_refused_does_not_keep_the_next_from_being_told(merchant: Merchant) -> None:
    merchant.statuses = [500]
    shelf = Shelf(b'{"id":"first"}', b'{"id":"second"}')
    delivery = WebhookDelivery(merchant.url, shelf, now)
    delivery.start()
    assert shelf.all_ended.wait(20)
    delivery.stop()
    told = [body for body, _ in merchant.told]
    assert told == [b'{"id":"first"}', b'{"id":"second"}', b'{"id":"first"}']


def test_one_that_nobody_takes_is_given_up_in_the_end(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.payments.delivery.RETRY_AFTER_S", (0.01,) * len(RETRY_AFTER_S))
    merchant.statuses = [500] * 100
    shelf = Shelf(b"{}")
    delivery = WebhookDelivery(merchant.url, shelf, now)
    delivery.start()
    assert shelf.all_ended.wait(20)
    delivery.stop()
    assert shelf.ended == {"evt_0": False}
    assert len(merchant.told) == len(RETRY_AFTER_S) + 1


def test_a_merchant_that_is_down_does_not_keep_the_provider_from_stopping() -> None:
    shelf = Shelf(b"{}")
    delivery = WebhookDelivery("http://127.0.0.1:1/hook", shelf, now)
    delivery.start()
    delivery.stop()
    assert not [each for each in threading.enumerate() if each.name == "webhook-delivery"]
    assert shelf.waiting, "the next one to start tells it"
