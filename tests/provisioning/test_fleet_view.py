import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from bench.fleet_picture import NOW, fleet, picture
from cloud.operations.fleet.read_devices import Trouble
from provisioning.cli.app import app
from provisioning.cli.fleet_feed import Away, Told
from provisioning.cli.fleet_table import (
    _GRAVITY,
    age,
    changes,
    columns_for,
    summary,
    table_of,
    worst_first,
)
from provisioning.cli.fleet_view import _WORDS
from provisioning.cli.fleet_watch import View, draw, watch_lines

WAIT_S = 60.0
DEED = {
    "at": "2026-06-20T21:00:00Z",
    "actor": "ops:ana",
    "action": "device_moved",
    "outcome": "done",
    "subject": "grill",
    "detail": {"reason": "[red]two grills[/]"},
}


def one(**changed: Any) -> dict[str, Any]:
    """An appliance as the cloud shows it, with nothing wrong."""
    absent = dict.fromkeys(
        ("revoked_at", "retired_reason", "replaced_by", "quarantined_at", "quarantine_cause")
    )
    return fleet(10)[0] | absent | {"online_at": NOW.isoformat()} | changed


def shown(devices: Sequence[dict[str, Any]], width: int = 80) -> list[str]:
    console = Console(width=width, height=200)
    with console.capture() as captured:
        console.print(table_of(devices, NOW, width))
    return captured.get().splitlines()


class Cloud(BaseHTTPRequestHandler):
    """What railtix-ops asks for the fleet, answered from `devices`."""

    devices: ClassVar[list[dict[str, Any]]]
    asked: ClassVar[list[tuple[str, str]]]
    status = HTTPStatus.OK

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        type(self).asked += parse_qsl(address.query)
        body: Any = self.devices
        if address.path.endswith("/deeds"):
            body = [DEED]
        elif address.path != "/v1/ops/devices":
            body = self.devices[0]
        if self.status != HTTPStatus.OK:
            body = {"detail": "You may not.", "next_step": "Ask ana."}
        sent = json.dumps(body).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base's name
        """Nobody reads it."""


@pytest.fixture
def cloud() -> Iterator[tuple[type[Cloud], str]]:
    own = type("OwnCloud", (Cloud,), {"devices": [], "asked": [], "status": HTTPStatus.OK})
    with ThreadingHTTPServer(("127.0.0.1", 0), own) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield own, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def environment(url: str, home: Path) -> dict[str, str]:
    return {
        "RAILTIX_OPS_URL": url,
        "RAILTIX_OPS_TOKEN": "token",
        "NO_PROXY": "*",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }


def ops(url: str, home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, words, env=environment(url, home) | {"COLUMNS": "80"})


def test_the_terminal_has_a_word_for_every_trouble_that_the_cloud_names() -> None:
    assert [str(each) for each in Trouble] == list(_GRAVITY) == list(_WORDS)


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    devices = [one(device_id="d" * 40, stall_id="s" * 40, queue=99, queue_in_cents=123_456_78)]
    lines = shown(devices, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 2


def test_eighty_characters_hold_what_one_looks_for_first() -> None:
    names = [each.name for each in columns_for(80)]
    assert names == [
        "State",
        "Appliance",
        "Sale",
        "Queue",
        "Clock",
        "Cert",
        "Policy",
        "Paper",
        "°C",
    ]


def test_trouble_has_a_sign_and_not_colour_alone() -> None:
    for problem, said in (
        (one(problems=["offline"], online=False), "offline!"),
        (one(problems=["money_waits"], queue=2, queue_in_cents=650), "2 6.50!"),
        (one(problems=["clock"], clock="unset"), "unset!"),
        (one(problems=["printer"], printer="no paper"), "empty!"),
        (one(problems=["policy"], policy_acked=6), "6<7!"),
        (one(problems=["hot"], temperature_c=83), "83!"),
    ):
        _, line = shown([problem])
        assert line.startswith("!")
        assert said in line
    assert "!" not in shown([one()])[1]


def test_the_gravest_come_first_and_then_what_has_just_changed() -> None:
    names = {
        "a": one(device_id="a"),
        "b": one(device_id="b", problems=["hot"]),
        "c": one(device_id="c", problems=["quarantined", "hot"]),
        "d": one(device_id="d"),
    }
    ordered = worst_first(names.values(), frozenset("d"))
    assert [each["device_id"] for each in ordered] == ["c", "b", "d", "a"]


def test_a_heartbeat_that_says_nothing_new_changes_no_row() -> None:
    before = {"a": one(device_id="a")}
    after = {"a": one(device_id="a", last_seen_at=NOW.isoformat(), uptime_s=1, temperature_c=60)}
    assert changes(before, after) == frozenset()
    assert changes(before, {"a": one(device_id="a", queue=1)}) == {"a"}
    assert changes(before, {}) == {"a"}


def test_ages_are_short() -> None:
    for seconds, said in ((0, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")):
        assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said
    # Its clock, or ours, is wrong.
    assert age((NOW + timedelta(hours=1)).isoformat(), NOW) == "0s"
    assert age(None, NOW) == "-"


def test_the_summary_adds_money_up_by_currency() -> None:
    devices = [
        one(device_id="a", queue_in_cents=250, problems=["money_waits"]),
        one(device_id="b", queue_in_cents=100, currency="CHF", problems=["money_waits"]),
        one(device_id="c", online=None),
        one(device_id="d", status="revoked", queue_in_cents=900, online=False),
    ]
    said = summary(devices)
    assert (
        said
        == "2 in trouble of 3, 2 online, 0 offline, 1 unknown, unsent 1.00 CHF, unsent 2.50 EUR"
    )


def test_a_name_is_text_whatever_it_looks_like() -> None:
    _, line = shown([one(device_id="x[/red]\x1b[2J", printer="[/p]")], 132)
    assert "x[/red]?[2J" in line
    assert "[/p]" in line


def test_a_screen_holds_the_worst_and_says_how_many_it_left_out() -> None:
    view = View().after(Told(fleet(), NOW))
    console = Console(width=80, height=12)
    with console.capture() as captured:
        console.print(draw(view, 80, 12))
    lines = captured.get().splitlines()
    assert len(lines) <= 12
    assert "9 in trouble of 1000" in lines[0]
    assert lines[-2] == "and 993 more, 2 of them in trouble"


def test_while_the_cloud_is_away_the_last_table_stays_and_says_so() -> None:
    view = View().after(Away("refused"))
    with Console(width=80).capture() as _:
        assert "does not answer: refused" in str(draw(view, 80, 24))
    view = view.after(Told([one()], NOW)).after(Away("refused"))
    console = Console(width=80)
    with console.capture() as captured:
        console.print(draw(view, 80, 24))
    assert "this is how it was" in captured.get()
    assert one()["device_id"] in captured.get()


def test_without_a_terminal_each_change_is_a_line() -> None:
    answers = iter(
        [
            Told([one(device_id="a"), one(device_id="b")], NOW),
            Told([one(device_id="a"), one(device_id="b")], NOW),
            Away("refused"),
            Away("refused"),
            Told([one(device_id="a", online=False, problems=["offline"])], NOW),
        ]
    )

    class Feed:
        def ask(self) -> Told | Away:
            try:
                return next(answers)
            except StopIteration:
                raise KeyboardInterrupt from None

    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        watch_lines(Feed(), 3.0, said.append, lambda _: None)
    assert [line.removeprefix("2026-06-20T21:47:08Z ").split(";")[0] for line in said] == [
        "a",
        "b",
        "0 in trouble of 2, 2 online, 0 offline",
        "the cloud does not answer: refused",
        "the cloud answers again",
        "a",
        "b",
        "1 in trouble of 1, 0 online, 1 offline",
    ]
    assert "trouble: offline" in said[5]
    assert "no longer among these" in said[6]


def test_the_list_passes_every_filter_on(cloud: tuple[type[Cloud], str], tmp_path: Path) -> None:
    served, url = cloud
    served.devices = [one()]
    words = "--event e --stall s --status active --offline --trouble --problem hot --problem clock"
    more = "--expiring 14 --behind --firmware 1.5"
    ended = ops(url, tmp_path, "device", "list", *words.split(), *more.split())
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert sorted(served.asked) == sorted(
        [
            *(("event", "e"), ("stall", "s"), ("status", "active"), ("online", "false")),
            *(("trouble", "true"), ("problem", "hot"), ("problem", "clock"), ("behind", "true")),
            *(("expiring_within_days", "14"), ("firmware", "1.5")),
        ]
    )
    listed = ops(url, tmp_path, "device", "list", "--json")
    assert json.loads(listed.stdout) == [one()]


def test_one_appliance_is_shown_with_what_was_done_to_it(
    cloud: tuple[type[Cloud], str], tmp_path: Path
) -> None:
    served, url = cloud
    served.devices = [
        one(problems=["money_waits"], queue=2, queue_in_cents=650, replaced_by="bar-9")
    ]
    said = ops(url, tmp_path, "device", "show", "bar-1").stdout
    for words in (
        "do not switch it off",
        "2 messages wait to be answered, with 6.50 EUR sold offline",
        "replaced by  bar-9",
        "device_moved grill, by ops:ana ([red]two grills[/])",
        "the cloud's",
        "running for  1h",
    ):
        assert words in " ".join(said.split("\n")), words
    as_json = json.loads(ops(url, tmp_path, "device", "show", "bar-1", "--json").stdout)
    assert as_json["deeds"] == [DEED]


def test_who_may_not_look_is_told_so_at_once(
    cloud: tuple[type[Cloud], str], tmp_path: Path
) -> None:
    served, url = cloud
    served.status = HTTPStatus.FORBIDDEN
    for command in ("list", "watch"):
        ended = ops(url, tmp_path, "device", command)
        assert ended.exit_code == 1
        assert "You may not." in ended.stderr


def test_the_live_table_outlives_its_cloud_and_ends_clean(
    cloud: tuple[type[Cloud], str], tmp_path: Path
) -> None:
    served, url = cloud
    served.devices = [one(device_id="bar-1"), one(device_id="bar-2")]
    leader, follower = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "provisioning", "device", "watch", "--every", "1"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment(url, tmp_path) | {"COLUMNS": "80", "LINES": "24"},
        cwd=Path(__file__).parents[2],
    )
    os.close(follower)
    try:
        read_until(leader, "0 in trouble of 2")
        served.devices = [
            one(device_id="bar-1"),
            one(device_id="bar-2", online=False, problems=["offline"]),
        ]
        read_until(leader, "!* offline! ")
        served.status = HTTPStatus.SERVICE_UNAVAILABLE
        read_until(leader, "this is how it was")
        served.status = HTTPStatus.OK
        served.devices = []
        read_until(leader, "0 in trouble of 0")
        watching.send_signal(signal.SIGINT)
        # The cursor is shown again, and no trace is.
        left = read_until(leader, "\x1b[?25h")
        assert "Traceback" not in left
        assert watching.wait(WAIT_S) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(leader)


def test_the_picture_in_the_readme_is_of_this_table() -> None:
    drawn = (Path(__file__).parents[2] / "docs/pictures/fleet-watch.svg").read_text()
    assert drawn == picture()


def read_until(terminal: int, words: str) -> str:
    """What came by then, without colours."""
    seen = ""
    while words not in seen:
        assert select.select([terminal], [], [], WAIT_S)[0], f"{words!r} never came: {seen!r}"
        seen += os.read(terminal, 65_536).decode(errors="replace")
        seen = re.sub(r"\x1b\[[0-9;]*m", "", seen)
        assert seen.count("UTC") < 60, f"{words!r} never came: {seen[-500:]!r}"
    return seen


def test_times_come_from_the_clouds_clock() -> None:
    told = Told([one()], datetime(2026, 6, 20, 21, 47, 8, tzinfo=UTC))
    console = Console(width=80)
    with console.capture() as captured:
        console.print(draw(View().after(told), 80, 24))
    assert captured.get().startswith("21:47:08 UTC")
