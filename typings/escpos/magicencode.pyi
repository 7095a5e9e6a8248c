from collections.abc import Mapping
from typing import TypedDict

class Encoder:
    def __init__(self, codepage_map: Mapping[str, int]) -> None: ...
    def can_encode(self, encoding: str, char: str) -> bool: ...

class MagicEncodeArgs(TypedDict, total=False):
    encoder: Encoder
