"""Why the authority says no: values, each of which explains itself in one sentence."""

from dataclasses import dataclass
from pathlib import Path


class Refusal:
    """What an operation of the authority answers instead of a result."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class AlreadyFounded(Refusal):
    folder: Path

    def __str__(self) -> str:
        return f"{self.folder} is not empty: an authority is founded once, in a folder of its own"


@dataclass(frozen=True, slots=True)
class NotFounded(Refusal):
    folder: Path

    def __str__(self) -> str:
        return f"no authority in {self.folder}: found one with `railtix-ops ca init`"


@dataclass(frozen=True, slots=True)
class PassphraseMissing(Refusal):
    folder: Path

    def __str__(self) -> str:
        return f"no passphrase for the authority in {self.folder}: name a file or set the variable"


@dataclass(frozen=True, slots=True)
class PassphraseTooShort(Refusal):
    length_min: int

    def __str__(self) -> str:
        return f"the passphrase is too short: at least {self.length_min} characters"


@dataclass(frozen=True, slots=True)
class PassphraseExposed(Refusal):
    path: Path

    def __str__(self) -> str:
        return f"others may read the passphrase file {self.path}: chmod 600 it"


@dataclass(frozen=True, slots=True)
class WrongPassphrase(Refusal):
    folder: Path

    def __str__(self) -> str:
        return f"the passphrase does not open the issuing key in {self.folder}"


@dataclass(frozen=True, slots=True)
class NotTheRoot(Refusal):
    key: Path

    def __str__(self) -> str:
        return f"{self.key} is not the key of this authority's root"


@dataclass(frozen=True, slots=True)
class WrongRootPassphrase(Refusal):
    key: Path

    def __str__(self) -> str:
        return f"the passphrase does not open the root's key {self.key}"


@dataclass(frozen=True, slots=True)
class NameNotAllowed(Refusal):
    name: str
    rule: str

    def __str__(self) -> str:
        return f"{self.name!r} may not be certified: {self.rule}"


@dataclass(frozen=True, slots=True)
class RequestNotUsable(Refusal):
    rule: str

    def __str__(self) -> str:
        return f"the certificate request cannot be used: {self.rule}"


@dataclass(frozen=True, slots=True)
class IssuerExpired(Refusal):
    expired_at: str

    def __str__(self) -> str:
        return f"the issuing certificate expired at {self.expired_at}"


@dataclass(frozen=True, slots=True)
class UnknownCertificate(Refusal):
    name: str

    def __str__(self) -> str:
        return f"nothing was ever issued to {self.name!r}"


@dataclass(frozen=True, slots=True)
class AlreadyRevoked(Refusal):
    name: str

    def __str__(self) -> str:
        return f"every certificate of {self.name!r} is revoked already"
