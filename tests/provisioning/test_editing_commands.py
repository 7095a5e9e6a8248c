"""An event edited from the command line, over real HTTP."""

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from provisioning.cli import editing, waiting
from provisioning.cli.app import app
from provisioning.cli.cloud import Cloud
from tests.provisioning.desk import Ops

FAIR = "summer-fair"
PRICES = 'number;name;price\n1;Lager 0.4;4,80\n2;"Cider; dry";5\n'


def test_a_name_that_is_none_is_refused_instead_of_asking_for_something_else() -> None:
    for name in ("../devices", "..", "har bour", "?"):
        asked = CliRunner().invoke(app, ["event", "show", name], env={"RAILTIX_OPS_TOKEN": "t"})
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert "a name is made of" in asked.stderr


def test_an_event_is_created_set_shown_and_its_versions_compared(desk: Ops) -> None:
    create = ("event", "create", "harbour", "--name", "Harbour [/18]", "--currency", "EUR")
    assert "now version 1" in desk.does(*create, "--stall", "bar=The Bar", "--stall", "grill=Grill")
    assert "is at version 1" in desk.refuses(*create, "--stall", "x=X", code=4)
    limits = ("--sale-max", "50.00", "--refund-window", "45m", "--shift", "8h", "--cash-out")
    said = desk.does("event", "set", "harbour", *limits, "never", "--ends", "2027-01-01T00:00Z")
    for words in ("200.00 -> 50.00", "30m -> 45m", "12h -> 8h", "after event -> never"):
        assert words in said
    shown = desk.does("event", "show", "harbour")
    for words in ("Harbour [/18]", "45m", "2027-01-01", "The Bar", "not allowed"):
        assert words in shown
    assert "nothing to change" in desk.does("event", "set", "harbour", "--sale-max", "50")
    assert "5 changed" in desk.does("event", "diff", "harbour")
    assert desk.answers("event", "diff", "harbour", "2", "1")[0]["after"] == "not set"
    listed = desk.answers("event", "versions", "harbour")
    assert [each["version"] for each in listed] == [2, 1]
    document = desk.answers("event", "show", "harbour")
    assert document["staff_session_s"] == 8 * 3600


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--sale-max", "50.001"),
        ("--sale-max", "1e3"),
        ("--sale-max", "-5"),
        ("--refund-window", "30"),
        ("--ends", "2027-01-01"),
        ("--shift", "90000000d"),
    ],
)
def test_what_is_no_amount_span_or_moment_is_refused_before_anything_is_asked(
    desk: Ops, option: str, value: str
) -> None:
    assert "Invalid value" in desk.refuses("event", "set", FAIR, option, value, code=2)
    assert desk.answers("event", "versions", FAIR) == []


def test_a_price_list_is_imported_after_a_look_at_what_changes_and_exported_again(
    desk: Ops,
) -> None:
    desk.edge.floor.add_till()
    Path("prices.csv").write_text(PRICES)
    into = ("product", "import", FAIR, "bar", "prices.csv")
    assert "Nothing was changed (--dry-run)" in desk.does(*into, "--dry-run")
    assert "Nothing was changed" in desk.does(*into, says="n\n")
    assert desk.run(*into, says="").exit_code == 1, "nobody answers"
    assert desk.answers("product", "list", FAIR, "bar") == []
    said = desk.does(*into, says="y\n")
    assert "2 new" in said
    assert "till-1 gets policy 2" in said
    Path("prices.csv").write_text("number,name,price\n1,Lager 0.4,5.10\n3,Water,2\n")
    assert "1 new, 1 changed, 1 removed" in desk.does(*into, "--dry-run")
    kept = desk.does(*into, "--keep-others", "--yes")
    assert "4.80 -> 5.10" in kept
    assert "1 new, 1 changed\n" in kept
    assert desk.does("product", "export", FAIR, "bar") == (
        "number,name,price\n1,Lager 0.4,5.10\n2,Cider; dry,5.00\n3,Water,2.00\n"
    )
    desk.does("product", "export", FAIR, "bar", "out.csv")
    assert "nothing to change" in desk.does("product", "import", FAIR, "bar", "out.csv")


def test_a_file_with_bad_lines_changes_nothing_and_names_each(desk: Ops) -> None:
    Path("prices.csv").write_text("number,name,price\n1,Lager,4.505\n2,Ci\x1bder,1e5\n")
    told = desk.refuses("product", "import", FAIR, "bar", "prices.csv", "--yes")
    for words in ("line 2: ", "more than two decimals", "line 3: ", "control characters"):
        assert words in told
    assert "2 lines cannot be read, so nothing was changed" in told
    assert "\x1b" not in told
    assert "No such file" in desk.refuses("product", "import", FAIR, "bar", "none.csv")


def test_products_and_stalls_are_added_changed_and_removed(desk: Ops) -> None:
    desk.does("product", "add", FAIR, "bar", "7", "=Cola 0.3", "3.20")
    assert "already" in desk.refuses("product", "add", FAIR, "bar", "7", "Other", "1")
    assert "3.20 -> 3.40" in desk.does("product", "set", FAIR, "bar", "7", "--price", "3,40")
    assert "=Cola 0.3" in desk.does("product", "list", FAIR)
    assert "'=Cola 0.3" in desk.does("product", "export", FAIR, "bar")
    assert "control characters" in desk.refuses("product", "set", FAIR, "bar", "7", "--name", "a\n")
    assert "no product 8" in desk.refuses("product", "set", FAIR, "bar", "8", "--price", "1")
    assert "no stall 'pier'" in desk.refuses("product", "list", FAIR, "pier")
    desk.does("stall", "add", FAIR, "pier", "--name", "Pier", "--like", "bar")
    assert desk.answers("product", "list", FAIR, "pier")[0]["price_in_cents"] == 340
    assert "has a stall" in desk.refuses("stall", "add", FAIR, "pier", "--name", "Pier")
    assert "Pier -> The Pier" in desk.does("stall", "rename", FAIR, "pier", "--name", "The Pier")
    desk.edge.floor.add_till("till-9", stall_id="pier")
    assert "till-9" in desk.does("stall", "list", FAIR)
    assert "till-9 at pier" in desk.refuses("stall", "remove", FAIR, "pier", "--yes")
    desk.does("product", "remove", FAIR, "bar", "7")
    assert "no products" in desk.does("product", "list", FAIR, "bar")


def test_a_stall_does_not_go_from_under_who_works_there_alone(desk: Ops) -> None:
    document = desk.answers("event", "show", FAIR)
    member = {"id": "bo", "name": "Bo Lind", "initials": "BL", "stalls": ["grill"]}
    document["staff"] = [member, {**member, "id": "cy", "name": "Cy", "stalls": ["bar", "grill"]}]
    Path("fair.json").write_text(json.dumps(document))
    desk.does("event", "apply", "fair.json")
    assert "Bo Lind (bo)" in desk.refuses("stall", "remove", FAIR, "grill", "--yes")
    document["staff"] = document["staff"][1:]
    Path("fair.json").write_text(json.dumps(document))
    assert "- staff bo" in desk.does("event", "apply", "fair.json")
    desk.does("stall", "remove", FAIR, "grill", "--yes")
    [cy] = desk.answers("event", "show", FAIR)["staff"]
    assert cy["stalls"] == ["bar"]
    assert "the only stall" in desk.refuses("stall", "remove", FAIR, "bar", "--yes")


def test_whoever_is_slower_is_told_what_somebody_else_changed(
    desk: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Cloud.get_tagged

    def read_and_be_overtaken(cloud: Cloud, path: str) -> object:
        found = read(cloud, path)
        monkeypatch.setattr(editing.Cloud, "get_tagged", read)
        desk.does("event", "set", FAIR, "--sale-max", "60.00")
        return found

    monkeypatch.setattr(editing.Cloud, "get_tagged", read_and_be_overtaken)
    told = desk.refuses("event", "set", FAIR, "--sale-max", "70.00", code=4)
    for words in ("applied by ops:ana", "a sale at most: ", "-> 60.00", "run the command again"):
        assert words in told
    assert desk.answers("event", "show", FAIR)["sale_max_in_cents"] == 6000


def test_an_earlier_version_is_had_back_after_a_look(desk: Ops) -> None:
    desk.does("event", "set", FAIR, "--sale-max", "60.00")
    desk.does("event", "set", FAIR, "--sale-max", "70.00")
    back = ("event", "rollback", FAIR, "2", "--reason", "too much")
    assert "Nothing was changed" in desk.does(*back, says="n\n")
    assert "70.00 -> 60.00" in desk.does(*back, says="y\n")
    assert "back to 2: too much" in desk.does("event", "versions", FAIR)
    assert "no version 9" in desk.refuses("event", "rollback", FAIR, "9", "--reason", "x", "--yes")


def test_wait_ends_when_each_has_acknowledged_and_names_who_has_not(
    desk: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.02)
    floor = desk.edge.floor
    till, _ = floor.add_till(), floor.add_till("till-2", stall_id="grill")
    wait = ("--wait", "--wait-for", "1s")
    told = desk.refuses("event", "set", FAIR, "--sale-max", "60.00", *wait, code=3)
    assert "till-1 at bar, never heard of" in told
    assert "till-2 at grill" in told

    def acknowledge() -> None:
        floor.ask_one(till, till.heartbeat(policy_version=2))

    hand = threading.Thread(target=acknowledge)
    hand.start()
    told = desk.refuses("policy", "status", FAIR, "--wait", "--wait-for", "2s", code=3)
    hand.join()
    assert "till-2" in told
    assert "till-1" not in told
    status = desk.does("policy", "status", FAIR)
    for words in ("up to date", "not published yet", "1 of 2 lag behind"):
        assert words in status
    assert "acknowledged" in desk.does("policy", "history", "till-1")
    floor.ask_one(till, till.heartbeat(policy_version=2))
    desk.edge.http.post(
        "/v1/ops/devices/till-2/revoke", json={"reason": "x"}, headers=desk.edge.ops
    )
    done = desk.does("policy", "status", FAIR, "--wait", "--wait-for", "60s")
    assert "Every appliance has acknowledged it" in done


def test_a_dry_run_of_a_file_says_what_would_change(desk: Ops) -> None:
    document = desk.answers("event", "show", FAIR) | {"name": "Winter fair"}
    Path("fair.json").write_text(json.dumps(document))
    said = desk.does("event", "apply", "fair.json", "--dry-run")
    assert "Summer fair -> Winter fair" in said
    assert desk.answers("event", "show", FAIR)["name"] != "Winter fair"
    Path("new.json").write_text(json.dumps(document | {"id": "new"}))
    assert "would be created" in desk.does("event", "apply", "new.json", "--dry-run")
