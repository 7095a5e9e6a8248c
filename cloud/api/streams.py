"""An answer in blocks that lets go of what it reads from, however it ends."""

from collections.abc import Generator
from itertools import chain

import anyio
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send


class BlocksResponse(StreamingResponse):
    """The generator is closed at the end: also when whoever asked hung up, and nothing else would
    give its database connection back before the garbage collector comes by."""

    def __init__(self, blocks: Generator[bytes], media_type: str, headers: dict[str, str]) -> None:
        """Takes the first block at once: what fails until then is answered as a problem."""
        super().__init__(
            chain((next(blocks, b""),), blocks), media_type=media_type, headers=headers
        )
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._blocks.close)
