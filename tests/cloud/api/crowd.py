"""People at the edge: they read their letters, carry an authenticator, and sign in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyotp import parse_uri
from sqlalchemy import select

from cloud.access.roles import Grant, Role
from cloud.operations.people.access_tokens import create_token
from cloud.operations.people.console_people import add_person
from cloud.operations.refusals import Refusal
from cloud.store.letters import read_letter
from cloud.store.tables import letters
from protocol.ids import EventId, StallId
from tests.cloud.api.edge import URL, Edge

PASSWORD = "umbrella canyon 88"  # of people who are made up
Headers = dict[str, str]


@dataclass
class Person:
    """Someone who took their invitation."""

    edge: Edge
    user_name: str
    uri: str = field(repr=False)
    headers: Headers

    def totp(self, steps_ahead: int = 0) -> str:
        return totp(self.uri, self.edge.floor.now(), steps_ahead)

    def sign_in(self, **changes: Any) -> Any:
        said = {
            "user_name": self.user_name,
            "password": PASSWORD,
            "totp": self.totp(),
            "bearer": True,
        }
        return self.edge.http.post("/v1/console/session", json=said | changes)

    def may(self) -> list[str]:
        answer = self.edge.http.get("/v1/console/session", headers=self.headers)
        assert answer.status_code == 200, answer.text
        return [each["role"] for each in answer.json()["grants"]]


def totp(uri: str, now: datetime, steps_ahead: int = 0) -> str:
    return parse_uri(uri).generate_otp(int(now.timestamp()) // 30 + steps_ahead)


def post(edge: Edge, to_address: str) -> list[Any]:
    """The letters to this address, the newest last."""
    with edge.floor.database.reading() as connection:
        rows = connection.execute(
            select(letters.c.content)
            .where(letters.c.to_address == to_address)
            .order_by(letters.c.letter_id)
        )
        return [read_letter(row.content) for row in rows]


def newest_code(edge: Edge, email: str) -> str:
    return post(edge, email.lower())[-1].code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def ask_code(edge: Edge, email: str) -> str:
    answer = edge.http.post("/v1/sign-in/codes", json={"email": email})
    assert (answer.status_code, answer.json()) == (202, {"expires_in_s": 600}), answer.text
    return newest_code(edge, email)


def use_code(edge: Edge, email: str, code: str) -> Any:
    return edge.http.post("/v1/session", json={"email": email, "code": code, "bearer": True})


def sign_in_by_code(edge: Edge, email: str) -> Headers:
    answer = use_code(edge, email, ask_code(edge, email))
    assert answer.status_code == 200, answer.text
    return bearer(answer.json()["bearer"])


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def token(edge: Edge, role: Role, event: str | None = None, stall: str | None = None) -> Headers:
    """Of a program with this role."""
    made = create_token(
        edge.floor.database,
        role,
        "prog",
        None,
        edge.floor.now(),
        event_id=None if event is None else EventId(event),
        stall_id=None if stall is None else StallId(stall),
    )
    return bearer(made.token)


def invite(edge: Edge, user_name: str, *grants: Grant) -> str:
    """The secret in the invitation of somebody new."""
    email = f"{user_name}@example.org"
    invited = add_person(
        edge.floor.database,
        user_name,
        email,
        grants,
        URL,
        actor="system:test",
        now=edge.floor.now(),
    )
    assert not isinstance(invited, Refusal), invited
    return link_in_post(edge, user_name)


def link_in_post(edge: Edge, user_name: str) -> str:
    link: str = post(edge, f"{user_name}@example.org")[-1].link
    return link.partition("#enrol=")[2]


def take(edge: Edge, link: str) -> Person:
    """Take an invitation; whoever does is signed in."""
    begun = edge.http.post("/v1/console/enrol", json={"link": link, "password": PASSWORD})
    assert begun.status_code == 200, begun.text
    uri = begun.json()["provisioning_uri"]
    said = {"link": link, "totp": totp(uri, edge.floor.now()), "bearer": True}
    answer = edge.http.post("/v1/console/enrol/confirm", json=said)
    assert answer.status_code == 200, answer.text
    return Person(edge, begun.json()["user_name"], uri, bearer(answer.json()["bearer"]))


def enter(edge: Edge, user_name: str, *grants: Grant) -> Person:
    return take(edge, invite(edge, user_name, *grants))


def is_refused(answer: Any) -> bool:
    """Whether it is the route's own rule that says no."""
    said: Mapping[str, Any] = answer.json() if answer.status_code in {401, 403} else {}
    return said.get("code") in {"not_signed_in", "not_allowed"}
