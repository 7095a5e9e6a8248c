from escpos.escpos import Escpos

class Dummy(Escpos):
    @property
    def output(self) -> bytes: ...

class Usb(Escpos):
    def __init__(
        self, idVendor: int, idProduct: int, *, timeout: int = 0, profile: str | None = None
    ) -> None: ...

class Serial(Escpos):
    def __init__(
        self, devfile: str, baudrate: int = 9600, *, timeout: float = 1, profile: str | None = None
    ) -> None: ...

class Network(Escpos):
    def __init__(
        self, host: str, port: int = 9100, timeout: float = 60, *, profile: str | None = None
    ) -> None: ...
