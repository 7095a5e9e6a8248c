"""Every certificate ever issued, and which of them are revoked: values and their changes."""

from collections.abc import Iterator
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
        named = [entry for entry in self.entries if name in {entry.common_name, entry.serial}]
        if not named:
            return UnknownCertificate(name)
        if all(entry.revoked_at for entry in named):
            return AlreadyRevoked(name)
        entries = tuple(
            msgspec.structs.replace(entry, revoked_at=now, reason=reason)
            if entry in named and entry.revoked_at is None
            else entry
            for entry in self.entries
        )
        return msgspec.structs.replace(self, entries=entries)

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
