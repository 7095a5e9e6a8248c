import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from device.__main__ import app
from device.credentials import FOLDER
from device.hardware.spool import Spool
from device.hardware.spool import look as look_at_spool
from device.journal.chain import FILE_NAME, SCHEMA_VERSION
from device.journal.journal import Journal, look_at
from device.reset import IDENTITY_FILES, Done, Refused, reset
from device.settings import BrokerSettings, KeySettings, Settings, StateSettings
from device.state_lock import lock_state
from device.till.entries import (
    CancelReason,
    Entry,
    LightShown,
    MessageClosed,
    RefundAnswered,
    RefundOpened,
    RefundShown,
    SaleAbandoned,
    SaleAcceptedOffline,
    SaleAnswered,
    SaleCancelled,
    SaleOpened,
    SessionEnded,
)
from device.till.receipt import Slip, SlipKind, Text
from protocol.messages import Reason
from protocol.money import Money
from protocol.requests import SaleName
from tests.device.stage import DEVICE, EPOCH_MS, approved, declined

KEY = "key-000000000001"
OTHER = "key-000000000002"


def sale(key: str = KEY, cents: int = 500) -> SaleOpened:
    return SaleOpened(
        key=key,
        correlation_id="correlation-000001",
        session_id="session-0123456789",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        policy_version=1,
        amount=Money(cents, "EUR"),
        lines=(),
        at_ms=EPOCH_MS,
    )


def accepted(key: str = KEY, cents: int = 500) -> SaleAcceptedOffline:
    return SaleAcceptedOffline(
        key=key,
        wallet_qr="0" * 40,
        payer_id="payerpayer1",
        token_id="token-000001",
        token_expires_s=EPOCH_MS // 1000 + 90,
        amount=Money(cents, "EUR"),
        scanned_at_ms=EPOCH_MS,
        accepted_at_ms=EPOCH_MS,
    )


def refund(cents: int | None = 200) -> RefundOpened:
    return RefundOpened(
        key=KEY,
        correlation_id="correlation-000001",
        session_id="session-0123456789",
        initials="AL",
        event_id="summer",
        stall_id="bar",
        policy_version=1,
        sale=SaleName(DEVICE, OTHER),
        amount=None if cents is None else Money(cents, "EUR"),
        approval_id=None,
        at_ms=EPOCH_MS,
    )


def settings_of(state: Path, kind: str = "file") -> Settings:
    return Settings(
        broker=BrokerSettings("localhost"),
        state=StateSettings(str(state)),
        keys=KeySettings("file" if kind == "file" else "credential"),
    )


def journal_of(state: Path, *entries: Entry) -> None:
    journal = Journal(state, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: EPOCH_MS)
    journal.open()
    for entry in entries:
        journal.append(entry)
    journal.close()


def files_of(state: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.name != "railtix-pos.lock" and path.suffix == ".pem"
    }


OWED: Sequence[tuple[Sequence[Entry], str]] = [
    ([sale(), accepted()], "1 sale taken offline, 5.00 EUR"),
    (
        [sale(), accepted(), LightShown(KEY), sale(OTHER, 1250), accepted(OTHER, 1250)],
        "2 sales taken offline, 17.50 EUR",
    ),
    ([sale(), SaleCancelled(KEY, CancelReason.NO_REPLY)], "1 cancelled sale, 5.00 EUR"),
    ([sale()], "1 sale without a decision, 5.00 EUR"),
    ([sale(), SaleAnswered(KEY, approved(), "token")], "1 sale that staff may not have seen, 5.00"),
    ([refund()], "1 refund, 2.00 EUR"),
    ([refund(None)], "1 refund"),
    ([refund(), RefundAnswered(KEY, declined(Reason.NOTHING_LEFT), "token")], "1 refund, 2.00 EUR"),
    ([SessionEnded("session-0123456789", OTHER)], "1 sign-out"),
]


@pytest.mark.parametrize(("entries", "said"), OWED, ids=[said for _, said in OWED])
@pytest.mark.parametrize("keep_identity", [False, True])
def test_what_the_cloud_has_not_answered_is_never_reset(
    state: Path, entries: Sequence[Entry], said: str, keep_identity: bool
) -> None:
    journal_of(state, *entries)
    before = files_of(state)
    ended = reset(settings_of(state), keep_identity=keep_identity)
    assert isinstance(ended, Refused)
    assert any(said in line for line in ended.lines), ended.lines
    assert "railtix-pos status" in ended.lines[-1]
    assert files_of(state) == before
    assert look_at(state) is not None


SETTLED: Sequence[Entry] = [
    sale(),
    SaleAnswered(KEY, approved(), "token"),
    LightShown(KEY),
    sale(OTHER),
    accepted(OTHER),
    LightShown(OTHER),
    MessageClosed(OTHER, "offline", "token"),
    SessionEnded("session-0123456789", "key-000000000003"),
    MessageClosed("key-000000000003", "sign_out", "token"),
]


def test_a_settled_journal_is_kept_whole_and_the_identity_goes(state: Path) -> None:
    journal_of(state, *SETTLED)
    chain = look_at(state)
    assert chain is not None
    ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Done), ended
    assert "journal-before-reset-1.db" in ended.lines[0]
    assert not [name for name in IDENTITY_FILES if (state / FOLDER / name).exists()]
    assert [path.name for path in state.glob("journal*")] == ["journal-before-reset-1.db"]
    (state / "journal-before-reset-1.db").rename(state / FILE_NAME)
    assert look_at(state) == chain, "every entry is still there"


def test_it_may_stay_who_it_is_and_begins_a_new_journal(state: Path) -> None:
    journal_of(state, *SETTLED)
    identity = files_of(state)
    assert isinstance(reset(settings_of(state), keep_identity=True), Done)
    assert files_of(state) == identity
    journal_of(state)
    chain = look_at(state)
    assert chain is not None
    assert chain.last == 1, "nothing of the old journal is carried over, or owed"
    assert isinstance(reset(settings_of(state), keep_identity=True), Done)
    assert len(list(state.glob("journal-before-reset-?.db"))) == 2


def test_a_closed_refund_is_no_reason_to_refuse(state: Path) -> None:
    answered = RefundAnswered(KEY, declined(Reason.NOTHING_LEFT), "token")
    journal_of(state, refund(), answered, RefundShown(KEY))
    assert isinstance(reset(settings_of(state), keep_identity=False), Done)


def test_an_abandoned_sale_is_no_reason_to_refuse(state: Path) -> None:
    journal_of(state, sale(), SaleAbandoned(KEY))
    assert isinstance(reset(settings_of(state), keep_identity=False), Done)


def test_a_reset_that_was_cut_off_anywhere_is_finished_by_the_next(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(BaseException):
        """The power goes."""

    real = Path.unlink
    journal_of(state, *SETTLED)
    for at in range(1, 20):
        moments = 0

        def cut(path: Path, missing_ok: bool = False, at: int = at) -> None:
            nonlocal moments
            moments += 1
            if moments == at:
                raise CutError
            real(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", cut)
        try:
            ended = reset(settings_of(state), keep_identity=False)
        except CutError:
            identity = files_of(state)
            assert f"{FOLDER}/key.pem" in identity or not (state / FILE_NAME).exists()
            continue
        assert isinstance(ended, Done)
        break
    monkeypatch.setattr(Path, "unlink", real)
    assert files_of(state) == {}
    assert (state / "journal-before-reset-1.db").exists()
    assert isinstance(reset(settings_of(state), keep_identity=False), Done), "a second one too"


def test_while_it_runs_nothing_is_reset(state: Path) -> None:
    journal_of(state)
    with ExitStack() as stack:
        lock_state(state, stack)
        ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Refused)
    assert "stop it first" in ended.lines[0]
    assert (state / FOLDER / "key.pem").exists()


def test_a_journal_that_cannot_be_read_is_not_called_empty(state: Path) -> None:
    (state / FILE_NAME).write_bytes(b"SQLite format 3\0 and then nonsense" * 100)
    ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Refused)
    assert "Start railtix-pos once" in ended.lines[-1]
    assert (state / FOLDER / "key.pem").exists()


def test_a_journal_of_a_later_release_is_not_this_programs_to_judge(state: Path) -> None:
    journal_of(state, sale(), SaleAbandoned(KEY))
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Refused)
    assert "written by a later release" in ended.lines[0]
    assert "sets a damaged journal aside" not in ended.lines[-1]
    assert (state / FILE_NAME).exists()
    runner = CliRunner()
    words = ["--state", str(state)]
    config = {"RAILTIX_BROKER_HOST": "localhost"}
    for command in (["status"], ["reset", "--yes"], ["selftest", "--only", "disk"]):
        told = runner.invoke(app, [*command, *words], env=config)
        assert told.exit_code == 1, (command, told.output)
        assert isinstance(told.exception, SystemExit), "a line for a person, not a traceback"
        assert "later release" in told.output


def test_what_only_a_damaged_journal_still_owes_is_not_forgotten(state: Path) -> None:
    journal_of(state, sale(), accepted())
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (state / FILE_NAME).rename(state / "journal-set-aside-1.db")
    ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Refused)
    assert "1 in a damaged journal" in ended.lines[1]


def test_old_slips_are_not_printed_for_the_next_owner(state: Path) -> None:
    Spool(state).put(Slip((Text("Summer Fair"),), SlipKind.RECEIPT))
    ended = reset(settings_of(state), keep_identity=False)
    assert isinstance(ended, Done)
    assert "dropped: 1" in ended.lines[-1]
    assert look_at_spool(state) == ()


def test_a_sealed_key_is_named_and_left_to_its_owner(state: Path) -> None:
    ended = reset(settings_of(state, "credential"), keep_identity=False)
    assert isinstance(ended, Done)
    assert "/etc/credstore.encrypted/railtix-key" in ended.lines[-1]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    ended = reset(settings_of(tmp_path / "none"), keep_identity=False)
    assert isinstance(ended, Refused)
    assert not (tmp_path / "none").exists()


def test_the_command_asks_first_and_its_exit_code_tells(state: Path, tmp_path: Path) -> None:
    config = tmp_path / "pos.toml"
    config.write_text('[broker]\nhost = "localhost"\n')
    words = ["reset", "--config", str(config), "--state", str(state)]
    journal_of(state, sale(), accepted())
    runner = CliRunner()
    refused = runner.invoke(app, words, input="y\n")
    assert refused.exit_code == 1
    assert "1 sale taken offline, 5.00 EUR" in refused.output
    (state / FILE_NAME).unlink()
    for suffix in ("-wal", "-shm"):
        (state / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    assert runner.invoke(app, words, input="n\n").exit_code == 1
    assert runner.invoke(app, words, input="").exit_code == 1, "nobody there is no yes"
    assert (state / FOLDER / "key.pem").exists()
    done = runner.invoke(app, [*words, "--yes"])
    assert done.exit_code == 0
    assert "The identity is erased" in done.output
