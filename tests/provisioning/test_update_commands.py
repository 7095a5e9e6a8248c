"""railtix-ops update: from a bundle on disk to a release that is watched and paused."""

import hashlib
import stat
from pathlib import Path

import pytest

from tests.provisioning.desk import Ops

CONTENT = hashlib.shake_256(b"a bundle").digest(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
VERSION, COMPATIBLE = "0.7.0+202611240900", "railtix-pos-debian"
SAID = ("--version", VERSION, "--compatible", COMPATIBLE)
BUNDLE = "x.raucb"


@pytest.fixture
def ops(desk: Ops, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """With a bundle, on a machine without rauc."""
    Path(BUNDLE).write_bytes(CONTENT)
    Path("bin").mkdir()
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    return desk


def put_rauc(script: str) -> None:
    """Its simulated stand-in: the one question that is asked of it."""
    rauc = Path("bin/rauc")
    rauc.write_text(f"#!/bin/sh\n{script}\n")
    rauc.chmod(rauc.stat().st_mode | stat.S_IXUSR)


def test_a_bundle_is_released_watched_widened_paused_and_resumed(ops: Ops) -> None:
    shown = ops.does("update", "release", BUNDLE, *SAID, "--notes", "less [red]paper[/]")
    assert VERSION in shown
    assert "10 %" in shown
    assert "less [red]paper[/]" in shown, "what somebody typed is text"
    assert "100 %" in ops.does("update", "rollout", VERSION, "100")
    assert "paused" in ops.does("update", "pause", VERSION, "--reason", "odd")
    [release] = ops.answers("update", "status", VERSION)["releases"]
    assert release["paused_why"] == "odd"
    assert "paused" not in ops.does("update", "resume", VERSION, "--channel", "stable")
    assert "was not released" in ops.refuses("update", "resume", VERSION, "--channel", "beta")
    actions = [row.action for row in ops.edge.floor.audit() if row.action.startswith("update_")]
    assert actions == [
        "update_released",
        "update_rollout_changed",
        "update_paused",
        "update_resumed",
    ]


def test_a_second_release_of_a_bundle_uploads_nothing(ops: Ops) -> None:
    ops.does("update", "release", BUNDLE, *SAID)
    folder = ops.edge.cloud.bundles
    path = folder.find(SHA256)
    assert path is not None
    before = path.stat()
    ops.does("update", "release", BUNDLE, *SAID, "--channel", "beta")
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(ops.answers("update", "status")["releases"]) == 2


def test_an_upload_that_broke_off_goes_on_where_it_was(ops: Ops) -> None:
    ops.edge.cloud.bundles.take_part(SHA256, 0, CONTENT[:400_000])
    ops.does("update", "release", BUNDLE, *SAID)
    path = ops.edge.cloud.bundles.find(SHA256)
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_without_rauc_somebody_says_what_the_bundle_is(ops: Ops) -> None:
    assert "say --version" in ops.refuses("update", "release", BUNDLE)
    assert "say --compatible" in ops.refuses("update", "release", BUNDLE, "--version", VERSION)
    refused = ops.refuses("update", "release", BUNDLE, *SAID, "--keyring", "keyring.pem")
    assert "is not on this machine" in refused
    assert "No such file" in ops.refuses("update", "release", "none.raucb", *SAID)


def test_rauc_says_what_the_bundle_is_and_nobody_contradicts_it(ops: Ops) -> None:
    put_rauc(
        f'[ "$*" = "info --output-format=json --no-verify {Path.cwd()}/{BUNDLE}" ] && '
        f'echo \'{{"compatible":"{COMPATIBLE}","version":"{VERSION}"}}\''
    )
    refused = ops.refuses("update", "release", BUNDLE, "--version", "9.9")
    assert f"version is {VERSION}, not 9.9" in refused
    assert VERSION in ops.does("update", "release", BUNDLE)


def test_what_rauc_does_not_take_is_not_uploaded(ops: Ops) -> None:
    put_rauc('echo "signature verification failed" >&2; exit 1')
    refused = ops.refuses("update", "release", BUNDLE, *SAID, "--keyring", "keyring.pem")
    assert "signature verification failed" in refused
    assert ops.edge.cloud.bundles.received(SHA256).size == 0
    assert "Nothing was released yet" in ops.does("update", "status")


def test_an_appliance_is_moved_between_channels(ops: Ops) -> None:
    ops.edge.floor.add_till("bar-1")
    assert "releases of beta" in ops.does("device", "channel", "bar-1", "beta")
    assert "no channel 'nightly'" in ops.refuses("device", "channel", "bar-1", "nightly")
    shown = ops.does("device", "show", "bar-1")
    assert "image" not in shown, "it never said that it runs one"
