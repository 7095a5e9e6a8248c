"""A printer to python-escpos whose bytes go to a callback instead of a cable."""

from collections.abc import Callable

from escpos.escpos import Escpos


class SocketPrinter(Escpos):
    """As python-escpos's own Usb, Serial and Network, with a function for a cable."""

    def __init__(self, profile: str, on_bytes: Callable[[bytes], None]) -> None:
        super().__init__(profile=profile)
        self._on_bytes = on_bytes

    def _raw(self, msg: bytes) -> None:
        self._on_bytes(msg)
