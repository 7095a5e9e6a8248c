"""Logs as JSON lines on stderr, ours and the libraries' alike."""

import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from structlog.types import Processor

# uvicorn.access would write whole addresses, and some are secrets.
_QUIET: Final = ("httpx", "httpcore", "alembic", "asyncio", "uvicorn.access")

_handlers: Final[list["_Handler"]] = []


class _Handler(logging.StreamHandler[Any]):
    """A stream that also takes lines which are made already."""

    def write(self, lines: bytes) -> None:
        self.acquire()
        try:
            # As logging does: a log that nobody takes stops no sale.
            with suppress(OSError, ValueError):
                self.stream.write(lines.decode())
                self.flush()
        finally:
            self.release()


def log_as_json() -> None:
    """From now on, for this whole process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_as_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    _handlers[:] = [handler]


def write_lines(
    logger: str, event: str, at: datetime, lines: Iterable[Mapping[str, object]]
) -> None:
    """Many lines of one kind in one write: for what every request leaves behind.

    A line through `logging` takes 50 us, one from here 3, on the machine of
    docs/performance.md; a deduct as a whole takes some 750. Before `log_as_json` nothing is
    written.
    """
    if not _handlers:
        return
    stamp = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    last = {"event": event, "level": "info", "logger": logger, "timestamp": stamp}
    made = b"".join(_encode({**line, **last}) + b"\n" for line in lines)
    if made:
        _handlers[0].write(made)


def _encode(line: Mapping[str, Any]) -> bytes:
    # What JSON does not know is written as its text.
    return msgspec.json.encode(line, enc_hook=str)


def _as_json(line: Mapping[str, Any], **_: object) -> str:
    return _encode(line).decode()
