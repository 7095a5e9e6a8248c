"""An appliance that sits on its connection to the broker and says nothing."""

import socket
import ssl
from typing import Self

from cloud.worker.mqtt5 import FAILURE, Closed, Connected, Session
from tests.cloud.wire import Line

WAIT_S = 20.0


class Sitting:
    """One connection; a context. Entering raises OSError where the broker does not let it in."""

    def __init__(
        self,
        line: Line,
        context: ssl.SSLContext | None = None,
        resumed: ssl.SSLSession | None = None,
    ) -> None:
        self._line = line
        self._context = context
        self._resumed = resumed
        self._session = Session()

    def __enter__(self) -> Self:
        context = self._context
        if context is None:
            context = ssl.create_default_context(cafile=str(self._line.authorities))
            context.load_cert_chain(str(self._line.certificate), str(self._line.key))
        plain = socket.create_connection((self._line.host, self._line.port), WAIT_S)
        try:
            self._wire = context.wrap_socket(
                plain, server_hostname=self._line.host, session=self._resumed
            )
        except BaseException:
            plain.close()
            raise
        try:
            self._session.connect(keep_alive_s=60, receive_max=1)
            self._wire.sendall(self._session.to_send())
            [event] = self._session.receive(self._wire.recv(4096))
            assert isinstance(event, Connected)
            assert event.reason < FAILURE
        except BaseException:
            self._wire.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    @property
    def tls_session(self) -> ssl.SSLSession | None:
        return self._wire.session

    def is_open(self) -> bool:
        """Whether the broker still answers a ping."""
        self._session.ping()
        try:
            self._wire.sendall(self._session.to_send())
            return self._wire.recv(4096) == b"\xd0\x00"
        except OSError:
            return False

    def has_ended(self) -> bool:
        """Wait until the broker hangs up, with or without a word."""
        while arrived := self._wire.recv(4096):
            for event in self._session.receive(arrived):
                assert isinstance(event, Closed)
        return True


def is_let_in(
    line: Line, context: ssl.SSLContext | None = None, resumed: ssl.SSLSession | None = None
) -> bool:
    try:
        with Sitting(line, context, resumed):
            return True
    except OSError:
        return False
