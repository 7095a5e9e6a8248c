"""A mail server that takes letters in, refuses them, hangs, or hangs up, as it is told."""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any, Self, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailServer:
    """Answers on loopback from a thread of its own until the block ends."""

    to_recipient: str = "250 OK"
    to_letter: str = "250 OK"
    """`hang`: never; `drop`: the line is cut; `drop after`: taken in, and then cut."""
    tls: ssl.SSLContext | None = None
    password: str | None = None
    letters: list[EmailMessage] = field(default_factory=list[EmailMessage])
    sessions: int = 0
    arrived: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: set[SMTP] = set()
        self._server = self._loop.run_until_complete(
            self._loop.create_server(self._session, sock=self._listening)
        )
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def ids(self) -> list[str]:
        return [str(each["Message-ID"]) for each in self.letters]

    async def _close(self) -> None:
        self._server.close()
        for each in self._open:
            _cut(each)
        await self._server.wait_closed()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _session(self) -> SMTP:
        self.sessions += 1
        session = SMTP(
            self,
            hostname="mail.test",
            loop=self._loop,
            tls_context=self.tls,
            require_starttls=self.tls is not None,
            authenticator=None if self.password is None else self._check,
            auth_required=self.password is not None,
        )
        self._open.add(session)
        return session

    def _check(self, *asked: Any) -> AuthResult:
        """With server, session, envelope, mechanism and what was presented."""
        auth_data = asked[-1]
        assert self.password is not None
        is_right = (
            isinstance(auth_data, LoginPassword) and auth_data.password == self.password.encode()
        )
        return AuthResult(success=is_right, handled=is_right)

    # What aiosmtpd asks its handler.

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if self.to_recipient == "hang":
            self.arrived.set()
            await asyncio.sleep(3600)
        if self.to_recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_recipient

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.to_letter in {"250 OK", "drop after", "hang after"}:
            content = cast("bytes", envelope.content)
            self.letters.append(message_from_bytes(content, policy=default))
        self.arrived.set()
        if self.to_letter.startswith("hang"):
            await asyncio.sleep(3600)
        if self.to_letter.startswith("drop"):
            _cut(server)
            return "421 gone"
        return self.to_letter


def _cut(session: SMTP) -> None:
    if isinstance(session.transport, asyncio.Transport):
        # Debian 12's Python: a TLS transport that was closed twice has nothing left to abort.
        with suppress(AttributeError):
            session.transport.abort()
