"""Every operation of the OpenAPI document, asked by everybody: who gets past its rule, and where.

The rules are reviewed in docs/people.md. An operation that is not in its table fails here, and so
does a table, a document or a server that says something else than the others.
"""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import insert

from cloud.access.pace import Pace
from cloud.access.roles import Grant, Role
from cloud.api.app import make_app
from cloud.api.limits import Limits
from cloud.operations.people.access_tokens import revoke_tokens
from cloud.operations.people.console_people import add_person
from cloud.operations.people.console_sessions import begin_session
from cloud.operations.people.sign_in_attendee import exchange_link, invite, sign_out
from cloud.settings import LimitSettings
from cloud.store.tables import events, stalls
from protocol.ids import EventId, StallId
from tests.cloud.api.crowd import Headers, bearer, is_refused, token
from tests.cloud.api.edge import URL, Edge, asking, serving
from tests.cloud.floor import EVENT

PEOPLE: Final = Path(__file__).parents[3] / "docs" / "people.md"
_ROW: Final = re.compile(
    r"\| `(GET|PUT|POST|PATCH|DELETE) (/[^`]*)` \| ([a-z_, ]+) \| ([a-z-]+) \|"
)
_BOUNDLESS: Final = Pace(1_000_000, 1)
ELSEWHERE, STALL, OTHER_STALL = EventId("winter-fair"), StallId("bar"), StallId("grill")
_IN_PATH: Final = {
    "event_id": EVENT,
    "stall_id": STALL,
    "user_name": "nobody-here",
    "device_id": "till-77",
    "staff_id": "mia",
}
_NOTHING: Final = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True)
class Rule:
    who: frozenset[str]
    scope: str


@dataclass(frozen=True)
class Operation:
    method: str
    template: str
    said: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def address(self) -> str:
        """With names of things that are there where that matters to the rule."""
        return re.sub(r"{(\w+)}", lambda found: _IN_PATH.get(found[1], _NOTHING), self.template)


@dataclass(frozen=True)
class Asker:
    """Somebody with something to show, and what that is worth."""

    name: str
    kind: str
    """`nobody`, `attendee`, `console` (a session) or `program` (an access token)."""
    grants: tuple[Grant, ...] = ()


PLACES: Final = {
    "every event": (None, None),
    "this event": (EVENT, None),
    "another event": (ELSEWHERE, None),
}
STALLS: Final = {
    "this stall": (EVENT, STALL),
    "another stall": (EVENT, OTHER_STALL),
    "the same stall of another event": (ELSEWHERE, STALL),
}


def _askers() -> Iterator[Asker]:
    for name in ("anonymous", "made-up tokens", "an ended session", "an ended console session"):
        yield Asker(name, "nobody")
    yield Asker("a revoked token", "nobody")
    yield Asker("an attendee", "attendee")
    yield Asker("console, nothing granted", "console")
    for role in Role:
        places = STALLS if role is Role.STALL_OWNER else PLACES
        for place, (event, stall) in places.items():
            grants = (Grant(role, event, stall),)
            yield Asker(f"program, {role.value} at {place}", "program", grants)
    yield Asker("console, everything", "console", tuple(Grant(role) for role in PLAIN_ROLES))


PLAIN_ROLES: Final = tuple(role for role in Role if role is not Role.STALL_OWNER)
ASKERS: Final = tuple(_askers())


def may(rule: Rule, asker: Asker) -> bool:
    """What the reviewed rule promises."""
    if "anyone" in rule.who:
        return True
    if "attendee" in rule.who:
        return asker.kind == "attendee"
    if "console" in rule.who:
        return asker.kind == "console"
    held = [grant for grant in asker.grants if grant.role.value in rule.who]
    match rule.scope:
        case "everywhere":
            return any(grant.event_id is None for grant in held)
        case "event":
            return any(grant.event_id in {None, EVENT} for grant in held)
        case "stall":
            return any(
                grant.event_id in {None, EVENT} and grant.stall_id in {None, STALL}
                for grant in held
            )
        case "anywhere":
            return bool(held)
        case _:
            raise AssertionError(f"{rule.scope} is no place")


@cache
def reviewed() -> dict[str, Rule]:
    """The table of docs/people.md."""
    rows = _ROW.findall(PEOPLE.read_text(encoding="utf-8"))
    rules = {
        f"{method} {template}": Rule(frozenset(who.split(", ")), scope)
        for method, template, who, scope in rows
    }
    assert len(rules) == len(rows), "an operation stands there twice"
    return rules


def test_every_operation_has_a_reviewed_rule_and_every_rule_an_operation(lone_edge: Edge) -> None:
    said = {each.name: _said(each) for each in _operations(lone_edge)}
    missing = [
        f"| `{name}` | {', '.join(sorted(rule.who))} | {rule.scope} |"
        for name, rule in said.items()
        if name not in reviewed()
    ]
    assert not missing, "review these, and enter them in docs/people.md:\n" + "\n".join(missing)
    assert not set(reviewed()) - set(said), "these are no longer there"


def test_the_document_says_of_each_operation_what_was_reviewed(lone_edge: Edge) -> None:
    said = {each.name: _said(each) for each in _operations(lone_edge)}
    assert said == {name: reviewed()[name] for name in said}


def test_the_document_says_by_what_one_is_known_and_how_one_is_refused(lone_edge: Edge) -> None:
    document = lone_edge.http.get("/v1/openapi.json").json()
    schemes = set(document["components"]["securitySchemes"])
    for each in _operations(lone_edge):
        named = {name for option in each.said["security"] for name in option}
        assert named <= schemes
        is_open = "anyone" in reviewed()[each.name].who
        assert bool(named) is not is_open, each.name
        assert is_open or {"401", "429"} <= set(each.said["responses"]), each.name


def test_each_operation_is_open_to_whom_its_rule_names_and_shut_to_all_others(
    lone_edge: Edge,
) -> None:
    # On one database: the rules are asked before any is.
    edge = lone_edge
    _enter_other_event(edge)
    operations = tuple(_operations(edge))
    wrong: list[str] = []
    with _without_limits(edge) as http:
        for asker in ASKERS:
            headers = _headers(edge, asker)
            for each in operations:
                # A DELETE may end the very session that asks: it gets one of its own.
                shown = _headers(edge, asker) if each.method == "DELETE" else headers
                got_past = not _is_refused(http, each, shown)
                if got_past is not may(reviewed()[each.name], asker):
                    answer = "got past" if got_past else "was refused at"
                    wrong.append(f"{asker.name} {answer} {each.name}")
    assert not wrong, "\n".join(wrong)


def test_what_one_attendee_made_is_not_there_for_another(edge: Edge) -> None:
    owner, other = edge.sign_in(), edge.sign_in()
    mine = {"payment_id": edge.open_top_up(owner).json()["id"]}
    for each in _operations(edge):
        named = set(re.findall(r"{(\w+)}", each.template))
        if "attendee" not in reviewed()[each.name].who or not named:
            continue
        address = re.sub(r"{(\w+)}", lambda found: mine.get(found[1], _NOTHING), each.template)
        headers = other.headers | {"Idempotency-Key": "k" * 20}
        theirs = edge.http.request(each.method, address, headers=headers)
        assert theirs.status_code == 404, each.name
        if named <= set(mine) and each.method == "GET":
            assert edge.http.get(address, headers=owner.headers).status_code == 200


def _operations(edge: Edge) -> list[Operation]:
    document = edge.http.get("/v1/openapi.json").json()
    return [
        Operation(method.upper(), template, said)
        for template, methods in document["paths"].items()
        for method, said in methods.items()
    ]


def _said(operation: Operation) -> Rule:
    scope = operation.said.get("x-scope")
    return Rule(frozenset(operation.said["x-roles"]), "own" if scope is None else scope)


def _is_refused(http: httpx.Client, operation: Operation, headers: Headers) -> bool:
    """By its rule. What is sent has nothing in it, so that whoever gets past changes nothing."""
    body: dict[str, Any] = {"json": {}} if operation.method in {"PUT", "POST", "PATCH"} else {}
    request = http.build_request(operation.method, operation.address, headers=headers, **body)
    answer = http.send(request, stream=True)
    try:
        if answer.status_code in {401, 403}:
            answer.read()
        return is_refused(answer)
    finally:
        answer.close()


def _headers(edge: Edge, asker: Asker) -> Headers:
    database, now = edge.floor.database, edge.floor.now()
    match asker.name, asker.kind:
        case "anonymous", _:
            return {}
        case "made-up tokens", _:
            return bearer("rxo_" + "A" * 43)
        case "an ended session", _:
            headers = _attendee(edge)
            sign_out(database, headers["Authorization"].removeprefix("Bearer "), now)
            return headers
        case "an ended console session", _:
            headers = _console(edge, "gone", tuple(Grant(role) for role in PLAIN_ROLES))
            edge.http.delete("/v1/console/session", headers=headers)
            return headers
        case "a revoked token", _:
            headers = token(edge, Role.ADMIN)
            revoke_tokens(database, Role.ADMIN, "prog", now)
            return headers
        case _, "attendee":
            return _attendee(edge)
        case _, "console":
            return _console(edge, f"user-{len(asker.grants)}", asker.grants)
        case _:
            [grant] = asker.grants
            return token(edge, grant.role, grant.event_id, grant.stall_id)


def _attendee(edge: Edge) -> Headers:
    invitation = invite(edge.floor.database, None, actor="test", now=edge.floor.now())
    session = exchange_link(edge.floor.database, invitation.link_token, edge.floor.now())
    return bearer(getattr(session, "token", ""))


def _console(edge: Edge, user_name: str, grants: tuple[Grant, ...]) -> Headers:
    """Signed in without the ceremony; tests/cloud/api/test_console.py goes through it."""
    now = edge.floor.now()
    email = f"{user_name}@example.org"
    add_person(edge.floor.database, user_name, email, grants, URL, actor="system:test", now=now)
    with edge.floor.database.transaction() as connection:
        return bearer(begin_session(connection, user_name, now).token)


def _enter_other_event(edge: Edge) -> None:
    with edge.floor.database.transaction() as connection:
        connection.execute(
            insert(events).values(
                event_id=ELSEWHERE,
                name="Winter fair",
                currency="EUR",
                created_at=edge.floor.now(),
            )
        )
        connection.execute(insert(stalls).values(event_id=ELSEWHERE, stall_id=STALL, name="Bar"))


@contextmanager
def _without_limits(edge: Edge) -> Generator[httpx.Client]:
    """Thousands of refusals from one address."""
    settings = LimitSettings(
        codes=_BOUNDLESS,
        sign_in_failures=_BOUNDLESS,
        token_failures=_BOUNDLESS,
        pos_failures=_BOUNDLESS,
        webhook_failures=_BOUNDLESS,
    )
    with (
        serving(make_app(replace(edge.cloud, limits=Limits(settings)))) as url,
        asking(url) as http,
    ):
        yield http


def test_a_rule_that_is_declared_wrongly_is_found() -> None:
    """The oracle itself: each kind of rule says yes to somebody and no to somebody."""
    for who, scope in (
        ("attendee", "own"),
        ("console", "own"),
        ("ops", "everywhere"),
        ("ops", "event"),
        ("stall_owner", "stall"),
        ("finance", "anywhere"),
    ):
        verdicts = {may(Rule(frozenset({who}), scope), asker) for asker in ASKERS}
        assert verdicts == {True, False}, (who, scope)
    with pytest.raises(AssertionError, match="no place"):
        may(Rule(frozenset({"ops"}), "own"), ASKERS[-1])
