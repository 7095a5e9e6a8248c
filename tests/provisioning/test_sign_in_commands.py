"""Who runs an event signs in with name, password and second factor; nothing secret is shown."""

import json
from pathlib import Path

import pytest

from cloud.access.roles import Grant, Role
from protocol.ids import EventId
from tests.cloud.api.crowd import PASSWORD, enter
from tests.provisioning.desk import Ops


@pytest.fixture
def signed_out(desk: Ops) -> Ops:
    desk.environment["RAILTIX_OPS_TOKEN"] = None
    desk.environment["RAILTIX_OPS_URL"] = None
    return desk


def test_who_signed_in_edits_without_saying_where_the_cloud_is(signed_out: Ops) -> None:
    desk, bo = signed_out, enter(signed_out.edge, "bo", Grant(Role.OPS))
    desk.edge.floor.pass_time(minutes=2)
    secrets = f"bo\n{PASSWORD}\n{bo.totp()}\n"
    said = desk.does("sign-in", "--url", f"{desk.url}/", says=secrets)
    assert f"Signed in as bo at {desk.url} until 2026-06-21 06:02 UTC" in said
    kept = desk.home / "config" / "railtix" / "ops-sessions.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    bearer = json.loads(kept.read_text())["sessions"][desk.url]["bearer"]
    assert "ops for every event" in desk.does("whoami")
    assert [each["event_id"] for each in desk.answers("event", "list")] == ["summer-fair"]
    desk.does("event", "set", "summer-fair", "--sale-max", "60.00")
    [record] = desk.edge.floor.audit(action="event_applied")
    assert record.actor == "console:bo"
    everything = (
        said + desk.does("whoami", "--json") + desk.does("event", "versions", "summer-fair")
    )
    assert bearer not in everything
    assert PASSWORD not in everything
    kept.chmod(0o640)
    assert "chmod 600" in desk.refuses("event", "list")
    kept.chmod(0o600)
    assert "bo is signed out" in desk.does("sign-out")
    assert bearer not in kept.read_text()
    gone = desk.edge.http.get("/v1/ops/events", headers={"Authorization": f"Bearer {bearer}"})
    assert gone.status_code == 401
    assert "nobody is signed in at" in desk.refuses("event", "list", "--url", desk.url)
    assert "Nobody is signed in" in desk.does("sign-out", "--url", desk.url)


def test_a_session_that_is_over_says_so_and_what_to_do(signed_out: Ops) -> None:
    desk, bo = signed_out, enter(signed_out.edge, "bo", Grant(Role.OPS))
    for minutes in (2, 13 * 60):
        desk.edge.floor.pass_time(minutes=2)
        secrets = f"{PASSWORD}\n{bo.totp()[:3]} {bo.totp()[3:]}\n"
        desk.does("sign-in", "--url", desk.url, "--user", "bo", says=secrets)
        desk.edge.floor.pass_time(minutes=minutes)
    for command in (("event", "list"), ("event", "set", "summer-fair", "--sale-max", "9")):
        assert "is over" in desk.refuses(*command)
        assert "railtix-ops sign-in" in desk.refuses(*command)
    assert "was ended" in desk.refuses("whoami")


def test_a_role_for_one_event_reaches_no_other(signed_out: Ops) -> None:
    desk = signed_out
    winter = {"name": "Winter", "currency": "EUR", "stalls": [{"id": "bar", "name": "Bar"}]}
    edge = desk.edge
    edge.http.put("/v1/ops/events/winter-fair", json=winter, headers=edge.ops).raise_for_status()
    bo = enter(edge, "bo", Grant(Role.OPS, EventId("winter-fair")))
    desk.edge.floor.pass_time(minutes=2)
    desk.does("sign-in", "--url", desk.url, "--user", "bo", says=f"{PASSWORD}\n{bo.totp()}\n")
    assert "ops for winter-fair" in desk.does("whoami")
    assert [each["event_id"] for each in desk.answers("event", "list")] == ["winter-fair"]
    for command in (
        ("event", "show", "summer-fair"),
        ("event", "versions", "summer-fair"),
        ("policy", "status", "summer-fair"),
        ("product", "add", "summer-fair", "bar", "1", "x", "1"),
    ):
        assert "needs the role ops here" in desk.refuses(*command)


def test_wrong_secrets_are_refused_and_a_password_never_goes_in_the_clear(
    signed_out: Ops,
) -> None:
    desk = signed_out
    told = desk.refuses("sign-in", "--url", desk.url, says=f"bo\n{PASSWORD}\n000000\n")
    assert PASSWORD not in told
    assert not (desk.home / "config").exists()
    for url, why in (
        ("http://credits.example.org", "in the clear"),
        ("http://127.0.0.1.example.org", "in the clear"),
        ("credits.example.org", "no address"),
        ("ftp://localhost", "no address"),
    ):
        assert why in desk.refuses("sign-in", "--url", url)


def test_a_programs_token_wins_over_a_session_and_settings_say_where(signed_out: Ops) -> None:
    desk, bo = signed_out, enter(signed_out.edge, "bo")
    desk.edge.floor.pass_time(minutes=2)
    desk.does("sign-in", "--url", desk.url, "--user", "bo", says=f"{PASSWORD}\n{bo.totp()}\n")
    assert "may do nothing yet" in desk.does("whoami")
    token = Path("token")
    token.write_text(desk.edge.ops_token)
    token.chmod(0o600)
    assert len(desk.answers("event", "list", "--token-file", "token")) == 1
    settings = Path("ops.toml")
    settings.write_text(f'url = "{desk.url}"\ntoken_file = "{token.absolute()}"\n')
    assert len(desk.answers("--config", "ops.toml", "event", "list")) == 1
    settings.write_text('url = "http://127.0.0.1:1"\n')
    assert "127.0.0.1:1" in desk.refuses("--config", "ops.toml", "event", "list")
    settings.write_text("urls = 1\n")
    assert "urls" in desk.refuses("--config", "ops.toml", "event", "list")
    assert "there is no" in desk.refuses("--config", "gone.toml", "event", "list")
    assert "No such file" in desk.refuses("--ca", "gone.pem", "event", "list")
