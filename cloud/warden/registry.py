"""The authority's folder as the warden uses it: opened when needed, opened again after a fault."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.settings import AuthoritySettings
from cloud.warden.faults import WardenFault
from provisioning.authority.certificates import Takeover
from provisioning.authority.folder import (
    CRL,
    ISSUING_CERTIFICATE,
    Authority,
    Issued,
    Left,
    expires_at,
    new_key,
    read_crl,
    read_register,
)
from provisioning.authority.passphrase import find_passphrase
from provisioning.authority.refusals import Refusal
from provisioning.authority.register import Register
from provisioning.broker.configuration import CRL_FILE
from provisioning.broker.folder import reload, replace_crl, running_broker


class Registry:
    """Every method raises WardenFault where the folder, its key or the broker's cannot be used."""

    def __init__(self, settings: AuthoritySettings) -> None:
        self._settings = settings
        self._opened: Authority | None = None
        self._issuing = b""

    @property
    def folder(self) -> Path:
        return self._settings.folder

    @property
    def hands_over(self) -> bool:
        """Whether the broker's folder is within reach."""
        return self._settings.broker_folder is not None

    def bring_after(self, left: Sequence[Left], now: datetime) -> bool:
        """Register and CRL say that these left, and the CRL is of today; whether it is new."""
        try:
            return self._authority().bring_after(left, now)
        except (OSError, ValueError) as error:
            raise self._not_usable(error) from error

    def certify_takeover(self, device_id: str, now: datetime) -> tuple[Issued, bytes]:
        """A certificate of the appliance's name for an hour, and its key (PEM, unencrypted)."""
        key = new_key()
        try:
            issued = self._authority().issue(Takeover(device_id), key.public_key(), now)
        except (OSError, ValueError) as error:
            raise self._not_usable(error) from error
        if isinstance(issued, Refusal):
            raise WardenFault("certificate_not_issued", f"{device_id}: {issued}.")
        return issued, _plain(key)

    def hand_over(self, *, at_once: bool) -> bool:
        """Give the broker this CRL where it has another, and have it read it; whether it did.

        `at_once`: it reads it again in any case: nobody knows whether it was told before a crash.
        Without a broker's folder something else carries it, and there is nothing to do here.
        """
        folder = self._settings.broker_folder
        if folder is None:
            return False
        try:
            crl = (self.folder / CRL).read_bytes()
        except OSError as error:
            raise self._not_usable(error) from error
        try:
            is_there = (folder / CRL_FILE).read_bytes() == crl
            if is_there and not at_once:
                return False
            if not is_there:
                replace_crl(folder, crl)
            pid = running_broker(folder)
            if pid is not None:
                reload(pid)
        except (OSError, ValueError) as error:
            raise WardenFault(
                "crl_not_handed_over",
                f"{folder}: {_named(error)}. May this user write there, and signal mosquitto?",
            ) from error
        return True

    def crl_expires_at(self) -> datetime:
        try:
            return expires_at(read_crl(self.folder))
        except (OSError, ValueError) as error:
            raise self._not_usable(error) from error

    def register(self) -> Register:
        try:
            return read_register(self.folder)
        except (OSError, ValueError) as error:
            raise self._not_usable(error) from error

    def _authority(self) -> Authority:
        issuing = (self.folder / ISSUING_CERTIFICATE).read_bytes()
        # After `ca reissue` nobody takes what the key before signs.
        if self._opened is None or issuing != self._issuing:
            self._opened = self._open()
            self._issuing = issuing
        return self._opened

    def _open(self) -> Authority:
        passphrase = find_passphrase(self.folder, self._settings.passphrase_file, os.environ)
        opened = (
            passphrase
            if isinstance(passphrase, Refusal)
            else Authority.open(self.folder, passphrase)
        )
        if isinstance(opened, Authority):
            return opened
        raise WardenFault("authority_not_opened", f"{opened}.")

    def _not_usable(self, error: OSError | ValueError) -> WardenFault:
        self._opened = None
        return WardenFault(
            "authority_not_usable",
            f"{self.folder}: {_named(error)}. Is it there, and this user's to read and write?",
        )


def _plain(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _named(error: OSError | ValueError) -> str:
    """What the system said; a parser's message may quote what it read."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or type(error).__name__
