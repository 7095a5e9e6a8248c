"""Where the passphrase of the authority's keys comes from; its text never leaves a Passphrase."""

import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from provisioning.authority.refusals import (
    PassphraseExposed,
    PassphraseMissing,
    PassphraseTooShort,
)

VARIABLE: Final = "RAILTIX_CA_PASSPHRASE"
LENGTH_MIN: Final = 12

ISSUING_FILE: Final = Path("issuing/passphrase")
ROOT_FILE: Final = Path("root/passphrase")


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase that no repr, log or message shows."""

    text: str = field(repr=False)

    def encoded(self) -> bytes:
        return self.text.encode()


PassphraseRefused: TypeAlias = PassphraseMissing | PassphraseTooShort | PassphraseExposed


def drawn_passphrase() -> Passphrase:
    """256 bits from the system's randomness."""
    return Passphrase(secrets.token_urlsafe(32))


def given_passphrase(
    file: Path | None, environment: Mapping[str, str]
) -> Passphrase | PassphraseRefused | None:
    """The passphrase the operator gave, by a file or by RAILTIX_CA_PASSPHRASE, or None.

    Raises OSError where the file cannot be read.
    """
    if file is not None:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            return PassphraseExposed(file)
        text = file.read_text("utf-8").strip()
    elif VARIABLE in environment:
        text = environment[VARIABLE]
    else:
        return None
    return Passphrase(text) if len(text) >= LENGTH_MIN else PassphraseTooShort(LENGTH_MIN)


def find_passphrase(
    folder: Path, file: Path | None, environment: Mapping[str, str]
) -> Passphrase | PassphraseRefused:
    """The given passphrase, else the one `ca init` drew for the authority in `folder`."""
    given = given_passphrase(file, environment)
    if given is not None:
        return given
    drawn = folder / ISSUING_FILE
    if not drawn.exists():
        return PassphraseMissing(folder)
    found = given_passphrase(drawn, environment)
    assert found is not None, "a file always gives a passphrase or a refusal"
    return found
