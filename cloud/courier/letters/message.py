"""A letter as a mail message (RFC 5322): text, HTML, each ticket's QR as a picture."""

import io
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Final
from uuid import UUID

import segno

from cloud.courier.letters.layout import as_html, as_text, one_line
from cloud.courier.letters.writing import write
from cloud.store.letters import Letter

ADDRESS_CHARS_MAX: Final = 254
# What each relay takes: never raw eight-bit text (RFC 6152 is optional).
_POLICY: Final = SMTP.clone(cte_type="7bit")
_QR_PIXELS_A_MODULE: Final = 6
_QR_QUIET_MODULES: Final = 4
_NOT_IN_ADDRESSES: Final = frozenset('<>()[]\\,;:" ')


class AddressNotUsableError(ValueError):
    """What stands there is no address that mail could go to; the text is in no message."""


def make_message(
    letter_id: UUID, to_address: str, letter: Letter, *, written_at: datetime, sender: str
) -> EmailMessage:
    """The same letter has the same Message-ID however often it is sent.

    Raises AddressNotUsableError.
    """
    to = read_address(to_address)
    page = write(letter)
    name, from_address = parseaddr(sender)
    domain = from_address.partition("@")[2]
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(name, addr_spec=from_address)
    message["To"] = to
    message["Subject"] = one_line(page.subject)
    message["Message-ID"] = f"<{letter_id}@{domain}>"
    message["Date"] = written_at
    # RFC 3834 section 5: nobody's holiday notice answers it.
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = "en"
    message.set_content(as_text(page))
    picture_ids = tuple(
        f"ticket-{number}.{letter_id}@{domain}" for number in range(1, len(page.tickets) + 1)
    )
    message.add_alternative(as_html(page, picture_ids), subtype="html")
    html = message.get_payload(1)
    assert isinstance(html, EmailMessage), "the alternative that was just added"
    for number, (ticket, picture_id) in enumerate(
        zip(page.tickets, picture_ids, strict=True), start=1
    ):
        html.add_related(
            _draw(ticket.code),
            "image",
            "png",
            cid=f"<{picture_id}>",
            filename=f"ticket-{number}.png",
            disposition="inline",
        )
    return message


def read_address(text: str) -> Address:
    """One plain address; a line break, a list or a name beside it is refused.

    Raises AddressNotUsableError.
    """
    local, at, domain = text.rpartition("@")
    usable = (
        bool(local and at and domain)
        and len(text) <= ADDRESS_CHARS_MAX
        and text.isprintable()
        and "@" not in local
        and _NOT_IN_ADDRESSES.isdisjoint(text)
    )
    if not usable:
        raise AddressNotUsableError
    try:
        return Address(username=local, domain=domain.encode("idna").decode("ascii"))
    except (ValueError, IndexError):
        raise AddressNotUsableError from None


def _draw(code: str) -> bytes:
    drawn = io.BytesIO()
    segno.make(code, error="m", micro=False).save(
        drawn, kind="png", scale=_QR_PIXELS_A_MODULE, border=_QR_QUIET_MODULES
    )
    return drawn.getvalue()
