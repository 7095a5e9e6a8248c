import threading
from typing import Any

import pytest
from sqlalchemy import select

from cloud.access.roles import Grant, Role
from cloud.api.access import console_cookie_name
from cloud.operations.people.console_people import renew_invitation
from cloud.store.tables import console_sessions, metadata
from protocol.ids import EventId
from tests.cloud.api.crowd import (
    PASSWORD,
    Person,
    bearer,
    enter,
    invite,
    is_refused,
    link_in_post,
    take,
    totp,
    wrong,
)
from tests.cloud.api.edge import URL, Edge

ADMIN = Grant(Role.ADMIN)
FINANCE = Grant(Role.FINANCE)


def test_an_invitation_a_password_and_a_first_code_make_somebody_of_the_console(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN, FINANCE)
    assert ana.may() == ["admin", "finance"]
    assert edge.http.get("/v1/console/people", headers=ana.headers).status_code == 200
    [record] = edge.floor.audit(action="console_enrolled")
    assert (record.actor, record.subject) == ("console:ana", "console:ana")


def test_an_invitation_works_once_ends_after_three_days_and_gives_way_to_a_newer_one(
    edge: Edge,
) -> None:
    used = invite(edge, "ana", ADMIN)
    take(edge, used)
    older = invite(edge, "bo", FINANCE)
    renew_invitation(edge.floor.database, "bo", URL, actor="system:test", now=edge.floor.now())
    newer = link_in_post(edge, "bo")
    edge.floor.pass_time(hours=73)
    late = newer
    for link in (used, older, late, "rxi_" + "A" * 43, "", "rxa_" + "A" * 43):
        begun = edge.http.post("/v1/console/enrol", json={"link": link, "password": PASSWORD})
        assert (begun.status_code, begun.json()["code"]) == (403, "link_not_usable")
        said = {"link": link, "totp": "123456"}
        assert edge.http.post("/v1/console/enrol/confirm", json=said).status_code == 403


def test_nothing_counts_before_the_first_code_and_a_closed_page_may_begin_anew(edge: Edge) -> None:
    link = invite(edge, "ana", ADMIN)
    begin = {"link": link, "password": PASSWORD}
    first = edge.http.post("/v1/console/enrol", json=begin).json()["provisioning_uri"]
    second = edge.http.post("/v1/console/enrol", json=begin).json()["provisioning_uri"]
    now = edge.floor.now()
    assert Person(edge, "ana", second, {}).sign_in().status_code == 403
    old = {"link": link, "totp": totp(first, now)}
    if totp(first, now) != totp(second, now):
        assert edge.http.post("/v1/console/enrol/confirm", json=old).status_code == 403
    new = {"link": link, "totp": totp(second, now)}
    assert edge.http.post("/v1/console/enrol/confirm", json=new).status_code == 200


@pytest.mark.parametrize("password", ["short", "a" * 20, "my-name-is-analinda"])
def test_a_weak_password_is_refused_and_the_invitation_stays(edge: Edge, password: str) -> None:
    link = invite(edge, "analinda", ADMIN)
    weak = edge.http.post("/v1/console/enrol", json={"link": link, "password": password})
    assert (weak.status_code, weak.json()["code"]) == (422, "password_not_allowed")
    assert password not in weak.text
    take(edge, link)


def test_name_password_and_code_sign_in(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    answer = ana.sign_in()
    assert answer.status_code == 200, answer.text
    headers = bearer(answer.json()["bearer"])
    who = edge.http.get("/v1/console/session", headers=headers).json()
    assert who == {
        "user_name": "ana",
        "grants": [{"role": "admin", "event_id": None, "stall_id": None}],
    }
    [*_, record] = edge.floor.audit(action="console_signed_in")
    assert (record.actor, record.outcome) == ("console:ana", "done")


def test_a_wrong_name_a_wrong_password_and_a_wrong_code_are_told_apart_by_nothing(
    edge: Edge,
) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    answers = [
        ana.sign_in(user_name="nobody"),
        ana.sign_in(password=PASSWORD + "x"),
        ana.sign_in(totp=wrong(ana.totp())),
        ana.sign_in(password="", totp="000000"),
    ]
    said = {(each.status_code, each.json()["code"], each.json()["detail"]) for each in answers}
    assert len(said) == 1
    assert answers[0].status_code == 403
    assert len(edge.floor.audit(action="console_signed_in", outcome="refused")) == 4


def test_a_code_that_was_seen_over_a_shoulder_works_no_second_time(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    replayed = ana.sign_in()
    assert replayed.status_code == 403, "the code that confirmed the invitation"
    edge.floor.pass_time(seconds=30)
    code = ana.totp()
    assert ana.sign_in(totp=code).status_code == 200
    assert ana.sign_in(totp=code).status_code == 403
    edge.floor.pass_time(seconds=30)
    assert ana.sign_in(totp=code).status_code == 403, "its step is near enough, and spent"
    assert edge.floor.audit(action="console_signed_in", outcome="code_used_before")
    assert ana.sign_in().status_code == 200


def test_an_older_code_does_not_count_after_a_newer_one(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=2)
    assert ana.sign_in(totp=ana.totp(1)).status_code == 200
    assert ana.sign_in(totp=ana.totp(0)).status_code == 403


def test_one_code_shown_by_many_at_once_is_one_session(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    code, answers = ana.totp(), list[int]()
    threads = [
        threading.Thread(target=lambda: answers.append(ana.sign_in(totp=code).status_code))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 403, 403, 403, 403]


def test_guessing_is_locked_out_doubling_and_audited_and_the_right_one_waits_too(
    edge: Edge,
) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    for _ in range(5):
        assert ana.sign_in(password="wrong wrong wrong").status_code == 403
    locked = ana.sign_in()
    assert (locked.status_code, locked.json()["code"]) == (429, "too_many_tries")
    assert locked.headers["retry-after"] == "30"
    assert edge.floor.audit(action="console_signed_in", outcome="locked_out")
    edge.floor.pass_time(seconds=31)
    assert ana.sign_in(totp=wrong(ana.totp())).status_code == 403
    assert ana.sign_in().headers["retry-after"] == "60"
    edge.floor.pass_time(seconds=61)
    assert ana.sign_in().status_code == 200
    edge.floor.pass_time(seconds=31)
    assert ana.sign_in(totp=wrong(ana.totp())).status_code == 403, "the count began anew"
    assert ana.sign_in().status_code == 200


def test_an_unknown_name_is_locked_out_like_a_known_one(edge: Edge) -> None:
    nobody = Person(edge, "nobody", enter(edge, "ana", ADMIN).uri, {})
    answers = [nobody.sign_in() for _ in range(6)]
    assert [each.status_code for each in answers] == [403] * 5 + [429]


def test_tries_at_once_gain_nothing(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    answers = list[int]()
    threads = [
        threading.Thread(
            target=lambda: answers.append(ana.sign_in(totp=wrong(ana.totp())).status_code)
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [403] * 5 + [429] * 7


def test_the_session_lives_in_a_cookie_of_its_own_that_no_other_site_can_use(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(minutes=1)
    said = {"user_name": "ana", "password": PASSWORD, "totp": ana.totp()}
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert edge.http.post("/v1/console/session", json=said, headers=foreign).status_code == 403
    cookie = edge.http.post("/v1/console/session", json=said).headers["set-cookie"]
    assert cookie.startswith(f"{console_cookie_name(URL)}=rxc_")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert console_cookie_name("https://x") == "__Host-railtix-console"
    assert edge.http.get("/v1/console/people").status_code == 200
    body = {"user_name": "bo", "email": "bo@example.org"}
    other = edge.http.post("/v1/console/people", json=body, headers=foreign)
    assert other.status_code == 403
    assert edge.http.post("/v1/console/people", json=body).status_code == 201
    assert edge.http.get("/v1/wallet").status_code == 401, "no attendee's session"


def test_a_session_ends_after_twelve_hours_and_by_signing_out(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    edge.floor.pass_time(hours=11)
    assert ana.may() == ["admin"]
    assert edge.http.delete("/v1/console/session", headers=ana.headers).status_code == 204
    assert edge.http.get("/v1/console/session", headers=ana.headers).status_code == 401
    ana.headers = bearer(ana.sign_in().json()["bearer"])
    edge.floor.pass_time(hours=12)
    assert edge.http.get("/v1/console/session", headers=ana.headers).status_code == 401


def test_a_session_planted_before_signing_in_becomes_nobody(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    planted = "rxc_" + "A" * 43
    edge.http.cookies.set(console_cookie_name(URL), planted)
    edge.floor.pass_time(minutes=1)
    said = {"user_name": "ana", "password": PASSWORD, "totp": ana.totp()}
    answer = edge.http.post("/v1/console/session", json=said)
    assert answer.status_code == 200
    assert planted not in answer.headers["set-cookie"]
    edge.http.cookies.clear()
    assert edge.http.get("/v1/console/session", headers=bearer(planted)).status_code == 401


def test_an_admin_enters_somebody_whose_invitation_goes_to_them_alone(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    grants = [{"role": "stall_owner", "event_id": "summer-fair", "stall_id": "bar"}]
    body = {"user_name": "bo", "email": "Bo@Example.org", "grants": grants}
    added = edge.http.post("/v1/console/people", json=body, headers=ana.headers)
    assert added.status_code == 201, added.text
    assert "rxi_" not in added.text, "an admin must not become them"
    bo = take(edge, link_in_post(edge, "bo"))
    assert bo.may() == ["stall_owner"]
    people = edge.http.get("/v1/console/people", headers=ana.headers).json()
    assert [(each["user_name"], each["is_enrolled"], each["sessions"]) for each in people] == [
        ("ana", True, 1),
        ("bo", True, 1),
    ]
    [held] = people[1]["grants"]
    assert (held["granted_by"], held["stall_id"]) == ("console:ana", "bar")
    again = edge.http.post("/v1/console/people", json=body, headers=ana.headers)
    assert (again.status_code, again.json()["code"]) == (409, "person_known")


@pytest.mark.parametrize(
    ("grant", "code"),
    [
        ({"role": "stall_owner"}, "grant_not_allowed"),
        ({"role": "stall_owner", "event_id": "summer-fair"}, "grant_not_allowed"),
        ({"role": "ops", "event_id": "summer-fair", "stall_id": "bar"}, "grant_not_allowed"),
        ({"role": "ops", "event_id": "winter-fair"}, "event_unknown"),
        (
            {"role": "stall_owner", "event_id": "summer-fair", "stall_id": "pier"},
            "stall_unknown",
        ),
    ],
)
def test_a_grant_names_a_place_that_is_there_and_fits_its_role(
    edge: Edge, grant: dict[str, str], code: str
) -> None:
    ana = enter(edge, "ana", ADMIN)
    enter(edge, "bo")
    refused = _grant(edge, ana, "bo", grant)
    assert refused.json()["code"] == code


def test_a_role_counts_from_the_next_request_on_and_its_end_too(edge: Edge) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo")
    assert is_refused(edge.http.get("/v1/ops/events", headers=bo.headers))
    held = _grant(edge, ana, "bo", {"role": "ops"})
    assert held.status_code == 201
    assert _grant(edge, ana, "bo", {"role": "ops"}).json() == held.json(), "twice is once"
    assert edge.http.get("/v1/ops/events", headers=bo.headers).status_code == 200
    address = f"/v1/console/people/bo/grants/{held.json()['grant_id']}"
    assert edge.http.delete(address, headers=ana.headers).status_code == 204
    assert is_refused(edge.http.get("/v1/ops/events", headers=bo.headers))
    gone = edge.http.delete(address, headers=ana.headers)
    assert (gone.status_code, gone.json()["code"]) == (404, "grant_unknown")


def test_nobody_grants_themselves_anything_by_any_means(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    own = _grant(edge, ana, "ana", {"role": "finance"})
    assert (own.status_code, own.json()["code"]) == (403, "not_allowed")
    from cloud.operations.people.access_tokens import create_token

    made = create_token(edge.floor.database, Role.ADMIN, "ana", None, edge.floor.now())
    by_token = edge.http.post(
        "/v1/console/people/ana/grants", json={"role": "finance"}, headers=bearer(made.token)
    )
    assert by_token.status_code == 403
    assert ana.may() == ["admin"]


def test_disabling_ends_sessions_invitations_and_signing_in_at_once(edge: Edge) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo", FINANCE)
    renew_invitation(edge.floor.database, "bo", URL, actor="system:test", now=edge.floor.now())
    link = link_in_post(edge, "bo")
    edge.floor.pass_time(minutes=1)
    assert _disable(edge, ana, "bo").status_code == 204
    assert edge.http.get("/v1/console/session", headers=bo.headers).status_code == 401
    assert bo.sign_in().status_code == 403
    begun = edge.http.post("/v1/console/enrol", json={"link": link, "password": PASSWORD})
    assert begun.status_code == 403
    invited = edge.http.post("/v1/console/people/bo/invitation", headers=ana.headers)
    assert (invited.status_code, invited.json()["code"]) == (409, "person_disabled")


def test_the_last_admin_who_can_sign_in_stays_one(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    invite(edge, "bo", ADMIN)
    enter(edge, "cy", Grant(Role.ADMIN, EventId("summer-fair")))
    people = edge.http.get("/v1/console/people", headers=ana.headers).json()
    grant_id = people[0]["grants"][0]["grant_id"]
    address = f"/v1/console/people/ana/grants/{grant_id}"
    for refused in (_disable(edge, ana, "ana"), edge.http.delete(address, headers=ana.headers)):
        assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")
    bo = take(edge, link_in_post(edge, "bo"))
    assert _disable(edge, bo, "ana").status_code == 204


def test_two_admins_who_disable_each_other_at_once_leave_one(edge: Edge) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo", ADMIN)
    threads = [
        threading.Thread(target=_disable, args=(edge, ana, "bo")),
        threading.Thread(target=_disable, args=(edge, bo, "ana")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [
        person
        for person in (ana, bo)
        if edge.http.get("/v1/console/session", headers=person.headers).status_code == 200
    ]
    assert len(left) == 1


def test_two_admins_who_end_each_others_role_at_once_leave_one(edge: Edge) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo", ADMIN)
    people = edge.http.get("/v1/console/people", headers=ana.headers).json()
    held = {each["user_name"]: each["grants"][0]["grant_id"] for each in people}

    def end(who: Person, whose: str) -> None:
        address = f"/v1/console/people/{whose}/grants/{held[whose]}"
        edge.http.delete(address, headers=who.headers)

    threads = [
        threading.Thread(target=end, args=(ana, "bo")),
        threading.Thread(target=end, args=(bo, "ana")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([ana.may(), bo.may()]) == [[], ["admin"]]


def test_whoever_lost_their_phone_keeps_the_old_way_until_the_new_one_is_confirmed(
    edge: Edge,
) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo", FINANCE)
    edge.floor.pass_time(minutes=1)
    assert (
        edge.http.post("/v1/console/people/bo/invitation", headers=ana.headers).status_code == 201
    )
    link = link_in_post(edge, "bo")
    edge.http.post("/v1/console/enrol", json={"link": link, "password": PASSWORD})
    assert bo.sign_in().status_code == 200
    anew = take(edge, link)
    assert edge.http.get("/v1/console/session", headers=bo.headers).status_code == 401
    edge.floor.pass_time(minutes=1)
    assert anew.sign_in().status_code == 200
    if bo.totp() != anew.totp():
        assert bo.sign_in().status_code == 403


def test_an_admin_signs_somebody_out_everywhere(edge: Edge) -> None:
    ana, bo = enter(edge, "ana", ADMIN), enter(edge, "bo", FINANCE)
    ended = edge.http.delete("/v1/console/people/bo/sessions", headers=ana.headers)
    assert ended.json() == {"sessions": 1}
    assert edge.http.get("/v1/console/session", headers=bo.headers).status_code == 401
    assert ana.may() == ["admin"]
    unknown = edge.http.delete("/v1/console/people/nobody/sessions", headers=ana.headers)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "person_unknown")


def test_neither_password_nor_secret_nor_session_lies_readable_in_the_database(edge: Edge) -> None:
    ana = enter(edge, "ana", ADMIN)
    secret = ana.uri.partition("secret=")[2].partition("&")[0]
    assert len(secret) == 32
    session = ana.headers["Authorization"].removeprefix("Bearer ")
    with edge.floor.database.reading() as connection:
        for table in metadata.sorted_tables:
            text = "\n".join(str(row) for row in connection.execute(select(table)))
            for each in (PASSWORD, secret, session, session[4:]):
                assert each not in text, table.name
        assert connection.execute(select(console_sessions.c.hash)).scalar_one() != session


def test_a_password_in_no_alphabet_at_all_is_no_fault(lone_edge: Edge) -> None:
    ana = enter(lone_edge, "ana", ADMIN)
    for password in ("\u0000" * 20, "пароль длинный очень", "🦊" * 30):
        assert ana.sign_in(password=password).status_code in {403, 429}
    broken = b'{"user_name":"ana","password":"\\ud800","totp":"123456"}'
    answer = lone_edge.http.post(
        "/v1/console/session", content=broken, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422


def _grant(edge: Edge, who: Person, whom: str, grant: dict[str, str]) -> Any:
    address = f"/v1/console/people/{whom}/grants"
    return edge.http.post(address, json=grant, headers=who.headers)


def _disable(edge: Edge, who: Person, whom: str) -> Any:
    return edge.http.post(f"/v1/console/people/{whom}/disable", headers=who.headers)
