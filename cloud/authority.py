"""The certificate authority, opened as the settings say; its issuing key is in memory then."""

import os

from cloud.settings import AuthoritySettings, SettingsError
from provisioning.authority.folder import Authority
from provisioning.authority.passphrase import find_passphrase
from provisioning.authority.refusals import Refusal


def open_authority(settings: AuthoritySettings) -> Authority:
    """Raises SettingsError where it cannot be opened."""
    try:
        passphrase = find_passphrase(settings.folder, settings.passphrase_file, os.environ)
        opened = (
            passphrase
            if isinstance(passphrase, Refusal)
            else Authority.open(settings.folder, passphrase)
        )
    except OSError as error:
        raise SettingsError(f"authority: {error.filename}: {error.strerror}") from error
    if isinstance(opened, Refusal):
        raise SettingsError(f"authority: {opened}")
    return opened
