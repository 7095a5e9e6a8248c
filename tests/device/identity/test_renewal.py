"""Renewing: when it is due, what is kept until the new certificate works, and the way back."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device.credentials import Credentials, load
from device.enrolling.happenings import Enrolled
from device.identity.enrolment import Enroller
from device.identity.files import forget_old, go_back, recover
from device.identity.renewal import SILENCE_S, TRY_AGAIN_MS, Renewal, Stage
from device.ports import Rest
from device.settings import KeySettings
from tests.device.identity.office import NOW, Asked, Office, Said

DAY_MS = 24 * 3600 * 1000
NOW_MS = int(NOW.timestamp() * 1000)
DUE_MS = NOW_MS + 62 * DAY_MS


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with Office(tmp_path) as office:
        yield office


@pytest.fixture
def state(tmp_path: Path, office: Office) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    Enroller(state, serial="", clock_is_set=lambda: True).enrol(office.claim())
    return state


def renewal(state: Path) -> Renewal:
    return Renewal(state, KeySettings(), load(state), serial="", clock_is_set=lambda: True)


def rest(now_ms: int | None = DUE_MS, now_s: float = 0.0, **changed: Any) -> Rest:
    usual: dict[str, Any] = {"is_idle": True, "has_sent_all": True, "link_is_up": True}
    return Rest(now_ms, now_s, **(usual | changed))


def until(renewing: Renewal, stage: Stage) -> None:
    deadline = time.monotonic() + 60  # noqa: TID251 -- a thread asks the cloud
    while renewing.stage is not stage:
        renewing.look(rest(has_sent_all=False), "")
        assert time.monotonic() < deadline, renewing.trouble  # noqa: TID251
        time.sleep(0.01)


def taken_up(state: Path) -> tuple[Renewal, Credentials]:
    renewing = renewal(state)
    until(renewing, Stage.DRAFTED)
    credentials = renewing.look(rest(), "")
    assert credentials is not None
    return renewing, credentials


@pytest.mark.parametrize(
    "now_ms",
    [None, NOW_MS, NOW_MS + 58 * DAY_MS, NOW_MS + 91 * DAY_MS],
    ids=["no time", "at once", "day 58", "day 91"],
)
def test_it_asks_for_nothing_before_two_thirds_of_its_life_nor_after_its_end(
    office: Office, state: Path, now_ms: int | None
) -> None:
    asked = len(office.asked)
    renewing = renewal(state)
    renewing.look(rest(now_ms), "")
    assert (renewing.stage, len(office.asked)) == (Stage.RESTING, asked)


def test_the_new_one_is_taken_up_at_rest_and_the_old_one_goes_with_the_first_answer(
    office: Office, state: Path
) -> None:
    old = load(state)
    renewing = renewal(state)
    until(renewing, Stage.DRAFTED)
    assert renewing.look(rest(has_sent_all=False), "") is None
    assert load(state).thumbprint == old.thumbprint
    new = renewing.look(rest(), "")
    assert new is not None
    assert new.thumbprint == load(state).thumbprint != old.thumbprint
    assert new.key.public_key() != old.key.public_key()
    assert new.policy_keys == old.policy_keys
    assert (state / "identity.old" / "key.pem").exists()
    renewing.heard()
    assert renewing.stage is Stage.RESTING
    assert sorted(each.name for each in state.iterdir()) == ["identity"]


@pytest.mark.parametrize("why", ["tlsv1 alert certificate revoked", "silence"])
def test_a_new_one_that_does_not_work_gives_way_to_the_old_and_the_next_try_waits(
    office: Office, state: Path, why: str
) -> None:
    old = load(state)
    renewing, _ = taken_up(state)
    if why == "silence":
        assert renewing.look(rest(now_s=1.0), "") is None
        back = renewing.look(rest(now_s=2.0 + SILENCE_S), "")
    else:
        back = renewing.look(rest(link_is_up=False), why)
    assert back is not None
    assert back.thumbprint == old.thumbprint == load(state).thumbprint
    assert not (state / "identity.old").exists()
    asked = len(office.asked)
    renewing.look(rest(DUE_MS + TRY_AGAIN_MS - 1), "")
    assert len(office.asked) == asked
    assert "does not work" in renewing.trouble
    until_asked(renewing)


def silent(renewing: Renewal) -> Credentials | None:
    """The cloud says nothing, and the till hangs up on it every half minute."""
    for at_s in range(0, int(SILENCE_S) + 60, 2):
        is_up = at_s % 32 != 0
        back = renewing.look(rest(now_s=float(at_s), link_is_up=is_up, has_sent_all=False), "")
        if back is not None:
            return back
    return None


def test_silence_counts_although_the_till_hangs_up_on_it_and_sales_wait(
    office: Office, state: Path
) -> None:
    old = load(state)
    renewing, _ = taken_up(state)
    back = silent(renewing)
    assert back is not None
    assert back.thumbprint == old.thumbprint == load(state).thumbprint


def test_the_way_back_waits_for_nobody_but_whoever_is_in_the_middle_of_something(
    office: Office, state: Path
) -> None:
    renewing, new = taken_up(state)
    refused = rest(link_is_up=False, has_sent_all=False, is_idle=False)
    assert renewing.look(refused, "tlsv1 alert certificate revoked") is None
    # What was sold alone waits for the very link that is refused.
    refused = rest(link_is_up=False, has_sent_all=False)
    back = renewing.look(refused, "tlsv1 alert certificate revoked")
    assert back is not None
    assert back.thumbprint != new.thumbprint


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_new_one_whose_answer_was_lost_is_taken_up_again_once_the_old_one_is_superseded(
    office: Office, state: Path, is_restarted: bool
) -> None:
    renewing, new = taken_up(state)
    assert silent(renewing) is not None
    if is_restarted:
        recover(state)
        renewing = renewal(state)
    waiting = rest(link_is_up=False, has_sent_all=False)
    assert renewing.look(waiting, "connection refused") is None
    again = renewing.look(waiting, "tlsv1 alert certificate revoked")
    assert again is not None
    assert again.thumbprint == new.thumbprint == load(state).thumbprint
    renewing.heard()
    assert sorted(each.name for each in state.iterdir()) == ["identity"]


def test_a_draft_is_taken_up_where_the_old_one_ran_out_before_all_was_sent(
    office: Office, state: Path
) -> None:
    old = load(state)
    renewing = renewal(state)
    until(renewing, Stage.DRAFTED)
    locked_out = rest(link_is_up=False, has_sent_all=False)
    new = renewing.look(locked_out, "sslv3 alert certificate expired")
    assert new is not None
    assert new.thumbprint != old.thumbprint


def test_who_enrols_anew_takes_up_no_renewal_that_was_begun_before(
    office: Office, state: Path
) -> None:
    until(renewal(state), Stage.DRAFTED)
    office.device_id = "bar-2"
    assert Enroller(state, serial="", clock_is_set=lambda: True).enrol(office.claim()) == (
        Enrolled("bar-2")
    )
    assert renewal(state).stage is Stage.RESTING
    assert load(state).device_id == "bar-2"


def until_asked(renewing: Renewal) -> None:
    renewing.look(rest(DUE_MS + TRY_AGAIN_MS), "")
    assert renewing.stage is Stage.ASKING


@pytest.mark.parametrize("trouble", ["TimeoutError: timed out", "ConnectionRefusedError: refused"])
def test_while_the_network_or_the_broker_is_away_nobody_knows_and_both_are_kept(
    office: Office, state: Path, trouble: str
) -> None:
    renewing, new = taken_up(state)
    assert renewing.look(rest(link_is_up=False), trouble) is None
    assert load(state).thumbprint == new.thumbprint
    assert (state / "identity.old").exists()
    # Also over a restart.
    again = renewal(state)
    assert again.stage is Stage.TRIED
    again.heard()
    assert not (state / "identity.old").exists()


def test_a_cloud_that_refuses_or_answers_for_another_name_is_tried_again_later(
    office: Office, state: Path
) -> None:
    old = load(state)
    office.device_id = "bar-2"
    renewing = renewal(state)
    until(renewing, Stage.ASKING)
    until(renewing, Stage.RESTING)
    assert renewing.trouble == "other_certificate"
    office.answers = _refusing
    later = renewal(state)
    until(later, Stage.ASKING)
    until(later, Stage.RESTING)
    assert later.trouble == "device_revoked"
    assert load(state).thumbprint == old.thumbprint


def _refusing(_: Asked) -> Said:
    return Said(403, b'{"code": "device_revoked"}')


def test_an_identity_made_of_files_says_that_it_cannot_be_renewed(
    office: Office, state: Path
) -> None:
    (state / "identity" / "cloud.json").unlink()
    renewing = renewal(state)
    renewing.look(rest(), "")
    assert "cloud.json" in renewing.trouble
    assert renewing.stage is Stage.RESTING


class CutError(BaseException):
    """The power goes."""


@pytest.mark.parametrize("what", ["take up", "go back", "go back for now", "forget"])
def test_a_power_cut_at_any_step_leaves_one_whole_identity(
    office: Office, state: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    was_cut = True
    for at in range(1, 12):
        renewing = renewal(state)
        if what == "take up":
            until(renewing, Stage.DRAFTED)
        else:
            taken_up(state)
        moments = 0

        def cut(real: Callable[..., Any], at: int = at) -> Callable[..., Any]:
            def step(*arguments: Any, **named: Any) -> Any:
                nonlocal moments
                moments += 1
                if moments == at:
                    raise CutError
                return real(*arguments, **named)

            return step

        was_cut = False
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", cut(os.fsync))
            patch.setattr(Path, "rename", cut(Path.rename))
            patch.setattr(Path, "unlink", cut(Path.unlink))
            try:
                match what:
                    case "take up":
                        renewing.look(rest(), "")
                    case "go back":
                        go_back(state)
                    case "go back for now":
                        go_back(state, keeps_new=True)
                    case _:
                        forget_old(state)
            except CutError:
                was_cut = True
        recover(state)
        assert load(state).device_id == "bar-1"
        load(state).tls_context()
        forget_old(state)
        if not was_cut:
            break
    assert not was_cut
