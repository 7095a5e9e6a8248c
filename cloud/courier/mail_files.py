"""Letters as files in a folder, for demos: the same letter again replaces itself."""

import os
from email.message import EmailMessage
from pathlib import Path

from cloud.courier.post_office import PostOfficeAwayError


class MailFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def hand_in(self, message: EmailMessage, to_address: str) -> None:
        """A file that appears whole, or not at all, whatever happens meanwhile."""
        del to_address  # it stands in the letter
        name = message["Message-ID"].strip("<>").partition("@")[0]
        draft, letter = self._folder / f".{name}.{os.getpid()}", self._folder / f"{name}.eml"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(message.as_bytes())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(letter)
        except OSError as error:
            raise PostOfficeAwayError(f"files: {error.strerror}") from error

    def leave(self) -> None:
        """Nothing is held open."""
