"""`pos.toml` on the boot partition: how a person without a login changes the settings."""

from pathlib import Path
from typing import Final

from device.durable import keep
from device.settings import load

FILE: Final = "pos.toml"


def take_up(offered: Path, kept: Path) -> str:
    """Put a good offer where the settings are kept; what was done, in a line. It may be repeated.

    Raises SettingsError, which names the line, for a bad one: what was kept stays.
    """
    try:
        new = offered.read_bytes()
    except FileNotFoundError:
        return "no settings on the boot partition: as before"
    if kept.exists() and kept.read_bytes() == new:
        return "the boot partition's settings: in use already"
    # Without the environment: it belongs to this program and not to the one that will read them.
    load(offered, {})
    keep(kept, new)
    return "the boot partition's settings: taken up"
