"""The certificate in use, wherever it is used: link and notary change to a renewed one together."""

import structlog

from device.credentials import Credentials, CredentialsError
from device.identity.renewal import DAYS_MIN, Renewal
from device.link import Link
from device.notary import Notary
from device.ports import Rest
from device.till.receipt import Slip, Text

_log = structlog.get_logger(__name__)


class RenewedPapers:
    """What the runtime knows of renewing."""

    def __init__(self, renewal: Renewal, link: Link, notary: Notary) -> None:
        self._renewal = renewal
        self._link = link
        self._notary = notary

    def rest(self, rest: Rest) -> bool:
        credentials = self._renewal.look(rest, self._link.trouble)
        if credentials is not None:
            self._change_to(credentials)
        return self._renewal.is_over(rest)

    def heard(self) -> None:
        self._renewal.heard()

    def warning(self, now_ms: int | None) -> Slip | None:
        days = self._renewal.days_left(now_ms)
        if days is None or days >= DAYS_MIN:
            return None
        return expiry_slip(days)

    def _change_to(self, credentials: Credentials) -> None:
        try:
            context = credentials.tls_context()
        except CredentialsError as error:
            # The link goes on as it was; the next start reads the files anew.
            _log.error("certificate_not_usable", reason=str(error))
            return
        # The notary first: what is sent over the new connection is signed under its certificate.
        self._notary.use(credentials)
        self._link.use(context)
        _log.info("certificate_in_use", expires_at=credentials.expires_at.isoformat())


def expiry_slip(days: int) -> Slip:
    left = "1 day" if days == 1 else f"{days} days"
    return Slip(
        (
            Text("Call ops soon", bold=True, large=True, centred=True),
            Text(
                f"This appliance's certificate runs out in {left} and could not be renewed. It "
                "sells until then. Call whoever runs the event's appliances: railtix-pos status "
                "says what is in the way."
            ),
        )
    )
