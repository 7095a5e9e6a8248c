"""A letter before it has a form: the same parts become its text and its HTML."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """What, and how much of it."""

    label: str
    value: str
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """A code that is shown at the door."""

    title: str
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    subject: str
    opening: tuple[str, ...]
    """Paragraphs; the first also stands in a mailbox's list."""
    secret: str | None = field(default=None, repr=False)
    """Shown large, to be typed elsewhere."""
    link: tuple[str, str] | None = field(default=None, repr=False)
    """What it does, and where it leads."""
    rows: tuple[Row, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    closing: tuple[str, ...] = ()
