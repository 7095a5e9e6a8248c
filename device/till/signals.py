"""Every light and sound the till can give; what each means stands in docs/lights.md."""

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


class Sound(StrEnum):
    """What the buzzer says."""

    CLICK = "click"
    SCANNED = "one short beep"
    APPROVED = "one high beep"
    APPROVED_OFFLINE = "one high, one short beep"
    DECLINED = "two low beeps"
    REFRESH_QR = "three short beeps"
    FAULT = "long low"
