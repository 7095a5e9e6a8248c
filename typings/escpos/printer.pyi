from typing import Any

from escpos.escpos import Escpos

class Dummy(Escpos):
    @property
    def output(self) -> bytes: ...

class Usb(Escpos):
    device: Any
    in_ep: int
    out_ep: int
    def __init__(
        self, idVendor: int, idProduct: int, *, timeout: int = 0, profile: str | None = None
    ) -> None: ...

class Serial(Escpos):
    device: Any
    def __init__(
        self, devfile: str, baudrate: int = 9600, *, timeout: float = 1, profile: str | None = None
    ) -> None: ...

class Network(Escpos):
    device: Any
    host: str
    port: int
    timeout: float
    def __init__(
        self, host: str, port: int = 9100, timeout: float = 60, *, profile: str | None = None
    ) -> None: ...
