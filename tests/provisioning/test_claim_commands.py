"""`railtix-ops device claim` against a real cloud: the code, how it ends, what is told of it."""

import json
import re
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from device.hardware.decoding import read_qr
from protocol.claim_qr import ClaimQr, read_claim_qr
from provisioning.cli import claim as claim_commands
from provisioning.cli.app import app
from tests.cloud.api.enrolment_office import Office
from tests.cloud.floor import EVENT

BAR = ("--event", EVENT, "--stall", "bar")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    office = Office(f"sqlite:///{folder / 'cloud.sqlite'}", folder)
    yield office
    office.close()


class Ops:
    def __init__(self, office: Office) -> None:
        self._env = {"RAILTIX_OPS_URL": office.ops_url, "RAILTIX_OPS_TOKEN": office.token}

    def run(self, *arguments: str | Path) -> Any:
        return CliRunner().invoke(app, ["device", *map(str, arguments)], env=self._env)

    def does(self, *arguments: str | Path) -> str:
        ended = self.run(*arguments)
        assert ended.exit_code == 0, ended.output
        return ended.stdout


@pytest.fixture
def ops(office: Office, monkeypatch: pytest.MonkeyPatch) -> Ops:
    monkeypatch.setattr(claim_commands, "POLL_S", 0.05)
    return Ops(office)


def _read(text: str) -> ClaimQr:
    claim = read_claim_qr(text)
    assert claim is not None
    return claim


def test_the_code_is_drawn_with_the_name_it_gives_and_how_long_it_lasts(
    office: Office, ops: Ops
) -> None:
    said = ops.does("claim", *BAR, "--id", "drawn-1")
    assert "▄" in said
    assert "drawn-1 at bar, summer-fair: good until" in said
    assert "hold this before its camera" in said
    [claim] = [each for each in office.ops.get("/v1/ops/claims").json() if "drawn-1" in str(each)]
    assert claim["claim_id"] in ops.does("claims")


def test_the_picture_and_the_text_are_the_claim_and_nobody_elses_to_read(
    office: Office, ops: Ops, tmp_path: Path
) -> None:
    png, text = tmp_path / "claim.png", tmp_path / "claim.txt"
    said = ops.does("claim", *BAR, "--png", png, "--text", text)
    claim = _read(text.read_text())
    assert claim.secret not in said
    with Image.open(png) as picture:
        reading = read_qr(np.asarray(picture.convert("L")))
    assert reading is not None
    assert reading.text == text.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (png, text)} == {0o600}
    assert office.enrol(office.box(), claim).status_code == 200


def test_a_claim_says_whose_place_is_taken(office: Office, ops: Ops) -> None:
    office.enrolled(device_id="stale-1")
    said = ops.does("claim", *BAR, "--replaces", "stale-1", "--serial", "42")
    assert "stale-1 sells on until then, and is decommissioned with it." in said


def test_waiting_ends_with_the_appliance_that_enrolled(
    office: Office, ops: Ops, tmp_path: Path
) -> None:
    text = tmp_path / "claim.txt"
    with ThreadPoolExecutor(1) as counter:
        shown = counter.submit(lambda: office.enrol(office.box(), _once(text)))
        said = ops.does("claim", *BAR, "--id", "waited-1", "--text", text, "--wait")
    assert shown.result().status_code == 200
    assert "waited-1 has enrolled." in said


def test_waiting_for_a_claim_that_is_withdrawn_ends_as_a_failure(
    office: Office, ops: Ops, tmp_path: Path
) -> None:
    text = tmp_path / "claim.txt"

    def withdraw() -> None:
        office.ops.post(f"/v1/ops/claims/{_once(text).claim_id}/withdraw")

    with ThreadPoolExecutor(1) as counter:
        counter.submit(withdraw)
        ended = ops.run("claim", *BAR, "--text", text, "--wait", "--json")
    assert ended.exit_code == 1
    made, _, after = ended.stdout.partition("\n}\n")
    assert _read(json.loads(made + "}")["qr_text"]).claim_id == json.loads(after)["claim_id"]
    assert "the claim is withdrawn, and no appliance enrolled" in ended.stderr


def test_a_claim_is_withdrawn_by_its_number(office: Office, ops: Ops) -> None:
    claim = office.claim()
    assert re.search(r"bar-\d+: withdrawn", ops.does("withdraw-claim", claim.claim_id))
    again = json.loads(ops.does("withdraw-claim", claim.claim_id, "--json"))
    assert again["state"] == "withdrawn"
    assert json.loads(ops.does("claims", "--json"))[0]["state"] in {"open", "withdrawn", "used"}


def test_a_refusal_is_one_sentence(ops: Ops) -> None:
    ended = ops.run("claim", "--event", EVENT, "--stall", "nowhere")
    assert ended.exit_code == 1
    assert "There is no stall 'nowhere'" in ended.stderr
    assert ops.run("withdraw-claim", "AAAAAAAAAA").exit_code == 1


def _once(path: Path) -> ClaimQr:
    """The claim in this file, once it is there."""
    for _ in range(6000):
        if path.exists():
            return _read(path.read_text())
        time.sleep(0.01)
    pytest.fail("no claim was made")
