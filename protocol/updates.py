"""Updates as they are announced and told of: what may be installed, by whom, and how far it is."""

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from protocol.fields import Text
from protocol.ids import DeviceId

BUNDLE_BYTES_MAX: Final = 4 * 1024**3
"""More than a slot holds."""
STABLE: Final = "stable"
CHANNELS: Final = (STABLE, "beta")

VERSION_PATTERN: Final = r"^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}\Z"
COMPATIBLE_PATTERN: Final = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}\Z"
CHANNEL_PATTERN: Final = r"^[a-z][a-z0-9-]{0,15}\Z"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}\Z"

ImageVersion = Annotated[str, msgspec.Meta(pattern=VERSION_PATTERN)]
"""As in `IMAGE_VERSION` of the image's os-release: `0.6.0+202611230215`."""
Compatible = Annotated[str, msgspec.Meta(pattern=COMPATIBLE_PATTERN)]
"""Which appliances a bundle is for, as RAUC compares it: `railtix-pos-debian`."""
Channel = Annotated[str, msgspec.Meta(pattern=CHANNEL_PATTERN)]
Sha256 = Annotated[str, msgspec.Meta(pattern=SHA256_PATTERN)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]

_PARTS: Final = re.compile(r"[0-9]+|[A-Za-z]+")
_TEXT, _END, _NUMBER = range(3)


class Update(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the signed policy says of the version that this appliance is to have.

    Its bundle is at `bundle_path(sha256)` of the appliances' listener. A field of a newer cloud
    is passed over.
    """

    version: ImageVersion
    sha256: Sha256
    """Of the whole bundle, in hexadecimal."""
    size: Annotated[int, msgspec.Meta(ge=1, le=BUNDLE_BYTES_MAX)]
    """In bytes."""
    compatible: Compatible
    channel: Channel
    rollout_percent: Percent
    """As it was when this policy was made: it may have grown since."""
    allow_downgrade: bool = False
    """Install it though a newer version runs; without this only a newer one is installed."""


class UpdateState(StrEnum):
    """How far an appliance has come with a version, in the order in which it goes."""

    FETCHING = "fetching"
    FETCHED = "fetched"
    INSTALLING = "installing"
    TRYING = "trying"
    """Started from it, and not yet sure of it."""
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    """Not installed: another's signature, another hardware, or damaged."""
    ROLLED_BACK = "rolled_back"
    """It was started, did not prove itself, and the version before runs again."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far an appliance has come with the newest update it took up."""

    version: ImageVersion
    state: UpdateState
    percent: Percent = 0
    """Of what `state` names: fetched or written so far."""
    why: Text = ""
    """Why it was refused or rolled back, for a person."""


class System(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The image that an appliance runs, as its heartbeat says; without one there are no updates.

    What a newer firmware says besides is passed over: an older cloud still hears the rest.
    """

    image: ImageVersion
    """What runs now."""
    compatible: Compatible
    slot: Literal["A", "B", ""] = ""
    """Which of the two it runs from; empty where it cannot tell, and then nothing is announced."""
    update: Progress | None = None


def bundle_path(sha256: str) -> str:
    """Where on the appliances' listener a bundle is fetched from, by mutual TLS, in ranges."""
    return f"/v1/pos/updates/{sha256}"


def in_rollout(device_id: DeviceId, version: str, percent: int) -> bool:
    """Whether this appliance is among the first `percent` that get this version.

    Whoever is in stays in as the percentage grows, and other versions begin with others.
    """
    drawn = hashlib.sha256(f"{device_id}\n{version}".encode()).digest()
    return int.from_bytes(drawn[:8]) % 100 < percent


def is_newer(version: str, than: str) -> bool:
    """By number, part by part: 0.10 follows 0.9, 1.0 follows 1.0rc1, 1.0+2 follows 1.0+1."""
    return _order(version) > _order(than)


def _order(version: str) -> list[tuple[int, int, str]]:
    parts = [
        (_NUMBER, int(part), "") if part.isdecimal() else (_TEXT, 0, part)
        for part in _PARTS.findall(version)
    ]
    return [*parts, (_END, 0, "")]
