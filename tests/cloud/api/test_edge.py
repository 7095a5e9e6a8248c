import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from cloud.api.app import make_app
from cloud.payments.provider import CheckoutRequest
from cloud.readiness import Readiness
from cloud.store.database import Database
from protocol.money import Money
from tests.cloud.api.edge import Edge, asking, serving
from tests.cloud.floor import EVENT


@pytest.mark.parametrize("path", ["/", "/v1/wallet", "/static/wallet.js", "/nowhere", "/healthz"])
def test_every_answer_carries_the_defences(lone_edge: Edge, path: str) -> None:
    headers = lone_edge.http.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "'unsafe-" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_what_is_about_somebody_is_stored_nowhere(lone_edge: Edge) -> None:
    attendee = lone_edge.sign_in()
    wallet = lone_edge.http.get("/v1/wallet", headers=attendee.headers)
    assert wallet.headers["cache-control"] == "no-store"
    script = lone_edge.http.get("/static/wallet.js")
    assert script.headers["cache-control"] == "no-cache"
    again = lone_edge.http.get(
        "/static/wallet.js", headers={"If-None-Match": script.headers["etag"]}
    )
    assert again.status_code == 304


def test_pages_need_nothing_from_elsewhere(lone_edge: Edge) -> None:
    for path in ("/", "/static/wallet.css", "/static/wallet.js", "/static/code.js"):
        text = lone_edge.http.get(path).text
        assert "https://" not in text
        assert "http://" not in text


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("POST", "/v1/wallet")])
def test_what_is_not_there_gets_a_problem_document(lone_edge: Edge, method: str, path: str) -> None:
    answer = lone_edge.http.request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:railtix:problem:{problem['code']}"
    assert problem["next_step"]


def test_a_body_that_is_too_long_is_not_read(lone_edge: Edge) -> None:
    declared = lone_edge.http.post("/v1/webhooks/test", content=b"x" * 40_000)
    chunked = lone_edge.http.post("/v1/webhooks/test", content=iter([b"x" * 20_000] * 2))
    for answer in (declared, chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_failure_of_ours_is_a_problem_without_its_inside(lone_edge: Edge) -> None:
    attendee = lone_edge.sign_in()
    with lone_edge.floor.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE credit_wallets RENAME TO gone")
    answer = lone_edge.http.get("/v1/wallet", headers=attendee.headers)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "credit_wallets" not in answer.text


def test_what_was_not_understood_is_named_without_its_value(lone_edge: Edge) -> None:
    answer = lone_edge.http.post("/v1/session", json={"link": ["rxl_secret"], "extra": 1})
    assert answer.status_code == 422
    assert {error.split(":")[0] for error in answer.json()["errors"]} == {"link", "extra"}
    assert "rxl_secret" not in answer.text


def test_the_description_names_every_route_and_its_problems(lone_edge: Edge) -> None:
    document = lone_edge.http.get("/v1/openapi.json").json()
    paths = set(document["paths"])
    assert {
        "/v1/wallet",
        "/v1/wallet/qr",
        "/v1/topups",
        "/v1/webhooks/test",
        "/v1/pos/requests",
        "/.well-known/jwks.json",
        "/healthz",
        "/readyz",
    } <= paths
    assert "409" in document["paths"]["/v1/topups"]["post"]["responses"]
    [example] = document["components"]["schemas"]["TopUp"]["examples"]
    assert (example["amount_in_cents"], example["currency"]) == (2000, "EUR")
    assert "Problem" in document["components"]["schemas"]


def test_the_public_keys_are_published_and_no_private_one(lone_edge: Edge) -> None:
    wallet_key = lone_edge.floor.keys.wallet_for(EVENT)
    keys = lone_edge.http.get("/.well-known/jwks.json").json()["keys"]
    ring = lone_edge.floor.keys
    named = {key["kid"] for key in keys}
    ours = (ring.reply, ring.policy, ring.badge, ring.ticket, ring.checkpoint, wallet_key)
    assert named == {key.kid for key in ours}
    assert all("d" not in key and key["alg"] == "ES256" for key in keys)
    assert ring.pin.kid not in named, "it signs nothing"


def test_a_server_with_its_database_is_ready(edge: Edge) -> None:
    assert edge.http.get("/readyz").json() == {
        "status": "ready",
        "parts": {"database": "ok", "stopping": "ok"},
    }


def test_a_server_without_its_database_is_alive_and_not_ready(lone_edge: Edge) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with _asked(lone_edge, database=nowhere) as http:
        assert http.get("/healthz").json() == {"status": "alive"}
        answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_a_server_whose_worker_hears_nobody_is_not_ready(lone_edge: Edge) -> None:
    readiness = Readiness(lone_edge.floor.database)
    readiness.add("worker", lambda: "it is not connected to the broker")
    with _asked(lone_edge, readiness=readiness) as http:
        answer = http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.json()["parts"]["worker"] == "it is not connected to the broker"
    assert answer.json()["parts"]["database"] == "ok"


def test_without_a_provider_nobody_tops_up(lone_edge: Edge) -> None:
    attendee = lone_edge.sign_in()
    checkout = lone_edge.provider.open_checkout(
        CheckoutRequest("p", Money(2000, "EUR"), "http://wallet.test/")
    )
    with _asked(lone_edge, provider=None, built_in=None) as http:
        answer = http.post(
            "/v1/topups",
            json={"amount_in_cents": 2000, "currency": "EUR"},
            headers=attendee.headers | {"Idempotency-Key": "k" * 20},
        )
        assert http.get("/v1/wallet", headers=attendee.headers).json()["top_up"] is False
        assert http.get(_path(checkout.card_page)).status_code == 404
    assert (answer.status_code, answer.json()["code"]) == (404, "payments_off")


def test_a_made_up_card_page_is_not_there(lone_edge: Edge) -> None:
    checkout = lone_edge.provider.open_checkout(
        CheckoutRequest("p", Money(2000, "EUR"), "http://wallet.test/")
    )
    path = _path(checkout.card_page)
    assert "20.00 EUR" in lone_edge.http.get(path).text
    for made_up in (path + "x", path[:-1], "/test-provider/pay/e30.AAAA"):
        answer = lone_edge.http.get(made_up)
        assert (answer.status_code, answer.json()["code"]) == (404, "checkout_unknown")


def test_text_on_the_card_page_is_only_text(lone_edge: Edge) -> None:
    checkout = lone_edge.provider.open_checkout(
        CheckoutRequest("p", Money(2000, "EUR"), 'http://wallet.test/"><script>')
    )
    path = _path(checkout.card_page)
    assert "<script>" not in lone_edge.http.get(path).text


def test_the_description_is_json_that_a_tool_can_read(lone_edge: Edge) -> None:
    document = lone_edge.http.get("/v1/openapi.json").text
    assert json.loads(document)["openapi"].startswith("3.1")


@contextmanager
def _asked(edge: Edge, **changes: Any) -> Generator[httpx.Client]:
    """A server that differs from the edge's in these parts."""
    with (
        serving(make_app(replace(edge.cloud, **changes))) as url,
        asking(url) as http,
    ):
        yield http


def _path(url: str) -> str:
    return urlsplit(url).path
