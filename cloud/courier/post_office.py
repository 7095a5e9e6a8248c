"""Where letters are handed in, and the three ways in which that fails."""

from email.message import EmailMessage
from typing import Protocol


class PostOfficeAwayError(Exception):
    """Nobody took it in: not this letter's fault, and the next would fare the same.

    It holds a name of what failed, never what the server said: that may quote a password.
    """


class LetterDeferredError(Exception):
    """Not now (a 4xx answer to this letter): later the same may be taken."""


class LetterRefusedError(Exception):
    """Never (a 5xx answer to this letter)."""


class PostOffice(Protocol):
    def hand_in(self, message: EmailMessage, to_address: str) -> None:
        """Returns once it was taken. Raises one of the above."""
        ...

    def leave(self) -> None:
        """Whatever is held open is closed; `hand_in` opens it again."""
        ...
