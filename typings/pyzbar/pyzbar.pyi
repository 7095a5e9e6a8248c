from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from numpy import uint8
from numpy.typing import NDArray

class ZBarSymbol(IntEnum):
    QRCODE = 64

class Decoded(NamedTuple):
    data: bytes
    type: str

def decode(
    image: NDArray[uint8] | tuple[bytes, int, int], symbols: Iterable[ZBarSymbol] | None = None
) -> list[Decoded]: ...
