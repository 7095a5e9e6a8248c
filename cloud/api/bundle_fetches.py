"""How bundles leave: to few appliances at once, at one pace for all, and to none that stopped."""

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from cloud.metrics import UPDATE_FETCHES
from cloud.settings import UpdatesSettings
from protocol.ids import DeviceId

STALLED_AFTER_S: Final = 30.0
"""Whoever takes not even the next 64 kB in that time has left, and asks again where it was."""
_MEGABYTE: Final = 1_000_000


class Fetches:
    """Who fetches now, in this process; used on the listener's loop alone."""

    def __init__(self, settings: UpdatesSettings) -> None:
        self.at_once_max = settings.fetches_max
        self.bytes_per_s = settings.megabytes_per_s * _MEGABYTE
        self._under_way: dict[DeviceId, object] = {}
        """The newest fetch of each appliance."""
        self._free_at_s = 0.0

    def __len__(self) -> int:
        return len(self._under_way)

    def is_full(self, device_id: DeviceId) -> bool:
        """One that lost its connection comes back in its own place."""
        return device_id not in self._under_way and len(self._under_way) >= self.at_once_max

    @contextmanager
    def taking_part(self, device_id: DeviceId) -> Generator[object]:
        """The fetch's own name; one by the same appliance from before ends."""
        this = object()
        self._under_way[device_id] = this
        UPDATE_FETCHES.set(len(self._under_way))
        try:
            yield this
        finally:
            if self._under_way.get(device_id) is this:
                del self._under_way[device_id]
                UPDATE_FETCHES.set(len(self._under_way))

    def is_newest(self, device_id: DeviceId, fetch: object) -> bool:
        return self._under_way.get(device_id) is fetch

    async def wait_for_turn(self, size: int) -> None:
        """Return when so many bytes more may leave."""
        now_s = time.monotonic()  # noqa: TID251  # a listener's loop is an edge
        at_s = max(now_s, self._free_at_s)
        self._free_at_s = at_s + size / self.bytes_per_s
        if at_s > now_s:
            await asyncio.sleep(at_s - now_s)


class BundleResponse(FileResponse):
    """A file of one name and one content for ever: its name is its ETag, so that whoever goes on
    with `If-Range` never mixes two."""

    def __init__(self, path: Path, sha256: str, device_id: DeviceId, fetches: Fetches) -> None:
        super().__init__(
            path, media_type="application/vnd.rauc.bundle", headers={"ETag": f'"{sha256}"'}
        )
        self._device_id = device_id
        self._fetches = fetches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._fetches.taking_part(self._device_id) as this:

            async def send_in_turn(message: Message) -> None:
                body: Any = message.get("body", b"")
                await self._fetches.wait_for_turn(len(body))
                if not self._fetches.is_newest(self._device_id, this):
                    raise OvertakenError
                async with asyncio.timeout(STALLED_AFTER_S):
                    await send(message)

            try:
                await super().__call__(scope, receive, send_in_turn)
            except (OvertakenError, TimeoutError):
                # Nobody reads it. The connection is closed, since the answer is not whole.
                return


class OvertakenError(Exception):
    """The same appliance fetches by another connection."""
