"""Every light and sound the till can give, and what it knows of its paper; see docs/lights.md."""

from enum import StrEnum


class Light(StrEnum):
    """What the lamp says. The patterns are in device.hardware.lamp."""

    DARK = "dark"
    NOBODY_SIGNED_IN = "nobody signed in"
    READY = "ready"
    SHOW_QR = "show the QR"
    KEY_THE_AMOUNT = "scanned: key the amount"
    ASKING = "asking the cloud"
    APPROVED = "approved"
    APPROVED_OFFLINE = "approved offline"
    DECLINED = "declined"
    REFRESH_QR = "refresh the QR"
    FAULT = "fault: do not hand over"
    OFFLINE_ALLOWED = "offline, sales allowed"
    OFFLINE_NOT_ALLOWED = "offline, sales not allowed"
    READY_NO_PAPER = "ready, no paper"
    OFFLINE_ALLOWED_NO_PAPER = "offline, sales allowed, no paper"
    OFFLINE_NOT_ALLOWED_NO_PAPER = "offline, sales not allowed, no paper"
    SHOW_RECEIPT = "show the receipt's QR"
    SUPERVISOR = "a supervisor's badge"
    REFUNDED = "refunded"
    ENROL = "show me a code"
    JOINING = "joining the Wi-Fi"
    ENROLLED = "enrolled"
    NO_WAY = "no way to the cloud"
    NOT_ENROLLED = "not enrolled: read the slip"
    UPDATING = "updating"


class Sound(StrEnum):
    """What the buzzer says."""

    CLICK = "click"
    SCANNED = "one short beep"
    APPROVED = "one high beep"
    APPROVED_OFFLINE = "one high, one short beep"
    DECLINED = "two low beeps"
    REFRESH_QR = "three short beeps"
    REFUNDED = "two rising beeps"
    FAULT = "long low"


class PrinterState(StrEnum):
    """What is known of the printer. No sale waits for any of it."""

    OK = "ok"
    """Well, or a printer that never says how it is and takes what is written."""
    PAPER_LOW = "paper low"
    NO_PAPER = "no paper"
    COVER_OPEN = "cover open"
    AWAY = "away"
    """Unplugged, switched off, out of reach, or taking no bytes."""
    NONE = "none"
    """This appliance has no printer."""

    @property
    def holds_slips_back(self) -> bool:
        """Whether slips wait until somebody has seen to the printer."""
        return self in {PrinterState.NO_PAPER, PrinterState.COVER_OPEN, PrinterState.AWAY}
