"""Why access is refused: values, each of which explains itself in one sentence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PinNotAllowed:
    rule: str

    def __str__(self) -> str:
        return f"this PIN may not be set: {self.rule}"


@dataclass(frozen=True, slots=True)
class PasswordNotAllowed:
    rule: str

    def __str__(self) -> str:
        return f"This password may not be set: {self.rule}."
