"""From the box to the first sale by camera frames alone, told as it happens: the docs' transcript.

`python -m venue.enrolling`
"""

import sys
import time
from typing import Final

from protocol.claim_qr import read_claim_qr
from protocol.money import Money
from protocol.wifi_qr import WifiNetwork, WifiSecurity, wifi_qr_text
from venue.edge import EdgeError
from venue.lights import Light
from venue.paper import plain
from venue.phone import phone
from venue.stack import CURRENCY, EVENT, STALL, Appliance, Venue

WIFI: Final = WifiNetwork(
    ssid="Harbour",
    security=WifiSecurity.WPA,
    password="open sesame",  # noqa: S106 -- of a network that is not there
)
WITHIN_S: Final = 60.0
SERIAL: Final = "10000000abcdef01"


def enrol(venue: Venue, box: Appliance) -> str:
    """A Wi-Fi code and a claim before the camera of a box; the name it got."""
    edge = box.counter.edge
    edge.wait_for_light(Light.ENROL, timeout_s=WITHIN_S)
    _tell("lamp", Light.ENROL.value)
    _tell_slip(box, 0.0, "Show me a code")
    edge.put_in_reach(**{WIFI.ssid: WIFI.password})
    _show(venue, box, wifi_qr_text(WIFI))
    _tell("camera", f"a phone shows the Wi-Fi code of {WIFI.ssid}")
    edge.wait_for(lambda: edge.joined or None, "the Wi-Fi to be joined", WITHIN_S)
    _tell("appliance", f"has joined {WIFI.ssid}")
    claim = venue.desk.claim(EVENT, STALL, serial=SERIAL)
    read = read_claim_qr(claim.qr_text)
    assert read is not None, "the cloud draws claims as we read them"
    _tell("ops", f"railtix-ops device claim --event {EVENT} --stall {STALL} --serial {SERIAL}")
    _tell("", claim.qr_text.replace(read.secret, "(32 characters that are nobody's to print)"))
    began = _show(venue, box, claim.qr_text)
    _tell("camera", "the claim's code")
    _tell_slip(box, began, "Welcome")
    edge.clear()
    edge.wait_for_light(Light.NOBODY_SIGNED_IN, since=began, timeout_s=WITHIN_S)
    _tell("lamp", Light.NOBODY_SIGNED_IN.value)
    return claim.device_id


def main() -> None:
    """A venue, a box, and its first sale."""
    began = _clock()
    with Venue(appliances=0, enrols=True) as venue:
        _tell("venue", "mosquitto, the cloud with its authority, no appliance")
        box = venue.blank(serial=SERIAL)
        unpacked = _clock()
        name = enrol(venue, box)
        _tell("appliance", f"is {name} after {_clock() - unpacked:.0f} s")
        box.counter.sign_in(venue.badge)
        _tell("staff", "badge before the camera, PIN and #: signed in")
        guest = venue.attendee("ada@example.org")
        guest.top_up(Money(2000, CURRENCY))
        sale = box.counter.sell("500#", guest.fresh_qr().digits, "easy")
        _tell("staff", "5 0 0 #, and Ada's phone before the camera")
        _tell("lamp", f"{sale.light.value}, {sale.scan_to_light_ms:.0f} ms after the frame")
        _tell("Ada", f"has {guest.balance(CURRENCY)} of 20.00")
        if sale.light is not Light.APPROVED:
            sys.exit("the first sale was not approved")
    _tell("venue", f"closed after {_clock() - began:.0f} s")


def _show(venue: Venue, box: Appliance, text: str) -> float:
    began = _clock()
    box.counter.edge.show(phone(text, venue.rng(), "easy"))
    return began


def _tell_slip(box: Appliance, since: float, title: str) -> None:
    def look() -> str | None:
        said = [plain(each.printed) for each in box.counter.edge.papers if each.at > since]
        return next((each for each in said if title in each), None)

    for line in box.counter.edge.wait_for(look, f"the slip {title!r}", WITHIN_S).splitlines():
        if line.strip() and not line.lstrip().startswith("- - -"):
            _tell("slip", line.rstrip())


def _tell(who: str, what: str) -> None:
    sys.stdout.write(f"{who:<10}{what}\n".rstrip(" "))
    sys.stdout.flush()


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 -- a transcript is told as time passes


if __name__ == "__main__":
    try:
        main()
    except EdgeError as error:
        sys.exit(f"It did not work: {error}")
