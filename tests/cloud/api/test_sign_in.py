import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud.operations.people.tries import forget_old_secrets
from cloud.store.tables import attendee_sessions, metadata, one_time_codes, secret_tries, users
from tests.cloud.api.crowd import (
    ask_code,
    bearer,
    newest_code,
    post,
    sign_in_by_code,
    use_code,
    wrong,
)
from tests.cloud.api.edge import Edge

ANA = "ana@example.org"


def test_a_code_by_e_mail_signs_in_once(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    assert len(code) == 6
    answer = use_code(edge, ANA, code)
    assert answer.status_code == 200
    assert edge.http.get("/v1/wallet", headers=bearer(answer.json()["bearer"])).status_code == 200
    assert use_code(edge, ANA, code).json()["code"] == "code_not_usable"
    [record] = edge.floor.audit(action="attendee_signed_in")
    assert record.detail == {"by": "code"}


def test_whoever_is_new_is_entered_by_their_first_code_and_found_by_their_next(edge: Edge) -> None:
    before = _count(edge, users)
    ask_code(edge, "New@Example.org")
    assert _count(edge, users) == before, "asking enters nobody"
    first = edge.http.get("/v1/me", headers=sign_in_by_code(edge, "new@example.org"))
    again = edge.http.get("/v1/me", headers=sign_in_by_code(edge, "NEW@example.org"))
    assert first.json() == again.json() == {"email": "new@example.org", "pos_receipts": False}
    assert _count(edge, users) == before + 1


def test_an_address_nobody_has_is_answered_as_one_that_somebody_has(edge: Edge) -> None:
    sign_in_by_code(edge, ANA)
    known = edge.http.post("/v1/sign-in/codes", json={"email": ANA})
    unknown = edge.http.post("/v1/sign-in/codes", json={"email": "nobody@example.org"})
    assert known.status_code == unknown.status_code == 202
    assert known.content == unknown.content
    assert len(post(edge, "nobody@example.org")) == 1, "the same work for both"
    tried = [use_code(edge, each, "000000") for each in (ANA, "nobody@example.org", "x@y.example")]
    assert len({(each.status_code, each.json()["detail"]) for each in tried}) == 1


def test_only_the_newest_code_counts(edge: Edge) -> None:
    first, second = ask_code(edge, ANA), ask_code(edge, ANA)
    if first != second:
        assert use_code(edge, ANA, first).status_code == 403
    assert use_code(edge, ANA, second).status_code == 200


def test_a_code_ends_after_ten_minutes(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    edge.floor.pass_time(minutes=10)
    assert use_code(edge, ANA, code).json()["code"] == "code_not_usable"


def test_a_code_is_dead_after_five_wrong_tries(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    for _ in range(5):
        assert use_code(edge, ANA, wrong(code)).json()["code"] == "code_not_usable"
    assert use_code(edge, ANA, code).json()["code"] == "code_not_usable"
    assert [each.outcome for each in edge.floor.audit(action="code_tried")] == ["wrong"] * 5
    assert use_code(edge, ANA, ask_code(edge, ANA)).status_code == 200


def test_a_code_for_one_address_opens_no_other(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    ask_code(edge, "bo@example.org")
    if newest_code(edge, "bo@example.org") != code:
        assert use_code(edge, "bo@example.org", code).status_code == 403


def test_guessing_on_over_many_codes_is_locked_out_and_audited(edge: Edge) -> None:
    for _ in range(4):
        code = ask_code(edge, ANA)
        assert {use_code(edge, ANA, wrong(code)).status_code for _ in range(5)} == {403}
        edge.floor.pass_time(minutes=16)
    # The last of the twenty made this address wait; that is over, and one more doubles it.
    code = ask_code(edge, ANA)
    assert use_code(edge, ANA, wrong(code)).status_code == 403
    locked = use_code(edge, ANA, code)
    assert locked.status_code == 429
    assert locked.json()["code"] == "too_many_tries"
    assert locked.headers["retry-after"] == "60"
    assert len(edge.floor.audit(action="code_tried", outcome="wrong")) == 21
    assert edge.floor.audit(action="code_tried", outcome="locked_out")
    edge.floor.pass_time(seconds=61)
    assert use_code(edge, ANA, code).status_code == 200


def test_tries_at_nothing_lock_nobody_out(edge: Edge) -> None:
    for number in range(25):
        use_code(edge, ANA, f"{number:06}")
    assert use_code(edge, ANA, ask_code(edge, ANA)).status_code == 200


def test_an_address_gets_five_letters_an_hour_and_the_same_answer_beyond(edge: Edge) -> None:
    for _ in range(7):
        assert edge.http.post("/v1/sign-in/codes", json={"email": ANA}).status_code == 202
    assert len(post(edge, ANA)) == 5
    assert use_code(edge, ANA, newest_code(edge, ANA)).status_code == 200
    assert edge.floor.audit(action="code_sent", outcome="too_many")
    edge.floor.pass_time(minutes=61)
    ask_code(edge, ANA)
    assert len(post(edge, ANA)) == 6


def test_a_hundred_at_once_with_one_code_are_one_session(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    answers: list[int] = []

    def ask() -> None:
        answers.append(use_code(edge, ANA, code).status_code)

    _all_at_once(ask, 100)
    assert answers.count(200) == 1
    assert _count(edge, attendee_sessions) == 1


def test_wrong_tries_at_once_are_counted_one_by_one(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    _all_at_once(lambda: use_code(edge, ANA, wrong(code)), 20)
    assert len(edge.floor.audit(action="code_tried", outcome="wrong")) == 5
    assert use_code(edge, ANA, code).status_code == 403


def test_no_code_lies_readable_among_the_codes_and_no_address_in_the_audit_log(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    with edge.floor.database.reading() as connection:
        for table in metadata.sorted_tables:
            if table.name != "letters":
                text = "\n".join(str(row) for row in connection.execute(select(table)))
                assert f"'{code}'" not in text
                if table.name.startswith("audit"):
                    assert ANA not in text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": ANA},
        {"code": "123456"},
        {"link": "rxl_x", "email": ANA, "code": "123456"},
        {"email": ANA, "code": "12345"},
        {"email": "no address", "code": "123456"},
        {"email": "a\u0000@example.org", "code": "123456"},
        {"email": "a,b@example.org", "code": "123456"},
    ],
)
def test_a_sign_in_is_a_link_or_an_address_with_a_code(
    lone_edge: Edge, body: dict[str, Any]
) -> None:
    assert lone_edge.http.post("/v1/session", json=body).status_code == 422


def test_a_session_set_before_signing_in_becomes_nobody(edge: Edge) -> None:
    """Session fixation: what a stranger put into the browser is worth nothing afterwards."""
    planted = "rxa_" + "A" * 43
    edge.http.cookies.set("railtix", planted)
    code = ask_code(edge, ANA)
    answer = edge.http.post("/v1/session", json={"email": ANA, "code": code})
    assert planted not in answer.headers["set-cookie"]
    edge.http.cookies.clear()
    assert edge.http.get("/v1/wallet", headers=bearer(planted)).status_code == 401


def test_another_sites_page_signs_nobody_in_or_out(edge: Edge) -> None:
    _, link = edge.link()
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert edge.http.post("/v1/session", json={"link": link}, headers=foreign).status_code == 403
    assert edge.http.post("/v1/session", json={"link": link}).status_code == 200
    assert edge.http.delete("/v1/session", headers=foreign).status_code == 403
    assert edge.http.delete("/v1/me/sessions", headers=foreign).status_code == 403
    assert edge.http.get("/v1/wallet").status_code == 200


def test_one_sees_where_one_is_signed_in_and_signs_out_everywhere(edge: Edge) -> None:
    phone = sign_in_by_code(edge, ANA)
    edge.floor.pass_time(minutes=1)
    laptop = sign_in_by_code(edge, ANA)
    other = edge.sign_in()
    seen = edge.http.get("/v1/me/sessions", headers=phone).json()
    assert [each["is_this"] for each in seen] == [False, True]
    assert edge.http.delete("/v1/me/sessions", headers=phone).status_code == 204
    for headers in (phone, laptop):
        assert edge.http.get("/v1/wallet", headers=headers).status_code == 401
    assert edge.http.get("/v1/wallet", headers=other.headers).status_code == 200
    assert edge.floor.audit(action="attendee_signed_out_everywhere")[0].detail == {"sessions": 2}


def test_receipts_by_e_mail_are_the_attendees_own_choice(edge: Edge) -> None:
    headers = sign_in_by_code(edge, ANA)
    wanted = edge.http.patch("/v1/me", json={"pos_receipts": True}, headers=headers)
    assert wanted.json() == {"email": ANA, "pos_receipts": True}
    assert edge.http.patch("/v1/me", json={}, headers=headers).json() == wanted.json()
    assert edge.http.get("/v1/me", headers=headers).json() == wanted.json()
    [record] = edge.floor.audit(action="profile_changed")
    assert record.detail == {"changed": ["pos_receipts"]}


def test_without_an_address_there_are_no_receipts_until_a_code_shows_one(edge: Edge) -> None:
    attendee = edge.sign_in()
    refused = edge.http.patch("/v1/me", json={"pos_receipts": True}, headers=attendee.headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "email_needed")
    code = ask_code(edge, ANA)
    body = {"pos_receipts": True, "email": ANA, "code": wrong(code)}
    assert edge.http.patch("/v1/me", json=body, headers=attendee.headers).status_code == 403
    shown = edge.http.patch("/v1/me", json=body | {"code": code}, headers=attendee.headers)
    assert shown.json() == {"email": ANA, "pos_receipts": True}
    assert edge.http.get("/v1/me", headers=sign_in_by_code(edge, ANA)).json() == shown.json()


def test_nobody_takes_over_anothers_address(edge: Edge) -> None:
    sign_in_by_code(edge, ANA)
    other = edge.sign_in()
    body = {"email": ANA, "code": ask_code(edge, ANA)}
    taken = edge.http.patch("/v1/me", json=body, headers=other.headers)
    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    assert edge.http.get("/v1/me", headers=other.headers).json()["email"] is None
    assert edge.http.patch("/v1/me", json={"email": ANA}, headers=other.headers).status_code == 422


def test_old_codes_and_counts_are_forgotten_and_new_ones_are_not(edge: Edge) -> None:
    code = ask_code(edge, ANA)
    use_code(edge, ANA, wrong(code))
    assert forget_old_secrets(edge.floor.database, edge.floor.now()) == 0
    later = edge.floor.now() + timedelta(days=2)
    assert forget_old_secrets(edge.floor.database, later) > 0
    assert _count(edge, one_time_codes) == _count(edge, secret_tries) == 0


def test_another_process_knows_of_the_tries(lone_edge: Edge) -> None:
    code = ask_code(lone_edge, ANA)
    for _ in range(5):
        use_code(lone_edge, ANA, wrong(code))
    with lone_edge.client() as other:
        answer = other.post("/v1/session", json={"email": ANA, "code": code})
    assert answer.json()["code"] == "code_not_usable"


def _all_at_once(deed: Any, number: int) -> None:
    threads = [threading.Thread(target=deed) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _count(edge: Edge, table: Any) -> int:
    with edge.floor.database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()
