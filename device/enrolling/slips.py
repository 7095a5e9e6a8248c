"""What the slips of an appliance without an identity say: what is, and what to do next."""

from collections.abc import Mapping
from typing import Final, assert_never

from device.enrolling.happenings import Need, Trouble
from device.till.receipt import Line, Rule, Slip, SlipKind, Text

_NEW_CLAIM: Final = "Ask for a new claim (railtix-ops device claim) and show its code."
_CALL_OPS: Final = "Call whoever runs the event's appliances."

_SENTENCES: Final[Mapping[Trouble, str]] = {
    Trouble.NO_WAY: (
        "This appliance does not reach the cloud. Plug a network cable in, or show a Wi-Fi code. "
        "It keeps trying; the claim need not be shown again."
    ),
    Trouble.CLOUD_STRANGE: (
        "What answers there does not speak as our cloud does. A network that first wants a "
        "sign-in page is of no use here: show another Wi-Fi code. It keeps trying."
    ),
    Trouble.CLOUD_BUSY: "The cloud is busy. Wait: it keeps trying.",
    Trouble.ENROLMENT_CLOSED: f"The cloud enrols nobody at present. {_CALL_OPS}",
    Trouble.WRONG_FINGERPRINT: (
        "Whoever answers there is not whom the claim names. Nothing was told to them. Try another "
        f"network. If that does not help, somebody may be listening in: {_CALL_OPS}"
    ),
    Trouble.NOT_BELIEVED: (
        "The cloud's certificate is not for the address that the claim names. Nothing was told. "
        f"{_CALL_OPS}"
    ),
    Trouble.CLOCK: (
        "By this appliance's clock the cloud's certificate is not valid now. If the time below is "
        f"wrong, put the network's time service right; else: {_CALL_OPS}"
    ),
    Trouble.CLAIM_WRONG: f"The cloud does not know this claim. {_NEW_CLAIM}",
    Trouble.CLAIM_EXPIRED: f"This claim has run out: one lives 15 minutes. {_NEW_CLAIM}",
    Trouble.CLAIM_USED: (
        f"This claim was used before, by another appliance or before a reset. {_NEW_CLAIM}"
    ),
    Trouble.CLAIM_LOCKED: f"This claim was tried too often and is locked. {_NEW_CLAIM}",
    Trouble.CLAIM_WITHDRAWN: f"This claim was withdrawn. {_NEW_CLAIM}",
    Trouble.SERIAL_WRONG: (
        "This claim is for another appliance: the serial below is not the one it names. "
        f"{_NEW_CLAIM}"
    ),
    Trouble.DEVICE_REVOKED: f"The appliance that this claim names was revoked. {_CALL_OPS}",
    Trouble.KEY_ON_ANOTHER_DEVICE: (
        "This appliance's key belonged to another one. It has made a new one. Show the code again."
    ),
    Trouble.CSR_NOT_USABLE: f"The cloud cannot read what this appliance asks for. {_CALL_OPS}",
    Trouble.OTHER_CERTIFICATE: (
        f"The cloud's certificate for this appliance is not for its key. {_CALL_OPS}"
    ),
    Trouble.OTHER_NAME: (
        "This appliance still owes the cloud sales that it made under another name. Ask for a "
        "claim for that name (railtix-ops device claim --id) and show its code."
    ),
    Trouble.DISK: (
        "This appliance cannot write to its storage. It keeps trying. If this lasts, switch it "
        "off and call for help."
    ),
    Trouble.WIFI_NOT_JOINED: (
        "That Wi-Fi could not be joined: it is out of reach, or the password is another one. Show "
        "its code again, or another network's."
    ),
    Trouble.WIFI_NONE: "This appliance has no Wi-Fi that it may use. Plug a network cable in.",
    Trouble.WIFI_WEP: (
        "That Wi-Fi uses WEP, which protects nothing. Show the code of one with WPA2 or WPA3."
    ),
    Trouble.WIFI_ENTERPRISE: (
        "That Wi-Fi wants a user name, which no code brings. Show another one's, or plug a cable "
        "in."
    ),
    Trouble.WIFI_MALFORMED: (
        "That Wi-Fi code cannot be understood. Draw a new one, or plug a network cable in."
    ),
}


def show_me_a_code_slip(need: Need, serial: str) -> Slip:
    """What to do with an appliance that is nobody."""
    match need:
        case Need.BLANK:
            what = "This appliance does not belong to an event yet."
        case Need.EXPIRED:
            what = (
                "This appliance was away for too long: its certificate has run out. What it sold "
                "is kept, and is sent once it is enrolled again."
            )
        case _:
            assert_never(need)
    return _slip(
        "Show me a code",
        (
            Text(what),
            Text("1. Without a network cable: show the Wi-Fi's code to the camera."),
            Text("2. Show the claim's code (railtix-ops device claim)."),
        ),
        serial,
    )


def trouble_slip(trouble: Trouble, detail: str, serial: str) -> Slip:
    lines: tuple[Line, ...] = (Text(_SENTENCES[trouble]),)
    if detail:
        lines = (*lines, Text(detail, bold=True))
    return _slip("Not enrolled", lines, serial)


def _slip(title: str, lines: tuple[Line, ...], serial: str) -> Slip:
    last: tuple[Line, ...] = (Rule(), Text(f"Serial {serial}")) if serial else ()
    # Printed late it would send people after what is over.
    return Slip(
        (Text(title, bold=True, large=True, centred=True), *lines, *last), SlipKind.QUESTION
    )
