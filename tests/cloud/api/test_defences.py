import pytest

from cloud.api import defences, wire
from tests.cloud.api.edge import Edge
from tests.cloud.api.served import said_to, serving_for_real


def test_another_sites_page_gets_no_leave(lone_edge: Edge) -> None:
    asked = {
        "Origin": "https://evil.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }
    for answer in (
        lone_edge.http.options("/v1/topups", headers=asked),
        lone_edge.http.get("/v1/wallet", headers={"Origin": "https://evil.test"}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert lone_edge.http.options("/v1/topups", headers=asked).status_code == 204


def test_options_names_what_an_address_takes(lone_edge: Edge) -> None:
    answer = lone_edge.http.options("/v1/session")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "DELETE" in answer.headers["allow"]
    assert lone_edge.http.options("/v1/ops/events/summer-fair").headers["allow"] == (
        "GET, HEAD, OPTIONS, PUT"
    )
    assert lone_edge.http.options("/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/v1/ops/events/summer-fair", "GET, HEAD, OPTIONS, PUT"),
        ("POST", "/v1/wallet", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
        ("POST", "/static/wallet.js", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_refused_with_all_that_are_allowed(
    lone_edge: Edge, method: str, path: str, allowed: str
) -> None:
    answer = lone_edge.http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_head_is_get_without_its_body(lone_edge: Edge) -> None:
    attendee = lone_edge.sign_in()
    got = lone_edge.http.get("/v1/wallet", headers=attendee.headers)
    head = lone_edge.http.head("/v1/wallet", headers=attendee.headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert lone_edge.http.head("/static/wallet.js").status_code == 200
    assert lone_edge.http.head("/nowhere").status_code == 404
    assert lone_edge.http.head("/v1/session").status_code == 405


def test_head_of_a_stream_ends(lone_edge: Edge) -> None:
    attendee = lone_edge.sign_in()
    answer = lone_edge.http.head("/v1/wallet/changes", headers=attendee.headers)
    assert (answer.status_code, answer.content) == (200, b"")


def test_an_address_with_another_slash_is_not_found(lone_edge: Edge) -> None:
    answer = lone_edge.http.get("/v1/wallet/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_is_not_json_is_refused_as_such(lone_edge: Edge, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    answer = lone_edge.http.post("/v1/session", content=b'{"link": "rxl_x"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


def test_json_that_is_none_is_not_understood_and_not_repeated(lone_edge: Edge) -> None:
    answer = lone_edge.http.post(
        "/v1/session", content=b'{"link": "rxl_x', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "request_not_understood")
    assert "rxl_x" not in answer.text


def test_the_defences_are_on_answers_of_every_kind(lone_edge: Edge) -> None:
    http = lone_edge.http
    for answer in (
        http.options("/v1/topups"),
        http.head("/healthz"),
        http.request("BREW", "/healthz"),
        http.post("/v1/webhooks/test", content=b"x" * 40_000),
        http.post("/v1/session", content=b"x"),
        http.get("/v1/topups/%00"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000,
        b"GET /" + b"a" * 40_000,
        b"this is not HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["long-header", "long-address", "nonsense", "two-lengths", "tls"],
)
def test_what_is_no_request_gets_a_problem_and_a_closed_line(lone_edge: Edge, sent: bytes) -> None:
    with serving_for_real(lone_edge) as address:
        said = said_to(address, sent)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"not_http"' in said
    assert b"nosniff" in said


def test_headers_and_an_address_that_are_too_long_are_refused(lone_edge: Edge) -> None:
    for answer in (
        lone_edge.http.get("/v1/wallet", headers={"X-Long": "a" * 17_000}),
        lone_edge.http.get("/v1/wallet", params={"a": "a" * 17_000}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")


def test_whoever_never_ends_their_headers_is_hung_up_on(
    lone_edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_WITHIN_S", 0.3)
    with serving_for_real(lone_edge) as address:
        assert said_to(address, b"") == b""
        assert said_to(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        second = said_to(address, first + b"GET /healthz HTTP/1.1\r\nHo")
        assert second.count(b"HTTP/1.1 200") == 1


def test_a_body_that_never_ends_is_given_up(
    lone_edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defences, "BODY_WITHIN_S", 0.3)
    head = b"POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with serving_for_real(lone_edge) as address:
        for rest in (
            b"Content-Length: 100\r\n\r\n{",
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        ):
            said = said_to(address, head + rest)
            assert said.startswith(b"HTTP/1.1 408 ")
            assert b'"code":"body_too_slow"' in said


def test_two_requests_in_one_breath_are_both_answered(lone_edge: Edge) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    with serving_for_real(lone_edge) as address:
        said = said_to(address, one + b"\r\n" + one + b"Connection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 OK") == 2
