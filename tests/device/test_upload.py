"""What `railtix-pos upload` says where there is nothing to send, or nobody to send it to."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from device import upload as uploading
from device.settings import Settings, StateSettings
from device.state_lock import lock_state
from device.upload import upload


def said(state: Path) -> tuple[bool, str]:
    lines: list[str] = []
    ended = upload(Settings(state=StateSettings(str(state))), lines.append)
    return ended.is_all, " ".join((*lines, *ended.lines))


def test_an_identity_that_names_no_cloud_cannot_upload_and_says_so(state: Path) -> None:
    is_all, told = said(state)
    assert not is_all
    assert "does not say where the cloud is" in told


def test_with_nothing_owed_there_is_nothing_to_do(state: Path) -> None:
    (state / "identity" / "cloud.json").write_text('{"url": "https://localhost:1"}')
    assert said(state) == (True, "Nothing waits here.")


def test_while_the_appliance_runs_nothing_is_uploaded(state: Path) -> None:
    with ExitStack() as stack:
        lock_state(state, stack)
        is_all, told = said(state)
    assert not is_all
    assert "stop it first" in told


def test_where_nobody_answers_it_ends_and_says_what_is_left(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "identity" / "cloud.json").write_text('{"url": "https://localhost:1"}')

    def owed(_: Path) -> list[str]:
        return ["  1 cancelled sale, 5.00 EUR"]

    monkeypatch.setattr(uploading, "what_is_owed", owed)
    monkeypatch.setattr(uploading, "PATIENCE_S", 1.0)
    is_all, told = said(state)
    assert not is_all
    assert "1 cancelled sale, 5.00 EUR" in told
    assert "Run it again." in told
