"""The attendee's pages: plain HTML, CSS and JavaScript, served as they are; nothing is built."""

from html import escape
from pathlib import Path
from string import Template
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
WALLET: Final = STATIC / "wallet.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"


def render_card_page(
    amount: str, number: str, back: str, notice: str, *, is_open: bool = True
) -> str:
    """The test provider's card page; every text is escaped. Closed, it takes no card."""
    said = f'<p class="notice" role="alert">{escape(notice)}</p>' if notice else ""
    page = Template((_TEMPLATES / "card.html").read_text(encoding="utf-8"))
    return page.substitute(
        amount=escape(amount),
        number=escape(number),
        back=escape(back),
        notice=said,
        hidden="" if is_open else " hidden",
    )
