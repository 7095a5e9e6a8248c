"""Every certificate ever issued, and which of them are revoked: values and their changes."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal

import msgspec
from cryptography import x509

from provisioning.authority.certificates import Holder, Kind, Revocation, kind_of, thumbprint
from provisioning.authority.certificates import common_name as name_of
from provisioning.authority.refusals import AlreadyRevoked, UnknownCertificate


class Reason(StrEnum):
    """Why a certificate was revoked (RFC 5280, 5.3.1), as far as an ops person needs the choice."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    DECOMMISSIONED = "decommissioned"


_FLAGS = {
    Reason.UNSPECIFIED: x509.ReasonFlags.unspecified,
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.DECOMMISSIONED: x509.ReasonFlags.cessation_of_operation,
}


class Entry(msgspec.Struct, frozen=True):
    """One certificate; times are UTC."""

    serial: str
    common_name: str
    kind: Kind
    thumbprint: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    reason: Reason | None = None

    def is_called(self, name: str) -> bool:
        """Whether somebody who types `name` means it; one for a takeover goes by its serial
        alone: it is over within the hour, and whose session it ends shares its name."""
        return name == self.serial or (name == self.common_name and self.kind is not Kind.TAKEOVER)


class Register(msgspec.Struct, frozen=True):
    """What the authority remembers between two commands."""

    version: Literal[1] = 1
    crl_number: int = 0
    entries: tuple[Entry, ...] = ()

    def issued(self, holder: Holder, certificate: x509.Certificate) -> "Register":
        entry = Entry(
            serial=serial_text(certificate.serial_number),
            common_name=name_of(holder),
            kind=kind_of(holder),
            thumbprint=thumbprint(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
        return msgspec.structs.replace(self, entries=(*self.entries, entry))

    def revoked(
        self, name: str, reason: Reason, now: datetime
    ) -> "Register | UnknownCertificate | AlreadyRevoked":
        """Revoke every certificate with common name or serial `name`."""
        named = [entry for entry in self.entries if entry.is_called(name)]
        if not named:
            return UnknownCertificate(name)
        if all(entry.revoked_at for entry in named):
            return AlreadyRevoked(name)
        return self.without(dict.fromkeys((entry.thumbprint for entry in named), reason), now)

    def without(self, reasons: Mapping[str, Reason], now: datetime) -> "Register":
        """Revoke those with these thumbprints that are not yet; unknown ones are passed over.

        The same register where that changes nothing.
        """
        entries = tuple(
            msgspec.structs.replace(entry, revoked_at=now, reason=reasons[entry.thumbprint])
            if entry.revoked_at is None and entry.thumbprint in reasons
            else entry
            for entry in self.entries
        )
        changes = any(new is not old for new, old in zip(entries, self.entries, strict=True))
        return msgspec.structs.replace(self, entries=entries) if changes else self

    def of_device(self, device_id: str) -> list[Entry]:
        """Every certificate that this appliance was ever issued."""
        return [
            entry
            for entry in self.entries
            if entry.kind is Kind.DEVICE and entry.common_name == device_id
        ]

    def listed(self) -> "Register":
        """The register once the next revocation list is numbered."""
        return msgspec.structs.replace(self, crl_number=self.crl_number + 1)

    def revocations(self, now: datetime) -> Iterator[Revocation]:
        """The lines of a list published `now`; what has expired needs no line any more."""
        for entry in self.entries:
            if entry.revoked_at is not None and entry.not_after > now:
                flag = _FLAGS[entry.reason or Reason.UNSPECIFIED]
                yield Revocation(int(entry.serial, 16), entry.revoked_at, flag)


def serial_text(serial: int) -> str:
    """A serial number as `openssl x509 -serial` prints it."""
    digits = f"{serial:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"
