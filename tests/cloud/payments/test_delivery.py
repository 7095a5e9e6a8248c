import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloud.payments.delivery import SIGNATURE_HEADER, WebhookDelivery
from cloud.payments.webhook_signature import refuse_webhook, sign_webhook

SECRET = b"a secret of the test's own"


class Merchant(ThreadingHTTPServer):
    """Answers with these statuses in turn, then 200; keeps what it was told."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.told: list[tuple[bytes, str]] = []
        self.taken = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        merchant = self.server
        assert isinstance(merchant, Merchant)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        merchant.told.append((body, self.headers[SIGNATURE_HEADER]))
        status = merchant.statuses.pop(0) if merchant.statuses else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if status == 200:
            merchant.taken.set()

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


def _deliver_to(url: str) -> WebhookDelivery:
    delivery = WebhookDelivery(
        url,
        lambda body, at: sign_webhook(body, SECRET, at),
        lambda: datetime.now(UTC),  # noqa: TID251  # the test's edge
    )
    delivery.start()
    return delivery


def test_a_webhook_comes_again_until_it_is_taken_and_then_no_more(merchant: Merchant) -> None:
    delivery = _deliver_to(merchant.url)
    delivery.deliver(b'{"id":"evt_1"}')
    assert merchant.taken.wait(20)
    delivery.stop()
    assert [body for body, _ in merchant.told] == [b'{"id":"evt_1"}'] * 3
    now = datetime.now(UTC)  # noqa: TID251  # the test's edge
    for body, signature in merchant.told:
        assert refuse_webhook(body, signature, SECRET, now) is None


def test_a_merchant_that_is_down_does_not_keep_the_provider_from_stopping() -> None:
    delivery = _deliver_to("http://127.0.0.1:1/hook")
    delivery.deliver(b"{}")
    delivery.stop()
    assert not [each for each in threading.enumerate() if each.name == "webhook-delivery"]
