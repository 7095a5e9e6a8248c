"""How long a journal keeps what is settled: the `[journal]` section of the settings."""

from typing import Annotated, Final

import msgspec

DAY_MS: Final = 24 * 3600 * 1000
MIB: Final = 1024 * 1024

_Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is settled goes once it is older than `keep_days`, and sooner where the file is larger
    than `size_max_mib`; never before `backup_horizon_days`, whatever the size.

    The horizon is the age of the oldest backup that one would still restore the cloud from: until
    then the journal may be all that remembers a sale (docs/running.md).
    """

    keep_days: _Days = 90
    backup_horizon_days: _Days = 35
    size_max_mib: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64

    def __post_init__(self) -> None:
        if self.keep_days < self.backup_horizon_days:
            raise ValueError("keep_days must be at least backup_horizon_days")

    def age_min_ms(self, size_bytes: int) -> int:
        """How old a settled entry must be to go from a file of this size."""
        is_large = size_bytes > self.size_max_mib * MIB
        return (self.backup_horizon_days if is_large else self.keep_days) * DAY_MS
