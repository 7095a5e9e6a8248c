"""Why what waits for the cloud is not moving: decided from what is known, without a clock."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SILENCE_MAX_MS: Final = 60_000
"""Four heartbeats."""

_OUR_CERTIFICATE: Final = (
    "alert certificate",
    "certificate_expired",
    "certificate_revoked",
    "certificate_unknown",
    "certificate_required",
    "bad certificate",
    "bad_certificate",
    "unknown_ca",
    "unknown ca",
    "not authorized",
    "the broker refused",
)
_CLOCK: Final = ("not yet valid",)
_THEIR_CERTIFICATE: Final = ("certificate_verify_failed", "certificate verify failed", "hostname")


class Why(StrEnum):
    """Names for `--json`; `SENTENCES` are for people."""

    NOTHING_WAITS = "nothing_waits"
    MOVING = "moving"
    NOT_RUNNING = "not_running"
    JOURNAL_BROKEN = "journal_broken"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REFUSED = "certificate_refused"
    BROKER_NOT_BELIEVED = "broker_not_believed"
    CLOCK = "clock"
    NO_NETWORK = "no_network"
    NO_POLICY = "no_policy"
    REFUSED_BY_CLOUD = "refused_by_cloud"
    CLOUD_SILENT = "cloud_silent"


SENTENCES: Final = {
    Why.NOTHING_WAITS: "nothing waits",
    Why.MOVING: "it is moving",
    Why.NOT_RUNNING: "the program is not running",
    Why.JOURNAL_BROKEN: "the disk refuses the journal",
    Why.CERTIFICATE_EXPIRED: "the appliance's certificate has expired",
    Why.CERTIFICATE_REFUSED: "the broker refuses the appliance's certificate",
    Why.BROKER_NOT_BELIEVED: "the broker's certificate is not believed",
    Why.CLOCK: "the clock is behind: certificates are not valid yet",
    Why.NO_NETWORK: "no network to the broker",
    Why.NO_POLICY: "no policy has come from the cloud so far",
    Why.REFUSED_BY_CLOUD: "the cloud refuses this appliance",
    Why.CLOUD_SILENT: "the cloud does not answer",
}


@dataclass(frozen=True)
class Known:
    """What bears on it."""

    waits: bool
    runs: bool
    is_journal_open: bool
    certificate_expired: bool
    has_policy: bool
    link_is_up: bool
    link_trouble: str
    refusal: str
    silent_ms: int | None
    """Since the last signed answer; None: none came since the link was up."""


def why(known: Known) -> Why:
    """What a person would have to do something about first."""
    if not known.waits:
        return Why.NOTHING_WAITS
    if not known.runs:
        return Why.NOT_RUNNING
    if not known.is_journal_open:
        return Why.JOURNAL_BROKEN
    if not known.link_is_up:
        return _why_no_link(known)
    if known.refusal:
        return Why.REFUSED_BY_CLOUD
    if not known.has_policy:
        return Why.NO_POLICY
    if known.silent_ms is None or known.silent_ms > SILENCE_MAX_MS:
        return Why.CLOUD_SILENT
    return Why.MOVING


def is_our_certificate_refused(link_trouble: str) -> bool:
    """Whether the broker is there, and will not have this certificate."""
    return any(each in link_trouble.lower() for each in _OUR_CERTIFICATE)


def _why_no_link(known: Known) -> Why:
    trouble = known.link_trouble.lower()
    if any(each in trouble for each in _CLOCK):
        return Why.CLOCK
    if known.certificate_expired:
        return Why.CERTIFICATE_EXPIRED
    if is_our_certificate_refused(trouble):
        return Why.CERTIFICATE_REFUSED
    if any(each in trouble for each in _THEIR_CERTIFICATE):
        return Why.BROKER_NOT_BELIEVED
    return Why.NO_NETWORK
