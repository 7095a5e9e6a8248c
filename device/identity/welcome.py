"""The welcome slip: printed once, when an enrolled appliance has its first policy."""

from pathlib import Path
from typing import Final

from device.durable import fsync
from device.identity.files import WELCOME_FILE
from device.till.receipt import Rule, Slip, Text
from protocol.policy import Policy

_NEXT: Final = "Show a staff badge to the camera, then key the PIN and #."


class Welcome:
    """A file in the identity says that nobody was welcomed yet."""

    def __init__(self, identity: Path) -> None:
        self._file = identity / WELCOME_FILE
        self._is_due = self._file.exists()

    def slip(self, policy: Policy) -> Slip | None:
        """What to print now, if anything; `said` once it is handed to the printer."""
        return welcome_slip(policy) if self._is_due else None

    def said(self) -> None:
        """Never again. Raises OSError."""
        self._is_due = False
        self._file.unlink(missing_ok=True)
        fsync(self._file.parent)


def welcome_slip(policy: Policy) -> Slip:
    return Slip(
        (
            Text("Welcome", bold=True, large=True, centred=True),
            Text(policy.event_name, bold=True, centred=True),
            Text(policy.stall_name, centred=True),
            Rule(),
            Text(f"This appliance is {policy.device_id}."),
            Text(_NEXT),
        )
    )
