"""Asks `railtix-slots`; whatever is wrong with the way there is an answer, too."""

import socket
import struct
from pathlib import Path
from typing import Final

from device.slots.wire import Answer, Ask, line_of, read_answer

ANSWER_S: Final = 180.0
"""RAUC may be slow; who asks has a thread for it."""
TURN_S: Final = 30
ANSWER_BYTES_MAX: Final = 64 * 1024


class SlotsClient:
    def __init__(self, path: Path, answer_s: float = ANSWER_S) -> None:
        self._path = path
        self._answer_s = answer_s

    @property
    def is_there(self) -> bool:
        """Whether this machine has slots at all."""
        try:
            return self._path.is_socket()
        except OSError:
            return False

    def ask(self, what: Ask) -> Answer | str:
        """Its answer; a text where there was none: why."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as wire:
                # Blocking, with the kernel's own limit: where many ask at once it waits its turn.
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", TURN_S, 0))
                wire.connect(str(self._path))
                wire.settimeout(self._answer_s)
                wire.sendall(line_of(what))
                line = b""
                while not line.endswith(b"\n") and len(line) < ANSWER_BYTES_MAX:
                    chunk = wire.recv(ANSWER_BYTES_MAX)
                    if not chunk:
                        break
                    line += chunk
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        answer = read_answer(line)
        return "no answer that can be read" if answer is None else answer
