"""`railtix.toml` on the boot partition: what is wanted before there is a /data. Pure."""

import tomllib
from typing import Final

import msgspec

from device.storage.deciding import Encryption, Refused, Why

FILE: Final = "railtix.toml"


class BootSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be set there; whatever a laptop's editor makes of the file."""

    encryption: Encryption = "none"


def read_boot_settings(data: bytes | None) -> BootSettings | Refused:
    """None: there is no file, and nothing is asked for.

    A file that is not understood is no "none": somebody asked for something.
    """
    if data is None:
        return BootSettings()
    try:
        # Some editors put a mark of their own first.
        return msgspec.convert(tomllib.loads(data.decode("utf-8-sig")), BootSettings)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        return Refused(Why.SETTING, str(error))
