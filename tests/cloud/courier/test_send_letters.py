"""The outbox against a real mail server: each letter once, whatever the server does."""

import ssl
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from cloud.courier.mail_files import MailFiles
from cloud.courier.post_office import PostOffice, PostOfficeAwayError
from cloud.courier.send_letters import LEASE, TRIED_FOR, send_letters, wait_before_try
from cloud.courier.smtp import SmtpPostOffice
from cloud.settings import MailSettings
from cloud.store.letters import Letter, TopUpReceipt, post_letter
from cloud.store.tables import letters
from tests.cloud.courier.mail_server import MailServer
from tests.cloud.courier.samples import SENDER, code, eur
from tests.cloud.floor import Floor


def settings(server: MailServer, **changes: Any) -> MailSettings:
    said: dict[str, Any] = {
        "kind": "smtp",
        "host": "127.0.0.1",
        "port": server.port,
        "security": "none",
    }
    return MailSettings.model_validate(said | {"sender": SENDER, "deadline_s": 30} | changes)


def receipt(floor: Floor, **changes: Any) -> TopUpReceipt:
    said: dict[str, Any] = {
        "amount": eur(2000),
        "balance": eur(2000),
        "reference": "cs_1",
        "at_ms": round(floor.now().timestamp() * 1000),
    }
    return TopUpReceipt(**(said | changes))


def fresh_code(floor: Floor) -> Letter:
    return code(round(floor.now().timestamp() * 1000))


def write(floor: Floor, letter: Letter, to: str = "mia@fair.example") -> None:
    with floor.database.transaction() as connection:
        post_letter(connection, to, letter, floor.now())


def rows(floor: Floor) -> list[Any]:
    with floor.database.reading() as connection:
        return list(connection.execute(select(letters).order_by(letters.c.letter_id)))


def send(floor: Floor, post_office: PostOffice) -> int:
    return send_letters(floor.database, post_office, sender=SENDER, clock=floor.now)


@pytest.fixture
def post_office(server: MailServer) -> SmtpPostOffice:
    return SmtpPostOffice(settings(server))


def test_a_letter_is_sent_once_and_emptied(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    write(floor, receipt(floor))
    write(floor, fresh_code(floor), "leo@fair.example")
    assert send(floor, post_office) == 2
    assert send(floor, post_office) == 0
    assert [each["To"] for each in server.letters] == ["mia@fair.example", "leo@fair.example"]
    assert server.ids() == [f"<{row.letter_id}@fair.example>" for row in rows(floor)]
    assert server.sessions == 1, "one connection carried both"
    for row in rows(floor):
        assert (row.state, row.content, row.next_try_at) == ("sent", None, None)
        assert row.ended_at == floor.now()


def test_a_letter_of_a_transaction_that_failed_is_never_sent(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    with suppress(LookupError), floor.database.transaction() as connection:
        post_letter(connection, "mia@fair.example", receipt(floor), floor.now())
        raise LookupError
    assert send(floor, post_office) == 0
    assert server.letters == []


@pytest.mark.parametrize("where", ["to_recipient", "to_letter"])
def test_a_refusal_for_good_ends_the_letter_at_once_and_is_audited(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice, where: str
) -> None:
    setattr(server, where, "550 5.1.1 no such mailbox mia@fair.example")
    write(floor, receipt(floor))
    assert send(floor, post_office) == 1
    [row] = rows(floor)
    assert (row.state, row.content, row.next_try_at) == ("given_up", None, None)
    assert row.last_fault in {"550 recipient", "550 letter"}
    [record] = floor.audit(action="letter")
    assert (record.actor, record.outcome) == ("system:courier", "given_up")
    assert record.subject == str(row.letter_id)
    assert "mia@fair" not in str(record), "an address is nobody's in the log"


def test_a_refusal_for_now_is_tried_again_later_and_later(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    server.to_letter = "451 4.7.1 try later"
    write(floor, receipt(floor))
    tries = 0
    while rows(floor)[0].state == "waiting":
        send(floor, post_office)
        tries += 1
        [row] = rows(floor)
        if row.next_try_at is not None:
            assert row.next_try_at == floor.now() + wait_before_try(tries + 1)
            floor.time = row.next_try_at
    [row] = rows(floor)
    assert (row.state, row.content) == ("given_up", None)
    assert 70 < tries < 90, "some three days of hours"
    assert floor.now() > row.created_at + TRIED_FOR - timedelta(hours=2)
    assert len(floor.audit(action="letter", outcome="given_up")) == 1


def test_a_greylisted_letter_goes_the_second_time(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    server.to_recipient = "450 later"
    write(floor, receipt(floor))
    assert send(floor, post_office) == 0
    server.to_recipient = "250 OK"
    floor.pass_time(seconds=9)
    assert send(floor, post_office) == 0
    floor.pass_time(seconds=1)
    assert send(floor, post_office) == 1
    [row] = rows(floor)
    assert (row.state, row.tries, row.last_fault) == ("sent", 2, None)


def test_one_refused_letter_does_not_hold_up_the_next(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    write(floor, receipt(floor), "nobody")
    write(floor, receipt(floor, timezone="Nowhere/At-all"))
    write(floor, receipt(floor), "leo@fair.example")
    assert send(floor, post_office) == 2
    assert [row.state for row in rows(floor)] == ["given_up", "waiting", "sent"]
    assert [row.last_fault for row in rows(floor)] == [
        "address not usable",
        "cannot be written",
        None,
    ]


@pytest.mark.parametrize("how", ["hang", "drop"])
def test_a_server_that_hangs_or_hangs_up_costs_a_try_and_no_letter(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice, how: str
) -> None:
    server.to_letter = how
    impatient = SmtpPostOffice(settings(server, deadline_s=0.5))
    write(floor, receipt(floor))
    with pytest.raises(PostOfficeAwayError):
        send(floor, impatient)
    assert rows(floor)[0].next_try_at == floor.now() + timedelta(seconds=10)
    server.to_letter = "250 OK"
    floor.pass_time(seconds=10)
    assert send(floor, post_office) == 1
    assert len(server.letters) == 1


def test_taken_in_but_not_confirmed_it_comes_again_under_the_same_id(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    server.to_letter = "drop after"
    write(floor, receipt(floor))
    with pytest.raises(PostOfficeAwayError):
        send(floor, post_office)
    server.to_letter = "250 OK"
    floor.pass_time(seconds=10)
    assert send(floor, post_office) == 1
    first, second = server.ids()
    assert first == second


def test_with_no_server_at_all_letters_wait(floor: Floor, server: MailServer) -> None:
    nobody = SmtpPostOffice(settings(server, port=1))
    write(floor, receipt(floor))
    with pytest.raises(PostOfficeAwayError, match="connecting: ConnectionRefusedError"):
        send(floor, nobody)
    assert rows(floor)[0].state == "waiting"
    assert rows(floor)[0].last_fault == "connecting: ConnectionRefusedError"


def test_a_code_that_signs_nobody_in_any_more_is_dropped_unseen(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    write(floor, fresh_code(floor))
    floor.pass_time(minutes=10)
    assert send(floor, post_office) == 1
    [row] = rows(floor)
    assert (row.state, row.content, row.last_fault) == ("given_up", None, "too late")
    assert (server.letters, floor.audit(action="letter")) == ([], [])


def test_what_cannot_be_read_is_given_up_and_audited(
    floor: Floor, post_office: SmtpPostOffice
) -> None:
    write(floor, receipt(floor))
    with floor.database.transaction() as connection:
        connection.execute(update(letters).values(content={"kind": "a kind of tomorrow"}))
    assert send(floor, post_office) == 1
    assert rows(floor)[0].last_fault == "unreadable"
    assert len(floor.audit(action="letter", outcome="given_up")) == 1


def test_a_courier_that_died_before_sending_is_followed_by_another(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    class Dies:
        def hand_in(self, message: EmailMessage, to_address: str) -> None:
            assert message["To"] == to_address
            raise KeyboardInterrupt

        def leave(self) -> None:
            """Nothing is open."""

    write(floor, receipt(floor))
    with pytest.raises(KeyboardInterrupt):
        send(floor, Dies())
    assert send(floor, post_office) == 0, "it may still be at it"
    floor.pass_time(seconds=LEASE.total_seconds())
    assert send(floor, post_office) == 1
    assert len(server.letters) == 1


def test_a_courier_that_died_after_sending_costs_a_second_copy_under_the_same_id(
    floor: Floor,
    server: MailServer,
    post_office: SmtpPostOffice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(floor, receipt(floor))
    transaction = floor.database.transaction

    @contextmanager
    def away() -> Generator[Any]:
        if server.letters:
            raise OperationalError("UPDATE", {}, Exception("connection refused"))
        with transaction() as connection:
            yield connection

    with monkeypatch.context() as cut:
        cut.setattr(floor.database, "transaction", away)
        with pytest.raises(OperationalError):
            send(floor, post_office)
    floor.pass_time(seconds=LEASE.total_seconds())
    assert send(floor, post_office) == 1
    first, second = server.ids()
    assert first == second


def test_several_couriers_at_once_send_each_letter_once(floor: Floor, server: MailServer) -> None:
    for number in range(40):
        write(floor, receipt(floor), f"guest-{number}@fair.example")
    start = threading.Barrier(4)

    def courier() -> int:
        start.wait()
        return send(floor, SmtpPostOffice(settings(server, deadline_s=10)))

    with ThreadPoolExecutor(4) as couriers:
        done = [each.result() for each in [couriers.submit(courier) for _ in range(4)]]
    assert sum(done) == 40
    assert len(set(server.ids())) == len(server.letters) == 40


def test_asked_to_stop_it_sends_no_further_letter(
    floor: Floor, server: MailServer, post_office: SmtpPostOffice
) -> None:
    write(floor, receipt(floor))
    write(floor, receipt(floor))
    ended = send_letters(
        floor.database,
        post_office,
        sender=SENDER,
        clock=floor.now,
        is_stopping=lambda: bool(server.letters),
    )
    assert (ended, len(server.letters)) == (1, 1)


def test_as_files_a_letter_that_comes_again_replaces_itself(floor: Floor, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    write(floor, fresh_code(floor))
    assert send(floor, MailFiles(folder)) == 1
    with floor.database.transaction() as connection:
        content = {"kind": "top_up_receipt", **_plain(receipt(floor))}
        connection.execute(
            update(letters).values(state="waiting", content=content, next_try_at=floor.now())
        )
    assert send(floor, MailFiles(folder)) == 1
    [file] = folder.iterdir()
    assert file.name == f"{rows(floor)[0].letter_id}.eml"
    assert "Subject: Receipt" in file.read_text()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_folder_that_takes_no_files_costs_no_letter(floor: Floor, tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("in the way")
    write(floor, receipt(floor))
    with pytest.raises(PostOfficeAwayError, match="files: "):
        send(floor, MailFiles(tmp_path / "mail"))
    assert rows(floor)[0].state == "waiting"


class TestSecrets:
    """A password is shown to nobody but the server it is meant for."""

    @pytest.fixture
    def tls_server(self, tmp_path: Path) -> Iterator[tuple[MailServer, Path]]:
        path = _certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        with MailServer(tls=context, password="the right one") as server:
            yield server, path

    def office(self, server: MailServer, path: Path | None, password: str) -> SmtpPostOffice:
        return SmtpPostOffice(
            settings(
                server,
                host="localhost",
                security="starttls",
                authorities=path,
                user="railtix",
                password=SecretStr(password),
                deadline_s=5,
            )
        )

    def test_over_starttls_it_signs_in_and_sends(
        self, floor: Floor, tls_server: tuple[MailServer, Path]
    ) -> None:
        server, path = tls_server
        write(floor, receipt(floor))
        assert send(floor, self.office(server, path, "the right one")) == 1
        assert len(server.letters) == 1

    def test_a_wrong_password_costs_no_letter_and_is_in_no_fault(
        self, floor: Floor, tls_server: tuple[MailServer, Path]
    ) -> None:
        server, path = tls_server
        write(floor, receipt(floor))
        with pytest.raises(PostOfficeAwayError) as away:
            send(floor, self.office(server, path, "a wrong one"))
        assert str(away.value) == "connecting: SMTPAuthenticationError"
        assert "a wrong one" not in repr(rows(floor))
        assert rows(floor)[0].state == "waiting"

    def test_a_server_that_cannot_prove_its_name_hears_no_password(
        self, floor: Floor, tls_server: tuple[MailServer, Path]
    ) -> None:
        server, _ = tls_server
        write(floor, receipt(floor))
        with pytest.raises(PostOfficeAwayError, match="SSLCertVerificationError"):
            send(floor, self.office(server, None, "the right one"))
        assert server.letters == []

    def test_without_tls_nothing_is_said_to_a_server_that_was_to_have_it(
        self, floor: Floor, server: MailServer
    ) -> None:
        write(floor, receipt(floor))
        with pytest.raises(PostOfficeAwayError, match="SMTPNotSupportedError"):
            send(floor, self.office(server, None, "the right one"))
        assert server.letters == []


def _plain(letter: TopUpReceipt) -> dict[str, Any]:
    return {
        "amount": {"amount_in_cents": 2000, "currency": "EUR"},
        "balance": {"amount_in_cents": 2000, "currency": "EUR"},
        "reference": letter.reference,
        "at_ms": letter.at_ms,
    }


def _certificate(folder: Path) -> Path:
    """Of `localhost`, and its key, in one file (PEM)."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)  # noqa: TID251  # TLS asks the real clock
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    return path
