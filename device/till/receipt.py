"""A sale as printable lines: what stands on the paper, and nothing about how paper is made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One paragraph, wrapped to the paper's width."""

    text: str
    bold: bool = False
    large: bool = False
    centred: bool = False


@dataclass(frozen=True)
class Columns:
    """A line with something at each edge, such as a product and its price."""

    left: str
    right: str
    bold: bool = False


@dataclass(frozen=True)
class Rule:
    """A line across the paper."""


@dataclass(frozen=True)
class Qr:
    """A QR code with its content spelled out, or explained, below it."""

    content: str
    caption: str


Line = Text | Columns | Rule | Qr


@dataclass(frozen=True)
class Slip:
    """One piece of paper, from the top edge to the cut."""

    lines: tuple[Line, ...]
