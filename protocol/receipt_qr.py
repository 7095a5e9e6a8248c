"""The receipt's QR: names the sale to an appliance's camera, and tells nobody else anything."""

from typing import Final

import msgspec

from protocol.messages import SaleName

_MARK: Final = "RTSALE1"
"""With colons, so that no reader takes it for a wallet QR, whose parts are parted by dots."""
TEXT_CHARS_MAX: Final = 128


def write(sale: SaleName) -> str:
    """What the printer draws; whoever scans it can only ask for money back to the same wallet."""
    return f"{_MARK}:{sale.device_id}:{sale.key}"


def read(text: str) -> SaleName | None:
    """The sale that a scanned text names, or None where it is some other code."""
    parts = text.split(":") if len(text) <= TEXT_CHARS_MAX else []
    if len(parts) != 3 or parts[0] != _MARK:
        return None
    try:
        return msgspec.convert({"device_id": parts[1], "key": parts[2]}, SaleName)
    except msgspec.ValidationError:
        return None
