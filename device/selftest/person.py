"""The person who stands there: told what to do, and asked by keypad or terminal."""

import select
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic  # noqa: TID251 -- a person is waited for in real time
from typing import Final, TextIO, TypeVar

ANSWER_S: Final = 60.0
KEY_S: Final = 12.0
QR_S: Final = 40.0
POLL_S: Final = 0.1

T = TypeVar("T")

Keys = SimpleQueue[tuple[str, bool]]
"""Keys as the keypad reports them, with whether they were held."""


class Person:
    """`#` or y is yes, `*` or n is no; nobody there is neither."""

    def __init__(
        self, keys: Keys, out: TextIO, *, typed: TextIO | None = None, patience: float = 1.0
    ) -> None:
        """`typed`: a terminal to read from; `patience` stretches, or cuts, every wait."""
        self._keys = keys
        self._out = out
        self._typed = typed
        self._patience = patience

    def tell(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def agrees(self, question: str) -> bool | None:
        """Yes, no, or None where nobody answered in a minute."""
        self._forget()
        self.tell(f"{question}  [# or y: yes, * or n: no]")
        return self._wait(ANSWER_S, self._answer)

    def next_key(self) -> str | None:
        """The next key pressed; None where none came."""
        return self._wait(KEY_S, self._key)

    def waits_for(self, look: Callable[[], bool]) -> bool:
        """Whether something comes true while a code is held up; `*` or n gives up."""

        def seen() -> bool | None:
            if look():
                return True
            return False if self._answer() is False else None

        return self._wait(QR_S, seen) is True

    def _wait(self, seconds: float, look: Callable[[], T | None]) -> T | None:
        until = monotonic() + seconds * self._patience
        while True:
            found = look()
            if found is not None or monotonic() >= until:
                return found

    def _key(self) -> str | None:
        try:
            return self._keys.get(timeout=POLL_S)[0]
        except Empty:
            return None

    def _answer(self) -> bool | None:
        match self._key():
            case "#":
                return True
            case "*":
                return False
            case _:
                pass
        if self._typed is not None and select.select([self._typed], [], [], 0)[0]:
            match self._typed.readline().strip().lower()[:1]:
                case "y":
                    return True
                case "n":
                    return False
                case _:
                    pass
        return None

    def _forget(self) -> None:
        while not self._keys.empty():
            self._keys.get()
