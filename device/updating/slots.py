"""The two slots as `railtix-slots` tells of them, and why a bundle did not get into one."""

from enum import StrEnum

import msgspec


class Failure(StrEnum):
    """Why an installation came to nothing."""

    SIGNATURE = "signature"
    """Nobody signed it whom this image believes."""
    COMPATIBLE = "compatible"
    """It is for other appliances."""
    OTHER_VERSION = "other_version"
    """Its own manifest names another version than was announced."""
    CHANGED = "changed"
    """What lies there are not the bytes that were announced."""
    CORRUPTED = "corrupted"
    """Signed right, and what follows the signature is damaged."""
    SPACE = "space"
    CLOCK = "clock"
    """By this machine's clock the signer's certificate is not valid yet."""
    TIMED_OUT = "timed_out"
    OTHER = "other"


FINAL = frozenset({Failure.SIGNATURE, Failure.COMPATIBLE, Failure.OTHER_VERSION})
"""The same bundle will not do better the next time."""


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """The newest one since `railtix-slots` started."""

    version: str
    sha256: str
    is_over: bool = False
    percent: int = 0
    failure: Failure | None = None
    detail: str = ""
    """In RAUC's own words, for a person."""


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """All with defaults: an older or newer program's account is read as far as it goes."""

    compatible: str = ""
    booted: str = ""
    """"A" or "B"; empty where this machine was started from neither."""
    primary: str = ""
    """Which one the next start tries first."""
    other_version: str = ""
    """What is whole in the slot that does not run; empty where that is nothing, or unknown."""
    is_good: bool = False
    """Somebody said so since this machine started."""
    installation: Installation | None = None

    @property
    def is_installing(self) -> bool:
        return self.installation is not None and not self.installation.is_over

    @property
    def starts_other(self) -> bool:
        return bool(self.booted and self.primary) and self.primary != self.booted
