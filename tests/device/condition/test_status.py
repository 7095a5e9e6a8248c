import os
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from device.condition.health import (
    AT_LEAST_S,
    PAUSE_S,
    Health,
    HealthFile,
    ScannerHealth,
    Sources,
    is_alive,
    read_health,
)
from device.condition.standstill import SENTENCES, Known, Why, why
from device.condition.status import Queue, Status, status_of
from device.condition.status_lines import plain, show
from device.journal.journal import Journal
from device.settings import BrokerSettings, Settings, StateSettings
from device.till.entries import (
    CancelReason,
    Entry,
    LightShown,
    PolicyTaken,
    SaleAcceptedOffline,
    SaleCancelled,
    SaleOpened,
    SessionBegan,
    SessionEnded,
)
from device.till.signals import Light
from device.till.states import JournalBroken, Link, Till
from protocol.money import Money
from protocol.policy import sign_policy
from tests.device.fake_cloud import POLICY_KEY
from tests.device.stage import EPOCH_MS, a_policy, a_session, asking

FINE = Known(
    waits=True,
    runs=True,
    is_journal_open=True,
    certificate_expired=False,
    has_policy=True,
    link_is_up=True,
    link_trouble="",
    refusal="",
    silent_ms=1000,
)
DOWN = replace(FINE, link_is_up=False, silent_ms=None)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (replace(FINE, waits=False), Why.NOTHING_WAITS),
        (FINE, Why.MOVING),
        (replace(FINE, runs=False), Why.NOT_RUNNING),
        (replace(FINE, is_journal_open=False), Why.JOURNAL_BROKEN),
        (replace(FINE, has_policy=False), Why.NO_POLICY),
        (replace(FINE, refusal="device_quarantined"), Why.REFUSED_BY_CLOUD),
        (replace(FINE, silent_ms=None), Why.CLOUD_SILENT),
        (replace(FINE, silent_ms=61_000), Why.CLOUD_SILENT),
        (DOWN, Why.NO_NETWORK),
        (replace(DOWN, link_trouble="ConnectionRefusedError: [Errno 111]"), Why.NO_NETWORK),
        (replace(DOWN, link_trouble="gaierror: [Errno -3] Temporary failure"), Why.NO_NETWORK),
        (replace(DOWN, certificate_expired=True), Why.CERTIFICATE_EXPIRED),
        (
            replace(DOWN, link_trouble="[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca"),
            Why.CERTIFICATE_REFUSED,
        ),
        (
            replace(DOWN, link_trouble="[SSL] sslv3 alert certificate revoked (_ssl.c:2580)"),
            Why.CERTIFICATE_REFUSED,
        ),
        (replace(DOWN, link_trouble="the broker refused: Not authorized"), Why.CERTIFICATE_REFUSED),
        (
            replace(DOWN, link_trouble="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            Why.BROKER_NOT_BELIEVED,
        ),
        (
            replace(DOWN, link_trouble="CERTIFICATE_VERIFY_FAILED: certificate is not yet valid"),
            Why.CLOCK,
        ),
    ],
)
def test_why_nothing_moves_is_what_a_person_would_do_something_about(
    known: Known, said: Why
) -> None:
    assert why(known) is said


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Why)


def sale(key: str, at_ms: int = EPOCH_MS) -> SaleOpened:
    return structs.replace(asking().standing.sales[0].sale, key=key, at_ms=at_ms)


def accepted(key: str, cents: int) -> tuple[Entry, ...]:
    return (
        sale(key),
        SaleAcceptedOffline(
            key=key,
            wallet_qr="qr",
            payer_id="payer-0002",
            token_id=f"token-{key}",
            token_expires_s=EPOCH_MS // 1000 + 90,
            amount=Money(cents, "EUR"),
            scanned_at_ms=EPOCH_MS,
            accepted_at_ms=EPOCH_MS + 5000,
        ),
        LightShown(key),
    )


def settings_for(state: Path) -> Settings:
    return Settings(BrokerSettings("mq.example"), StateSettings(str(state)))


def written(state: Path, *entries: Entry) -> None:
    with closing(
        Journal(state, fresh_epoch=lambda: "epoch-000000000000", wall_ms=lambda: EPOCH_MS)
    ) as journal:
        journal.open()
        journal.append(*entries)


def now_s() -> float:
    return time.monotonic()  # noqa: TID251 -- health is told by the machine's own uptime


def alive(**changes: object) -> Health:
    wall_ms = time.time_ns() // 1_000_000
    health = Health(
        pid=os.getpid(),
        firmware="1.2.3",
        at_s=now_s(),
        at_ms=wall_ms,
        link_is_up=True,
        is_answering=True,
        heard_at_ms=wall_ms,
        printer="ok",
        clock="signed",
        scanner=ScannerHealth(frames=9, restarts=1, last_frame_at_s=now_s()),
    )
    return structs.replace(health, **changes)


def tell(state: Path, health: Health) -> None:
    (state / "health.json").write_bytes(msgspec.json.encode(health))


OWED = (
    *accepted("key-offline-1", 450),
    *accepted("key-offline-2", 1250),
    sale("key-cancel", EPOCH_MS - 1000),
    SaleCancelled("key-cancel", CancelReason.NO_REPLY),
    SessionEnded("session-0123456789", "key-out"),
)


def test_the_queue_its_sum_and_its_age_are_told_while_the_program_is_down(state: Path) -> None:
    written(state, *OWED)
    status = status_of(settings_for(state))
    assert status.queue == Queue(
        offline=2,
        offline_in_cents=1700,
        currency="EUR",
        cancels=1,
        sign_outs=1,
        oldest_at_ms=EPOCH_MS - 1000,
    )
    assert (status.is_running, status.why) == (False, Why.NOT_RUNNING)
    said = plain(status)
    assert "17.00 EUR sold offline" in said
    assert "1 cancels, 0 refunds and 1 sign-outs unanswered, 2 offline sales to upload" in said
    assert not status.is_sound, "what waits since long ago and does not move is a trouble"
    assert "more than an hour: the program is not running" in said


def test_a_running_program_says_why_nothing_moves(state: Path) -> None:
    written(state, PolicyTaken(1, sign_policy(a_policy(), POLICY_KEY, "policy-1")), *OWED)
    tell(state, alive(link_is_up=False, is_answering=False, link_trouble="no route to host"))
    status = status_of(settings_for(state))
    assert (status.is_running, status.why) == (True, Why.NO_NETWORK)
    assert "no network to the broker: no route to host" in plain(status)
    tell(state, alive(refusal="device_quarantined"))
    status = status_of(settings_for(state))
    assert status.why == Why.REFUSED_BY_CLOUD
    assert "the cloud refuses this appliance: device_quarantined" in status.troubles
    tell(state, alive())
    status = status_of(settings_for(state))
    assert (status.why, status.is_sound) == (Why.MOVING, True)


@pytest.mark.parametrize("stale", [{"at_s": 10**9}, {"at_s": -1000.0}, {"pid": 2**22 + 7}])
def test_what_a_program_said_that_is_gone_counts_for_nothing(
    state: Path, stale: dict[str, float]
) -> None:
    written(state)
    tell(state, alive(**stale))
    status = status_of(settings_for(state))
    assert not status.is_running
    assert status.link == ""


def test_an_appliance_at_rest_is_sound_and_says_who_and_what_it_is(state: Path) -> None:
    policy = PolicyTaken(1, sign_policy(a_policy(), POLICY_KEY, "policy-1"))
    written(state, policy, SessionBegan(a_session(), "t"))
    tell(state, alive())
    (state / "journal-set-aside-1.db").write_bytes(b"")
    status = status_of(settings_for(state))
    assert status.is_sound, status.troubles
    assert status.certificate_days > 0
    said = plain(status)
    for words in (
        "till-1, certificate valid until",
        "running, 1.2.3",
        "mq.example:8883, up, the cloud answers",
        "nothing waits",
        "0 slips wait",
        "9 frames, the last 0 s before, 1 restarts",
        "North Bar, Summer Fair; no offline sales",
        "signed in    AL",
        "3 entries, settled below 4",
        "journal-set-aside-1.db: damaged, and kept",
        "MiB free",
    ):
        assert words in said


def test_nothing_is_written_by_looking(state: Path) -> None:
    written(state, *OWED)
    before = {path: path.stat().st_mtime_ns for path in state.rglob("*") if path.is_file()}
    status_of(settings_for(state))
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before


@pytest.mark.parametrize("spoil", ["journal.db", "health.json", "identity/key.pem"])
def test_a_file_that_cannot_be_read_is_said_and_hides_no_other(state: Path, spoil: str) -> None:
    written(state, *OWED)
    tell(state, alive())
    (state / spoil).write_bytes(b"\xff nonsense" * 1000)
    status = status_of(settings_for(state))
    match spoil:
        case "journal.db":
            assert any("journal cannot be read" in each for each in status.troubles)
            assert status.device_id == "till-1"
            assert status.is_running
        case "health.json":
            assert not status.is_running
            assert status.queue.offline == 2
        case _:
            assert any("no identity" in each for each in status.troubles)
            assert status.queue.offline == 2
    assert not status.is_sound


def test_a_terminal_gets_a_table_that_takes_no_name_for_markup(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = a_policy(stall_name="[red]Bar[/red]")
    written(state, PolicyTaken(1, sign_policy(named, POLICY_KEY, "policy-1")))
    show(status_of(settings_for(state)))
    assert "[red]Bar[/red]" in capsys.readouterr().out


def test_a_program_reads_the_same_as_a_person(state: Path) -> None:
    written(state, *OWED)
    status = status_of(settings_for(state))
    read = msgspec.json.decode(msgspec.json.encode(status), type=Status)
    assert plain(read) == plain(status)


@pytest.fixture
def file(tmp_path: Path) -> HealthFile:
    return HealthFile(tmp_path, Sources("1.2.3", lambda: "no route", lambda: None))


def test_health_is_told_at_once_when_it_changes_and_otherwise_seldom(
    file: HealthFile, tmp_path: Path
) -> None:
    def told_at(till: Till, now: float) -> float:
        file.tell(till, "", now, EPOCH_MS)
        health = read_health(tmp_path)
        assert health is not None
        return health.at_s

    down, up = Till(), Till(link=Link(is_up=True))
    assert told_at(down, 100.0) == 100.0
    assert told_at(up, 100.0 + PAUSE_S / 2) == 100.0, "not so soon again"
    assert told_at(up, 100.0 + PAUSE_S) == 102.0
    assert told_at(up, 105.0) == 102.0, "nothing has changed"
    assert told_at(up, 102.0 + AT_LEAST_S) == 102.0 + AT_LEAST_S


def test_health_says_what_the_till_knows(file: HealthFile, tmp_path: Path) -> None:
    broken = Till(phase=JournalBroken((), 0.0, Light.FAULT))
    file.tell(broken, "device_revoked", now_s(), EPOCH_MS)
    health = read_health(tmp_path)
    assert health is not None
    assert is_alive(health, now_s())
    assert (health.is_journal_open, health.refusal) == (False, "device_revoked")
    assert (health.link_trouble, health.clock) == ("no route", "not trusted")


def test_a_disk_that_takes_no_health_stops_nothing(tmp_path: Path) -> None:
    file = HealthFile(tmp_path / "missing", Sources("1.2.3", lambda: "", lambda: None))
    file.tell(Till(), "", 1.0, EPOCH_MS)
    assert read_health(tmp_path / "missing") is None
