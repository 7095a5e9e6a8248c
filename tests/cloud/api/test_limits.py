import secrets
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import Request
from uuid_utils import uuid7

from cloud.access.pace import Pace
from cloud.api.app import make_app
from cloud.api.limits import Limits
from cloud.operations.people.limited import is_worth_a_record
from cloud.settings import LimitSettings, SettingsError, read_settings
from protocol.encoding import to_base64url
from protocol.ids import DeviceId
from tests.cloud.api.crowd import Headers, bearer
from tests.cloud.api.edge import Edge, asking, serving
from tests.cloud.floor import Till

JOSE = {"Content-Type": "application/jose"}
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def test_codes_asked_for_too_often_from_one_address_wait(edge: Edge) -> None:
    with _limited(edge, codes=Pace(3, 60)) as http:
        answers = [_ask_code(http, number) for number in range(5)]
        assert [each.status_code for each in answers] == [202, 202, 202, 429, 429]
        assert answers[3].json()["code"] == "too_many_requests"
        assert answers[3].json()["next_step"]
        assert answers[3].headers["retry-after"] == "20"
        edge.floor.pass_time(seconds=20)
        assert _ask_code(http, 9).status_code == 202
    assert len(edge.floor.audit(action="code_sent")) == 4
    [record] = edge.floor.audit(action="requests_limited")
    assert (record.subject, record.detail) == (
        "client:127.0.0.1",
        {"limit": "codes", "refused": 1},
    )


def test_made_up_links_wait_and_a_good_one_from_the_same_address_does_not(edge: Edge) -> None:
    with _limited(edge, sign_in_failures=Pace(5, 60)) as http:
        answers = [http.post("/v1/session", json={"link": _made_up("rxl_")}) for _ in range(7)]
        assert [each.status_code for each in answers] == [403] * 5 + [429] * 2
        _, link = edge.link()
        assert http.post("/v1/session", json={"link": link}).status_code == 200


def test_guessed_codes_wait(edge: Edge) -> None:
    with _limited(edge, sign_in_failures=Pace(5, 60)) as http:
        answers = [
            http.post("/v1/session", json={"email": f"a{number}@example.org", "code": "123456"})
            for number in range(6)
        ]
    assert [each.status_code for each in answers] == [403] * 5 + [429]


def test_guesses_at_the_console_wait_before_any_password_is_compared(edge: Edge) -> None:
    with _limited(edge, sign_in_failures=Pace(4, 60)) as http:
        answers = [
            http.post(
                "/v1/console/session",
                json={"user_name": f"ana{number}", "password": "p" * 20, "totp": "123456"},
            )
            for number in range(12)
        ]
        assert [each.status_code for each in answers] == [403] * 4 + [429] * 8
        link = {"link": _made_up("rxi_"), "password": "p" * 20}
        assert http.post("/v1/console/enrol", json=link).status_code == 429
    assert len(edge.floor.audit(action="console_signed_in")) == 4


@pytest.mark.parametrize(
    ("kind", "path"),
    [("rxa_", "/v1/wallet"), ("rxo_", "/v1/ops/devices"), ("rxc_", "/v1/console/session")],
)
def test_made_up_tokens_wait_and_whoever_has_a_good_one_does_not(
    edge: Edge, kind: str, path: str
) -> None:
    attendee = edge.sign_in()
    with _limited(edge, token_failures=Pace(3, 60)) as http:
        answers = [http.get(path, headers=bearer(_made_up(kind))) for _ in range(5)]
        assert [each.status_code for each in answers] == [401] * 3 + [429] * 2
        assert http.get("/v1/wallet", headers=attendee.headers).status_code == 200
        assert http.get("/v1/ops/devices", headers=edge.ops).status_code == 200
        assert http.get("/v1/wallet").status_code == 401, "nothing shown is no guess"


def test_requests_that_no_appliance_signed_stop_making_records(edge: Edge) -> None:
    with _limited(edge, pos_failures=Pace(3, 60)) as http:
        answers = [_forge(edge, http) for _ in range(113)]
        assert [each.status_code for each in answers] == [401] * 3 + [429] * 110
        assert len(edge.floor.audit(action="request_refused")) == 3
        counted = edge.floor.audit(action="requests_limited")
        assert [each.detail["refused"] for each in counted] == [1, 10, 100]


def test_an_appliance_behind_a_flooding_address_is_answered_as_ever(edge: Edge) -> None:
    till, guest = edge.floor.add_till(), edge.floor.add_guest()
    with _limited(edge, pos_failures=Pace(2, 60)) as http:
        assert [_forge(edge, http).status_code for _ in range(4)][-1] == 429
        sale = till.deduct(edge.floor.qr(guest), 350)
        answer = http.post(
            "/v1/pos/requests",
            content=till.sign(sale),
            headers=JOSE | {"Idempotency-Key": sale.key},
        )
    assert answer.status_code == 200
    assert edge.floor.balance(guest) == 1650


def test_webhooks_that_are_not_believed_stop_making_records_and_good_ones_count(
    edge: Edge,
) -> None:
    attendee = edge.sign_in()
    opened = edge.open_top_up(attendee).json()
    body = edge.webhook(opened["id"], 2000)
    with _limited(edge, webhook_failures=Pace(3, 60)) as http:
        forged = [
            http.post("/v1/webhooks/test", content=body, headers={"RailTix-Signature": "t=1,v1=0"})
            for _ in range(6)
        ]
        assert [each.status_code for each in forged] == [400] * 3 + [429] * 3
        signed = {"RailTix-Signature": edge.provider.sign(body, edge.floor.now())}
        good = http.post("/v1/webhooks/test", content=body, headers=signed)
    assert good.json() == {"outcome": "credited"}
    assert len(edge.floor.audit(action="requests_limited")) == 1


def test_one_attendees_haste_for_codes_is_not_anothers(edge: Edge) -> None:
    hasty, calm = edge.sign_in(), edge.sign_in()
    with _limited(edge, wallet_qr=Pace(4, 4)) as http:
        answers = [_qr(http, hasty.headers).status_code for _ in range(6)]
        assert answers == [200] * 4 + [429] * 2
        assert _qr(http, calm.headers).status_code == 200
        edge.floor.pass_time(seconds=1)
        assert _qr(http, hasty.headers).status_code == 200


def test_an_attendee_watches_from_four_pages_and_a_closed_one_makes_room(edge: Edge) -> None:
    attendee, other = edge.sign_in(), edge.sign_in()
    edge.cloud.changes.start()
    try:
        with _limited(edge) as http, ExitStack() as pages:
            for _ in range(4):
                assert _watch(pages, http, attendee.headers) == 200
            with http.stream("GET", "/v1/wallet/changes", headers=attendee.headers) as fifth:
                assert fifth.status_code == 429
                assert fifth.headers["retry-after"] == "60"
            assert _watch(pages, http, other.headers) == 200
            pages.close()
            while edge.cloud.changes.watching(UUID(attendee.guest.user_id)):
                http.get("/healthz")
            assert _watch(pages, http, attendee.headers) == 200
    finally:
        edge.cloud.changes.stop()


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
        ("10.0.0.5", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.5", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.5", ["203.0.113.9", "198.51.100.1, 10.1.1.1"], "198.51.100.1"),
        ("10.0.0.5", ["made up"], "10.0.0.5"),
        ("10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", ["10.2.2.2"], "10.2.2.2"),
        ("2001:db8:1:2:3::9", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", [], "192.0.2.7"),
        ("a socket", [], "unknown"),
    ],
)
def test_a_client_is_the_last_address_that_no_proxy_of_ours_has(
    peer: str, forwarded: list[str], client: str
) -> None:
    limits = Limits(LimitSettings(trusted_proxies=PROXIES))
    assert limits.client_of(_asked_by(peer, forwarded)) == client


def test_without_proxies_of_ours_nobody_says_who_they_are() -> None:
    limits = Limits(LimitSettings())
    assert limits.client_of(_asked_by("10.0.0.5", ["198.51.100.1"])) == "10.0.0.5"


def test_limits_are_settings_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('[limits]\ncodes = "7/hour"\ntrusted_proxies = ["10.0.0.0/8"]\n')
    limits = read_settings(config).limits
    assert (limits.codes, limits.wallet_qr) == (Pace(7, 3600), Pace(60, 60))
    assert limits.trusted_proxies == PROXIES[:1]
    config.write_text('[limits]\ncodes = "often"\n')
    with pytest.raises(SettingsError, match=r"limits\.codes.*20/minute"):
        read_settings(config)


def test_a_flood_is_recorded_by_the_power_of_ten() -> None:
    assert [each for each in range(1, 100_001) if is_worth_a_record(each)] == [
        1,
        10,
        100,
        1000,
        10_000,
        100_000,
    ]


@contextmanager
def _limited(edge: Edge, **changes: Any) -> Generator[httpx.Client]:
    """A server with these limits, by the test's clock."""
    limits = Limits(LimitSettings(**changes), lambda: edge.floor.now().timestamp())
    with (
        serving(make_app(replace(edge.cloud, limits=limits))) as url,
        asking(url) as http,
    ):
        yield http


def _made_up(kind: str) -> str:
    return kind + secrets.token_urlsafe(32)


def _ask_code(http: httpx.Client, number: int) -> Any:
    return http.post("/v1/sign-in/codes", json={"email": f"a{number}@example.org"})


def _qr(http: httpx.Client, headers: Headers) -> Any:
    return http.post("/v1/wallet/qr", json={"event_id": "summer-fair"}, headers=headers)


def _forge(edge: Edge, http: httpx.Client) -> Any:
    """Signed by an appliance that nobody knows."""
    stranger = Till(
        device_id=DeviceId("stranger"),
        stall_id="bar",
        private=ec.generate_private_key(ec.SECP256R1()),
        thumbprint=to_base64url(secrets.token_bytes(32)),
        session_id=str(uuid7()),
        now=edge.floor.now,
    )
    request = stranger.heartbeat()
    return http.post(
        "/v1/pos/requests",
        content=stranger.sign(request),
        headers=JOSE | {"Idempotency-Key": request.key},
    )


def _watch(pages: ExitStack, http: httpx.Client, headers: Headers) -> int:
    """Open a page that stays open until `pages` is closed, and wait until it is told something."""
    page = pages.enter_context(http.stream("GET", "/v1/wallet/changes", headers=headers))
    lines = page.iter_lines()
    next(lines)
    # What reads them must stay: without it the page is closed.
    pages.callback(next, iter((lines,)))
    return page.status_code


def _asked_by(peer: str, forwarded: list[str]) -> Request:
    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    return Request({"type": "http", "client": (peer, 5), "headers": headers})
