import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from cloud import logs
from cloud.metrics import REGISTRY
from tests.cloud.api.edge import Edge


class Written:
    """What the process writes to its log from now on."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self, event: str) -> list[dict[str, object]]:
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["event"] == event]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    root = logging.getLogger()
    before, level, configured = root.handlers[:], root.level, structlog.get_config()
    written = Written()
    monkeypatch.setattr(sys, "stderr", written.stream)
    logs.log_as_json()
    yield written
    root.handlers[:], root.level = before, level
    logs._handlers.clear()
    structlog.configure(**configured)


def test_a_sane_request_id_is_kept_echoed_and_named_in_the_problem(
    lone_edge: Edge, written: Written
) -> None:
    answer = lone_edge.http.get("/v1/wallet", headers={"X-Request-Id": "phone-0815.a"})
    assert answer.headers["x-request-id"] == "phone-0815.a"
    assert answer.json()["request_id"] == "phone-0815.a"
    assert answer.json()["instance"] == "urn:railtix:request:phone-0815.a"
    [line] = written.lines("request")
    assert (line["request_id"], line["route"], line["status"]) == (
        "phone-0815.a",
        "/v1/wallet",
        401,
    )


@pytest.mark.parametrize("brought", ["short", "x" * 65, "two words", '"><script>', "-leading-dash"])
def test_another_request_id_is_replaced(lone_edge: Edge, brought: str) -> None:
    answer = lone_edge.http.get("/v1/wallet", headers={"X-Request-Id": brought})
    made = answer.headers["x-request-id"]
    assert made != brought
    assert len(made) == 36
    assert brought not in answer.text


def test_two_requests_never_share_an_id(lone_edge: Edge) -> None:
    ids = {lone_edge.http.get("/healthz").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/nowhere", {}),
        ("POST", "/v1/wallet", {}),
        ("POST", "/v1/webhooks/test", {"Content-Length": "99999999"}),
        ("POST", "/v1/session", {"Content-Type": "text/plain"}),
    ],
)
def test_every_refusal_names_its_request(
    lone_edge: Edge, method: str, path: str, headers: dict[str, str]
) -> None:
    content = b"x" if "Content-Type" in headers else None
    if "Content-Length" in headers:
        content, headers = b"x" * 40_000, {}
    answer = lone_edge.http.request(method, path, headers=headers, content=content)
    assert answer.status_code >= 400
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_line_has_the_template_of_an_address_and_never_the_address(
    lone_edge: Edge, written: Written
) -> None:
    lone_edge.http.get("/test-provider/pay/a-secret-address?number=4242")
    lone_edge.http.get("/v1/topups/somebodys-payment?token=a-secret-query")
    lone_edge.http.get("/a-secret-of-nowhere")
    routes = {line["route"] for line in written.lines("request")}
    assert routes == {"/test-provider/pay/{address}", "/v1/topups/{payment_id}", "none"}
    assert "secret" not in written.text
    assert "somebodys" not in written.text


def test_probes_leave_no_line(lone_edge: Edge, written: Written) -> None:
    lone_edge.http.get("/healthz")
    lone_edge.http.get("/readyz")
    lone_edge.http.get("/nowhere")
    assert [line["route"] for line in written.lines("request")] == ["none"]


def test_a_failure_of_ours_is_logged_under_the_request_id_it_was_answered_with(
    lone_edge: Edge, written: Written
) -> None:
    attendee = lone_edge.sign_in()
    with lone_edge.floor.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE credit_wallets RENAME TO gone")
    answer = lone_edge.http.get("/v1/wallet", headers=attendee.headers)
    assert answer.status_code == 500
    [failed] = written.lines("request_failed")
    assert failed["request_id"] == answer.json()["request_id"]
    assert "OperationalError" in str(failed["exception"])
    assert attendee.headers["Authorization"].split()[1] not in written.text


def test_an_appliances_answer_is_logged_with_its_correlation_id(
    lone_edge: Edge, written: Written
) -> None:
    attendee = lone_edge.sign_in()
    lone_edge.top_up(attendee)
    till = lone_edge.floor.add_till()
    sale = till.deduct(lone_edge.floor.qr(attendee.guest), 350)
    lone_edge.floor.ask_one(till, sale)
    [line] = written.lines("answered")
    assert line["correlation_id"] == sale.correlation_id
    assert (line["device_id"], line["kind"], line["outcome"]) == ("till-1", "deduct", "approved")
    with lone_edge.floor.database.reading() as connection:
        kept = connection.exec_driver_sql(
            "SELECT correlation_id FROM credit_transactions WHERE type = 'Deduct'"
        ).scalar_one()
    assert kept == sale.correlation_id
    assert line["transaction_id"]


def test_no_secret_is_ever_in_the_log(lone_edge: Edge, written: Written) -> None:
    http = lone_edge.http
    _, link = lone_edge.link()
    bearer = http.post("/v1/session", json={"link": link, "bearer": True}).json()["bearer"]
    http.post("/v1/session", json={"link": link, "bearer": True})
    _, other_link = lone_edge.link()
    cookie = http.post("/v1/session", json={"link": other_link}).cookies["railtix"]
    http.cookies.clear()
    headers = {"Authorization": f"Bearer {bearer}"}
    key = "an-idempotency-key-01"
    opened = http.post(
        "/v1/topups",
        json={"amount_in_cents": 2000, "currency": "EUR"},
        headers=headers | {"Idempotency-Key": key},
    ).json()
    page = opened["card_page"].removeprefix("http://wallet.test")
    http.get(page)
    http.post(page, content=b"number=5555555555554444")
    lone_edge.tell(lone_edge.webhook(opened["id"], 2000), signature="t=1,v1=a-forged-signature")
    qr = http.post("/v1/wallet/qr", json={"event_id": "summer-fair"}, headers=headers).json()
    http.get("/v1/wallet?token=rxs_in-the-query", headers=headers)
    till = lone_edge.floor.add_till()
    sign_in = till.sign_in(lone_edge.floor)
    lone_edge.floor.ask_one(till, sign_in)
    lone_edge.floor.ask_one(till, till.sign_in(lone_edge.floor, pin="9876"))
    badge = http.post(
        "/v1/ops/events/summer-fair/staff/mia/badge",
        json={"draw_pin": True},
        headers=lone_edge.ops,
    ).json()

    assert written.lines("request")
    assert written.lines("answered")
    secrets = [
        link, other_link, bearer, cookie, page.rpartition("/")[2], "5555555555554444",
        "a-forged-signature", qr["token"], qr["digits"], "rxs_in-the-query", lone_edge.ops_token,
        sign_in.sealed_pin, sign_in.badge, badge["badge"], badge["pin"] + '"',
    ]  # fmt: skip
    for secret in secrets:
        assert len(secret) > 4
        assert secret not in written.text, secret[:4]


def test_requests_are_counted_by_template_and_status(lone_edge: Edge) -> None:
    def counted() -> float:
        labels = {"method": "GET", "route": "/v1/topups/{payment_id}", "status": "401"}
        return REGISTRY.get_sample_value("railtix_http_requests_total", labels) or 0.0

    before = counted()
    lone_edge.http.get("/v1/topups/one")
    lone_edge.http.get("/v1/topups/two")
    assert counted() == before + 2
    told = generate_latest(REGISTRY).decode()
    assert 'railtix_http_request_duration_seconds_bucket{le="0.005",method="GET"' in told
    assert "/v1/topups/one" not in told


def test_a_method_made_up_makes_no_metric_of_its_own(lone_edge: Edge) -> None:
    lone_edge.http.request("BREW", "/v1/wallet")
    assert "BREW" not in generate_latest(REGISTRY).decode()
