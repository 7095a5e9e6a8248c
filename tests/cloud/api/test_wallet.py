from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from cloud.store.tables import credit_wallets, events, metadata
from protocol.messages import Approved, Declined, Reason
from protocol.wallet_qr import SignedQr, check_signature, read
from tests.cloud.api.edge import Edge


def test_a_sign_in_link_works_once(edge: Edge) -> None:
    _, link = edge.link()
    assert edge.http.post("/v1/session", json={"link": link}).status_code == 200
    again = edge.http.post("/v1/session", json={"link": link})
    assert (again.status_code, again.json()["code"]) == (403, "link_not_usable")


def test_a_sign_in_link_ends_after_a_day(edge: Edge) -> None:
    _, link = edge.link()
    edge.floor.pass_time(hours=25)
    answer = edge.http.post("/v1/session", json={"link": link})
    assert answer.json()["code"] == "link_not_usable"


@pytest.mark.parametrize("link", ["", "rxl_", "rxa_" + "A" * 43, "rxl_" + "A" * 43, "' OR 1=1 --"])
def test_a_made_up_link_opens_nothing(lone_edge: Edge, link: str) -> None:
    assert lone_edge.http.post("/v1/session", json={"link": link}).status_code == 403


def test_the_session_lives_in_a_cookie_that_no_script_and_no_other_site_can_use(edge: Edge) -> None:
    _, link = edge.link()
    cookie = edge.http.post("/v1/session", json={"link": link}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert edge.http.get("/v1/wallet").status_code == 200
    other = edge.http.post(
        "/v1/wallet/qr",
        json={"event_id": "summer-fair"},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert other.status_code == 403


def test_over_https_the_cookie_is_bound_to_the_host_and_to_https(tmp_path: Path) -> None:
    edge = Edge(f"sqlite:///{tmp_path / 'db'}", tmp_path, "https://wallet.test")
    _, link = edge.link()
    answer = edge.http.post("/v1/session", json={"link": link})
    assert answer.headers["set-cookie"].startswith("__Host-railtix=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "strict-transport-security" in answer.headers
    edge.close()


def test_whoever_signed_out_is_signed_out_everywhere_that_session_was(edge: Edge) -> None:
    attendee = edge.sign_in()
    assert edge.http.delete("/v1/session", headers=attendee.headers).status_code == 204
    answer = edge.http.get("/v1/wallet", headers=attendee.headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_a_session_ends_by_itself(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.floor.pass_time(days=15)
    assert edge.http.get("/v1/wallet", headers=attendee.headers).status_code == 401


def test_an_ops_token_is_no_attendee_and_an_attendee_is_no_ops(edge: Edge) -> None:
    attendee = edge.sign_in()
    assert edge.http.get("/v1/wallet", headers=edge.ops).status_code == 401
    assert edge.http.get("/v1/ops/devices", headers=attendee.headers).status_code == 401


def test_only_hashes_of_links_sessions_and_tokens_are_kept(edge: Edge) -> None:
    _, link = edge.link()
    bearer = edge.http.post("/v1/session", json={"link": link, "bearer": True}).json()["bearer"]
    kept: list[str] = []
    with edge.floor.database.reading() as connection:
        for table in metadata.sorted_tables:
            kept.extend(str(row) for row in connection.execute(select(table)))
    everything = "\n".join(kept)
    for secret in (link, bearer, edge.ops_token):
        assert secret not in everything
        assert secret[4:] not in everything


def test_the_qr_is_signed_for_its_event_lives_90_seconds_and_is_written_nowhere(edge: Edge) -> None:
    attendee = edge.sign_in()
    rows = _count_rows(edge)
    answer = edge.qr(attendee).json()
    assert _count_rows(edge) == rows

    signed = check_signature(answer["token"], edge.floor.keys.find_wallet_public)
    assert isinstance(signed, SignedQr)
    wallet_key = edge.floor.keys.find_wallet(signed.key_id)
    assert wallet_key is not None
    assert wallet_key.event_id == "summer-fair"
    assert signed.token.sub == attendee.guest.payer_id
    assert signed.token.exp - signed.token.iat == answer["lifetime_s"] == 90
    assert read(answer["digits"]) == answer["token"]
    assert edge.qr(attendee).json()["token"] != answer["token"]


@pytest.mark.parametrize(
    ("balance", "frozen", "allowance"),
    [(0, False, 0), (2000, False, 500), (50_000, False, 2000), (2000, True, 0)],
)
def test_the_offline_allowance_is_a_quarter_of_the_balance_and_20_at_most(
    edge: Edge, balance: int, frozen: bool, allowance: int
) -> None:
    attendee = edge.sign_in()
    if balance:
        edge.top_up(attendee, balance)
    if frozen:
        with edge.floor.database.transaction() as connection:
            connection.execute(update(credit_wallets).values(offline_frozen=True))
    assert _allowance(edge, edge.qr(attendee).json()["token"]) == allowance


def test_an_event_without_offline_sales_gives_no_allowance(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.top_up(attendee)
    with edge.floor.database.transaction() as connection:
        connection.execute(update(events).values(offline_rules={"allowed": False}))
    assert _allowance(edge, edge.qr(attendee).json()["token"]) == 0


def test_no_qr_for_an_event_that_is_unknown_or_over(edge: Edge) -> None:
    attendee = edge.sign_in()
    unknown = edge.qr(attendee, "winter-fair")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "event_unknown")
    with edge.floor.database.transaction() as connection:
        connection.execute(update(events).values(ends_at=edge.floor.now()))
    over = edge.qr(attendee)
    assert (over.status_code, over.json()["code"]) == (409, "event_closed")
    assert edge.wallet(attendee)["events"] == []


def test_a_qr_from_the_page_pays_once_and_the_wallet_shows_where(edge: Edge) -> None:
    attendee = edge.sign_in()
    edge.top_up(attendee, 2000)
    till = edge.floor.add_till()
    qr = edge.qr(attendee).json()["digits"]
    assert isinstance(edge.floor.ask_one(till, till.deduct(qr, 350)), Approved)
    assert edge.floor.ask_one(till, till.deduct(qr, 350)) == Declined(Reason.TOKEN_ALREADY_USED)

    wallet = edge.wallet(attendee)
    assert wallet["balances"] == [{"amount_in_cents": 1650, "currency": "EUR"}]
    newest, oldest = wallet["recent"]
    assert (newest["title"], newest["direction"], newest["amount"]["amount_in_cents"]) == (
        "Bar",
        "out",
        350,
    )
    assert (oldest["title"], oldest["direction"]) == ("Top-up", "in")
    assert edge.floor.balance(attendee.guest) == 1650


def test_an_attendee_sees_nobody_elses_money(edge: Edge) -> None:
    rich, poor = edge.sign_in(), edge.sign_in()
    edge.top_up(rich, 2000)
    assert edge.wallet(poor)["balances"] == []
    assert edge.wallet(poor)["recent"] == []


def _allowance(edge: Edge, token: str) -> int:
    signed = check_signature(token, edge.floor.keys.find_wallet_public)
    assert isinstance(signed, SignedQr)
    return signed.token.oal


def _count_rows(edge: Edge) -> dict[str, int]:
    with edge.floor.database.reading() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
