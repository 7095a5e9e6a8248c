"""Why a broker's folder is not written: each would lock its clients out, or let others in."""

from dataclasses import dataclass
from pathlib import Path

from provisioning.authority.refusals import Refusal


@dataclass(frozen=True, slots=True)
class KeyExposed(Refusal):
    key: Path

    def __str__(self) -> str:
        return f"others may read the broker's key {self.key}: chmod 600 it, or draw a new one"


@dataclass(frozen=True, slots=True)
class KeyDoesNotFit(Refusal):
    key: Path
    certificate: Path

    def __str__(self) -> str:
        return f"{self.key} is not the key of {self.certificate}: every handshake would fail"


@dataclass(frozen=True, slots=True)
class NotAServers(Refusal):
    certificate: Path

    def __str__(self) -> str:
        return (
            f"{self.certificate} is not for a server: make one with `railtix-ops ca issue server`"
        )


@dataclass(frozen=True, slots=True)
class NotInTime(Refusal):
    what: Path
    rule: str

    def __str__(self) -> str:
        return f"{self.what} {self.rule}"


@dataclass(frozen=True, slots=True)
class CrlNotOurs(Refusal):
    crl: Path

    def __str__(self) -> str:
        return f"{self.crl} is not of the authority that the broker trusts"


@dataclass(frozen=True, slots=True)
class CrlOlder(Refusal):
    number: int
    in_place: int

    def __str__(self) -> str:
        return (
            f"the broker has CRL number {self.in_place}: number {self.number} is older and would "
            "let in again who was revoked since"
        )


@dataclass(frozen=True, slots=True)
class AnotherAuthority(Refusal):
    in_place: Path

    def __str__(self) -> str:
        return (
            f"{self.in_place} is of another authority: every client certified by that one would "
            "be locked out (delete the file if they should be)"
        )


@dataclass(frozen=True, slots=True)
class NotOurs(Refusal):
    configuration: Path

    def __str__(self) -> str:
        return f"{self.configuration} was not written by railtix-ops: choose another folder"


@dataclass(frozen=True, slots=True)
class NotReadable(Refusal):
    path: Path
    rule: str

    def __str__(self) -> str:
        return f"{self.path} is {self.rule}"


@dataclass(frozen=True, slots=True)
class WorkerRevoked(Refusal):
    name: str

    def __str__(self) -> str:
        return f"every certificate of {self.name} is revoked: it gets no rights at the broker"
