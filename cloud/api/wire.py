"""HTTP/1.1 as uvicorn reads it, where what is no request gets a problem and a slow one ends."""

import asyncio
from http import HTTPStatus
from typing import Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from cloud.api.defences import HEAD_BYTES_MAX, HEADERS
from cloud.api.problems import problem

HEAD_WITHIN_S: Final = 15.0
"""From the connection's beginning, or a request's first byte, to its last header."""

GOODBYE_WITHIN_S: Final = 2.0


class Wire(H11Protocol):
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_due is None and self.conn.trailing_data[0]:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server leaves. TLS waits for the other side's goodbye, and a resting client, whose
        connection is only kept for later, sends none."""
        super().shutdown()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_tls = self.transport.get_extra_info("ssl_object") is not None
        if is_tls and (cycle is None or cycle.response_complete):
            self.loop.call_later(GOODBYE_WITHIN_S, self._hang_up)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or its headers are too long. There is no request to name."""
        said = problem(
            HTTPStatus.BAD_REQUEST,
            "not_http",
            "This is not an HTTP request that can be read, or its headers are too long.",
            f"Send HTTP/1.1 with headers of at most {HEAD_BYTES_MAX} bytes together.",
        )
        headers = [*said.raw_headers, *HEADERS, (b"connection", b"close")]
        try:
            for event in (
                h11.Response(status_code=said.status_code, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(said.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            # An answer is on its way already: nothing can be said between its parts.
            self.logger.debug(msg)
        finally:
            self.transport.close()

    def _hang_up(self) -> None:
        if self.transport.get_write_buffer_size() > 0:
            # The end of an answer is on its way to somebody slow.
            self.loop.call_later(GOODBYE_WITHIN_S, self._hang_up)
        else:
            self.transport.abort()

    def _wait_for_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
