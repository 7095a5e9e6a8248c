import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cloud.__main__ import app
from cloud.access.roles import Role
from cloud.keys import KeyRing
from cloud.operations.event.apply_event import apply_event
from cloud.operations.event.event_document import EventDocument
from cloud.operations.event.keep_version import Edit
from cloud.operations.people.access_tokens import find_holder
from cloud.store.database import Database, migrate
from protocol.ids import EventId, StallId
from tests.cloud.floor import START


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A server's state folder with an event that has a stall."""
    url = f"sqlite:///{tmp_path / 'cloud.sqlite'}"
    migrate(url)
    database = Database(url)
    document = EventDocument.model_validate(
        {"name": "Fair", "currency": "EUR", "stalls": [{"id": "bar", "name": "Bar"}]}
    )
    keys = KeyRing(tmp_path / "keys")
    apply_event(database, keys, EventId("fair"), document, Edit("system:test", START))
    database.close()
    return tmp_path


def test_the_first_admin_is_entered_on_the_server_and_gets_a_link(state: Path) -> None:
    added = _run(state, "console-user", "add", "ana", "--email", "a@b.example", "--role", "admin")
    assert "/console#enrol=rxi_" in added.stdout
    anew = _run(state, "console-user", "new-link", "ana", "--base-url", "https://x.example/")
    assert anew.stdout.startswith("https://x.example/console#enrol=rxi_")
    assert anew.stdout != added.stdout
    [person] = json.loads(_run(state, "console-user", "list", "--json").stdout)
    assert (person["user_name"], person["is_enrolled"], person["grants"]) == (
        "ana",
        False,
        ["admin"],
    )


def test_roles_come_and_go_by_command(state: Path) -> None:
    bo = ("console-user", "add", "bo", "--email", "b@b.example", "--role", "ops", "--event", "fair")
    _run(state, *bo)
    owner = ("bo", "--role", "stall_owner", "--event", "fair", "--stall", "bar")
    _run(state, "console-user", "grant", *owner)
    assert "ops@fair, stall_owner@fair/bar" in _run(state, "console-user", "list").stdout
    _run(state, "console-user", "revoke", *owner)
    _run(state, "console-user", "disable", "bo")
    listed = _run(state, "console-user", "list").stdout
    assert "disabled" in listed
    assert "stall_owner" not in listed


@pytest.mark.parametrize(
    "said",
    [
        ("console-user", "add", "Not A Slug", "--email", "a@b.example", "--role", "ops"),
        ("console-user", "add", "bo", "--email", "nothing", "--role", "ops"),
        ("console-user", "add", "bo", "--email", "a@b.example", "--role", "stall_owner"),
        ("console-user", "grant", "nobody", "--role", "ops"),
        ("console-user", "revoke", "nobody", "--role", "ops"),
        ("console-user", "disable", "nobody"),
        ("console-user", "new-link", "nobody"),
        ("token", "create", "prog", "--role", "stall_owner"),
        ("token", "create", "prog", "--role", "ops", "--event", "fair", "--stall", "bar"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(state: Path, said: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(app, [*said, "--state", str(state)])
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.rstrip().endswith((".", "example", "example.org", "ana-byrne`"))


def test_a_token_is_for_one_event_or_one_stall_and_is_listed_without_itself(state: Path) -> None:
    wide = _run(state, "token", "create", "ana").stdout.strip()
    narrow = ("token", "create", "till", "--role", "stall_owner", "--event", "fair")
    made = _run(state, *narrow, "--stall", "bar").stdout.strip()
    database = Database(f"sqlite:///{state / 'cloud.sqlite'}")
    holder = find_holder(database, made, START)
    database.close()
    assert holder is not None
    fair, bar = EventId("fair"), StallId("bar")
    assert holder.may({Role.STALL_OWNER}, fair, bar)
    assert not holder.may({Role.STALL_OWNER}, fair, StallId("grill"))
    _run(state, "token", "revoke", "ana")
    listed = _run(state, "token", "list").stdout
    assert "stall_owner:till  stall_owner@fair/bar  until" in listed
    assert "ops:ana  ops  revoked" in listed
    as_json = _run(state, "token", "list", "--json").stdout
    assert [each["grant"] for each in json.loads(as_json)] == ["stall_owner@fair/bar", "ops"]
    assert wide not in listed + as_json
    assert made not in listed + as_json


def _run(state: Path, *said: str) -> Result:
    done = CliRunner().invoke(app, [*said, "--state", str(state)])
    assert done.exit_code == 0, done.output
    return done
