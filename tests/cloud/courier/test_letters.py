import io
from email.message import EmailMessage
from pathlib import Path
from typing import get_args

import pytest
import zxingcpp
from PIL import Image

from cloud.courier.letters.message import AddressNotUsableError, make_message, read_address
from cloud.store.letters import Letter, LetterLine, PosReceipt, TopUpReceipt
from tests.cloud.courier.samples import (
    AT_MS,
    LETTER_ID,
    SAMPLES,
    SENDER,
    TICKETS,
    WRITTEN_AT,
    eur,
)

GOLDEN = Path(__file__).with_name("golden")


def made(letter: Letter, to: str = "mia@fair.example") -> EmailMessage:
    return make_message(LETTER_ID, to, letter, written_at=WRITTEN_AT, sender=SENDER)


def text_of(message: EmailMessage, subtype: str = "plain") -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return str(part.get_content())


def test_there_is_a_sample_of_each_kind() -> None:
    assert {type(each) for each in SAMPLES.values()} == set(get_args(Letter))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_letter_says_what_it_always_said(name: str) -> None:
    message = made(SAMPLES[name])
    text = text_of(message).replace("\r\n", "\n")
    said = f"Subject: {message['Subject']}\n\n{text}"
    assert said == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SAMPLES)
def test_each_letter_is_plain_mail_with_an_html_twin(name: str) -> None:
    message = made(SAMPLES[name])
    raw = message.as_bytes()
    assert raw.isascii(), "every relay takes it"
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert message["Message-ID"] == f"<{LETTER_ID}@fair.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == WRITTEN_AT
    assert (message["From"], message["To"]) == (SENDER, "mia@fair.example")
    html = text_of(message, "html")
    assert "<script" not in html
    assert "src=" not in html.replace('src="cid:', ""), "nothing is fetched from anywhere"


def test_what_a_ticket_s_picture_says_is_its_code() -> None:
    message = made(SAMPLES["order_paid"])
    html = text_of(message, "html")
    pictures = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert [part.get_filename() for part in pictures] == ["ticket-1.png", "ticket-2.png"]
    for part, code in zip(pictures, TICKETS, strict=True):
        assert f"cid:{part['Content-ID'].strip('<>')}" in html
        assert code in text_of(message)
        picture = Image.open(io.BytesIO(part.get_payload(decode=True)))  # pyright: ignore[reportArgumentType]
        [read] = zxingcpp.read_barcodes(picture.convert("L"))
        assert read.text == code


def test_a_code_is_not_in_the_subject() -> None:
    message = made(SAMPLES["one_time_code"])
    assert "402917" in text_of(message)
    assert "402917" in text_of(message, "html")
    assert "402917" not in str(message["Subject"])
    assert "402917" not in repr(SAMPLES["one_time_code"])


def test_a_name_from_outside_stays_within_its_line() -> None:
    hostile = PosReceipt(
        event_name="Fair\r\nBcc: all@fair.example",
        stall_name="Bar\nTo: other@fair.example\x00\u202e",
        is_refund=False,
        amount=eur(350),
        code="X",
        lines=(LetterLine('<img src=x onerror="alert(1)">', 1, 350),),
        at_ms=AT_MS,
    )
    message = made(hostile)
    assert message.keys().count("To") == 1
    assert message["Bcc"] is None
    assert "\n" not in str(message["Subject"])
    assert "\x00" not in str(message["Subject"])
    assert "<img" not in text_of(message, "html")
    assert "&lt;img" in text_of(message, "html")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "mia",
        "@fair.example",
        "mia@",
        "mia@fair.example\r\nBcc: all@fair.example",
        "mia@fair.example\nBcc: all@fair.example",
        "mia@fair.example, all@fair.example",
        "Mia <mia@fair.example>",
        "mia@a@b",
        "mia mia@fair.example",
        "mia\x00@fair.example",
        "mia@fair..example",
        "mia@" + "a" * 64 + ".example",
        "m" * 250 + "@fair.example",
    ],
)
def test_what_is_no_single_address_gets_no_letter(address: str) -> None:
    with pytest.raises(AddressNotUsableError) as refused:
        made(SAMPLES["one_time_code"], address)
    assert "fair" not in str(refused.value)


def test_a_domain_beyond_ascii_is_named_as_mail_names_it() -> None:
    assert read_address("mia@bühne.example").addr_spec == "mia@xn--bhne-0ra.example"


def test_an_unknown_locale_does_not_lose_a_letter() -> None:
    odd = TopUpReceipt(
        amount=eur(2000), balance=eur(2000), reference="cs", at_ms=AT_MS, locale="xx_XX"
    )
    assert made(odd)["Subject"] == "Receipt: €20.00 of Credits"
