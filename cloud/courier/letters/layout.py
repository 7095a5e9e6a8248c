"""A page as plain text and as simple HTML: nothing is fetched from anywhere, nothing runs."""

import textwrap
from html import escape
from typing import Final

from cloud.courier.letters.page import Page, Row

_WIDTH: Final = 72
_INK: Final = "#1a1f2b"
_QUIET: Final = "#5b6475"


def one_line(text: str) -> str:
    """Without line breaks and control characters: a name from outside stays within its line."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())


def as_text(page: Page) -> str:
    blocks = [*(_wrapped(each) for each in page.opening)]
    if page.secret is not None:
        blocks.append(f"    {one_line(page.secret)}")
    if page.link is not None:
        blocks.append(one_line(page.link[1]))
    if page.rows:
        width = max(len(one_line(each.label)) for each in page.rows)
        blocks.append("\n".join(_row_as_text(each, width) for each in page.rows))
    blocks += [f"{one_line(each.title)}\n{one_line(each.code)}" for each in page.tickets]
    blocks += [_wrapped(each) for each in page.closing]
    return "\n\n".join(blocks) + "\n"


def as_html(page: Page, picture_ids: tuple[str, ...]) -> str:
    """`picture_ids`: the Content-ID of each ticket's picture, in their order."""
    parts = [
        f'<h1 style="font-size:20px;margin:0 0 16px">{_safe(page.subject)}</h1>',
        *(_paragraph(each) for each in page.opening),
    ]
    if page.secret is not None:
        parts.append(
            '<p style="font-size:32px;font-weight:bold;letter-spacing:6px;margin:24px 0">'
            f"{_safe(page.secret)}</p>"
        )
    if page.link is not None:
        label, address = page.link
        parts.append(
            f'<p style="margin:24px 0"><a href="{_safe(address)}" style="background:{_INK};'
            "color:#ffffff;padding:12px 20px;border-radius:6px;text-decoration:none;"
            f'display:inline-block">{_safe(label)}</a></p>'
        )
    if page.rows:
        parts.append(
            '<table role="presentation" style="border-collapse:collapse;width:100%;margin:16px 0">'
            + "".join(map(_row_as_html, page.rows))
            + "</table>"
        )
    for ticket, picture_id in zip(page.tickets, picture_ids, strict=True):
        parts.append(
            '<div style="text-align:center;margin:24px 0">'
            f'<p style="font-weight:bold;margin:0 0 8px">{_safe(ticket.title)}</p>'
            f'<img src="cid:{_safe(picture_id)}" alt="{_safe(ticket.title)}, QR code" width="280"'
            ' style="width:280px;height:auto;background:#ffffff"></div>'
        )
    parts += [
        f'<p style="color:{_QUIET};margin:0 0 8px">{_safe(each)}</p>' for each in page.closing
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        f'content="light"><title>{_safe(page.subject)}</title></head>'
        '<body style="margin:0;background:#f3f4f7">'
        '<div style="max-width:520px;margin:0 auto;padding:24px;background:#ffffff;'
        f'color:{_INK};font:16px/1.5 system-ui,sans-serif">'
        + "".join(parts)
        + "</div></body></html>\n"
    )


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(one_line(paragraph), _WIDTH, break_long_words=False)


def _row_as_text(row: Row, width: int) -> str:
    return f"{one_line(row.label):<{width}}  {one_line(row.value)}"


def _row_as_html(row: Row) -> str:
    weight = "bold" if row.is_total else "normal"
    style = f"padding:6px 0;border-bottom:1px solid #e3e6ec;font-weight:{weight}"
    return (
        f'<tr><td style="{style}">{_safe(row.label)}</td>'
        f'<td style="{style};text-align:right;overflow-wrap:anywhere">{_safe(row.value)}</td></tr>'
    )


def _paragraph(text: str) -> str:
    return f'<p style="margin:0 0 12px">{_safe(text)}</p>'


def _safe(text: str) -> str:
    return escape(one_line(text), quote=True)
