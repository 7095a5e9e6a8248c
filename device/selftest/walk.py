"""The walk itself: which parts, in which order, with somebody there or without."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time_ns
from typing import TextIO, assert_never

from device.clock import WallClock
from device.credentials import Credentials, CredentialsError
from device.credentials import load as load_credentials
from device.hardware.build import Hardware, open_hardware
from device.identity.files import broker_of
from device.selftest.findings import Finding, Part, failed, skipped, slip_of
from device.selftest.parts import (
    Senses,
    try_buzzer,
    try_camera,
    try_keys,
    try_lamp,
    try_printer,
    wait_for_paper,
)
from device.selftest.person import Keys, Person
from device.selftest.surroundings import (
    look_at_certificate,
    look_at_clock,
    look_at_disk,
    look_at_network,
)
from device.settings import Settings
from device.state_lock import lock_state


@dataclass
class Walk:
    """One self-test. `is_alone`: nobody is there, and what needs somebody is skipped."""

    settings: Settings
    is_alone: bool
    prints: bool = False
    out: TextIO = field(default_factory=lambda: sys.stderr)
    patience: float = 1.0
    keys: Keys = field(default_factory=Keys)
    senses: Senses = field(default_factory=Senses)
    _trouble: str = ""
    _credentials: Credentials | None = None

    def __post_init__(self) -> None:
        typed = sys.stdin if sys.stdin.isatty() else None
        self._person = Person(self.keys, self.out, typed=typed, patience=self.patience)
        self._now_ms = time_ns() // 1_000_000

    def over(self, parts: Sequence[Part]) -> list[Finding]:
        """A finding for each part. Raises AlreadyRunningError while the appliance runs."""
        with ExitStack() as stack:
            lock_state(self.settings.state.path, stack)
            findings = list(self._surroundings(parts))
            if any(part.is_hardware for part in parts) or self.prints:
                findings += self._parts(parts, findings, stack)
            return findings

    def _surroundings(self, parts: Sequence[Part]) -> Iterator[Finding]:
        try:
            settings = self.settings
            self._credentials = load_credentials(settings.state.path, settings.keys)
        except CredentialsError as error:
            self._trouble = str(error)
        for part in parts:
            if not part.is_hardware:
                yield self._say(self._surrounding(part))

    def _surrounding(self, part: Part) -> Finding:
        state, now = self.settings.state.path, datetime.fromtimestamp(self._now_ms / 1000, UTC)
        match part:
            case Part.CERTIFICATE if self._credentials is not None:
                return look_at_certificate(self._credentials, self.settings.keys, now)
            case Part.NETWORK if self._credentials is not None:
                broker = broker_of(self.settings)
                if broker is None:
                    return failed(part, "nobody has said where the broker is: set [broker] host")
                self._person.tell("Network: connecting to the broker ...")
                return look_at_network(broker, self._credentials)
            case Part.DISK:
                return look_at_disk(state)
            case Part.CLOCK:
                return look_at_clock(state, self._now_ms, WallClock())
            case _:
                return failed(part, self._trouble)

    def _parts(
        self, parts: Sequence[Part], so_far: Sequence[Finding], stack: ExitStack
    ) -> list[Finding]:
        wanted = [part for part in parts if part.is_hardware]
        try:
            hardware = open_hardware(
                self.settings.hardware,
                on_key=lambda key, held: self.keys.put((key, held)),
                on_qr=self.senses.on_qr,
                on_printer=self.senses.on_printer,
                on_stuck_lamp=self.senses.on_stuck_lamp,
            )
        except Exception as error:  # noqa: BLE001 -- which part failed only its library knows
            reason = f"{type(error).__name__}: {error}"
            return [self._say(failed(part, reason)) for part in wanted]
        stack.callback(hardware.close)
        findings = [self._say(self._part(part, hardware)) for part in wanted]
        if self.prints:
            when = f"{datetime.fromtimestamp(self._now_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
            name = "?" if self._credentials is None else self._credentials.device_id
            hardware.printer.print(slip_of([*so_far, *findings], name, when))
            if not wait_for_paper(hardware):
                self._person.tell("The result could not be printed.")
        return findings

    def _part(self, part: Part, hardware: Hardware) -> Finding:
        person = None if self.is_alone else self._person
        match part:
            case Part.KEYS | Part.LAMP | Part.BUZZER if person is None:
                return skipped(part, "needs somebody to press, look or listen")
            case Part.KEYS:
                return try_keys(self._person, self.settings.hardware.keypad)
            case Part.LAMP:
                return try_lamp(self._person, hardware, self.settings.hardware.lamp, self.senses)
            case Part.BUZZER:
                return try_buzzer(self._person, hardware)
            case Part.CAMERA:
                return try_camera(person, hardware, self.senses)
            case Part.PRINTER:
                return try_printer(person, hardware, self.settings.hardware, self.senses)
            case Part.CERTIFICATE | Part.DISK | Part.CLOCK | Part.NETWORK:
                raise AssertionError(f"{part} is no hardware")
            case _:
                assert_never(part)

    def _say(self, finding: Finding) -> Finding:
        self._person.tell(f"{finding.part}: {finding.verdict}: {'; '.join(finding.told)}")
        return finding
