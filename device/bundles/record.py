"""The record of what is tried and what was given up: a small file, replaced whole, fsynced."""

from pathlib import Path
from typing import Final

import msgspec
import structlog

from device.bundles.folder import FOLDER
from device.durable import fsync, keep
from device.updating.facts import LOST, Record

FILE: Final = "record.json"
AGAIN: Final = "again"
"""Put there by a person (`railtix-pos update --again`): what was given up may be tried anew."""

_DECODER: Final = msgspec.json.Decoder(Record)
_log = structlog.get_logger(__name__)


class KeptRecord:
    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def read(self) -> Record:
        """An empty one where there is none."""
        try:
            return _DECODER.decode((self._folder / FILE).read_bytes())
        except FileNotFoundError:
            return Record()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("record_unreadable", reason=type(error).__name__)
            return LOST

    def write(self, record: Record) -> None:
        """On the disk when this returns. Raises OSError; then the one before is there still."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fsync(self._folder.parent)
        keep(self._folder / FILE, msgspec.json.encode(record))

    def ask_again(self) -> None:
        """Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / AGAIN).touch()

    def is_asked_again(self) -> bool:
        return (self._folder / AGAIN).exists()

    def has_asked_again(self) -> None:
        """It was done. Raises OSError."""
        (self._folder / AGAIN).unlink(missing_ok=True)

    def forget(self) -> None:
        """Nothing is tried and nothing was given up: the appliance becomes anybody's. Raises
        OSError."""
        (self._folder / FILE).unlink(missing_ok=True)
        (self._folder / AGAIN).unlink(missing_ok=True)
