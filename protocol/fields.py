"""What a message's fields may hold: every text and number on the wire is bounded."""

from typing import Annotated

import msgspec

Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")]
Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{16,64}\Z")]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
"""Since 1970, UTC."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Version = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Jws = Annotated[str, msgspec.Meta(max_length=1024)]
ReplyJws = Annotated[str, msgspec.Meta(max_length=4096)]
ShortId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{0,22}\Z")]
"""An id out of a wallet QR; empty where there is none."""
