"""A machine with two slots: the real railtix-slots, a simulated rauc, and U-Boot's counting."""

import hashlib
import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from device.slots.client import SlotsClient
from device.slots.keeper import Keeper, Places
from device.slots.rauc import Rauc
from device.slots.server import listen, serve

COMPATIBLE = "railtix-pos-debian"
OLD = "0.1.0+202611200000"
NEW = "0.2.0+202611230300"
PROGRAM = Path(__file__).with_name("rauc_simulated.py")


def a_bundle(
    version: str = NEW,
    compatible: str = COMPATIBLE,
    signed_by: str = "us",
    payload: str = "sound",
    padding: int = 0,
) -> bytes:
    said = {
        "version": version,
        "compatible": compatible,
        "signed_by": signed_by,
        "payload": payload,
        "padding": "x" * padding,
    }
    return json.dumps(said).encode()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Machine:
    """`reboot` is what U-Boot's script and the kernel do: count down, start a slot."""

    folder: Path
    uptime_s: float = 100.0
    reboots: int = 0
    keepers: list[Keeper] = field(default_factory=list)

    def __post_init__(self) -> None:
        for each in (self.updates, self.run):
            each.mkdir(parents=True)
        self.places.lock.touch()
        self._write(
            {
                "compatible": COMPATIBLE,
                "booted": "A",
                "order": ["A", "B"],
                "left": {"A": 3, "B": 3},
                "slots": {"A": {"compatible": COMPATIBLE, "version": OLD}, "B": None},
                "good": [],
                "asked": [],
                "moods": {},
            }
        )
        script = self.folder / "reboot"
        script.write_text(f"#!/bin/sh\necho >> {self.folder}/rebooted\n")
        script.chmod(0o755)

    @property
    def updates(self) -> Path:
        return self.folder / "data" / "update"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def socket(self) -> Path:
        return self.run / "socket"

    @property
    def places(self) -> Places:
        return Places(
            updates=self.updates,
            hold=self.folder / "hold",
            lock=self.run / "sale.lock",
            mark=self.run / "good",
        )

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "rauc.json").read_text())

    @property
    def asked(self) -> list[list[str]]:
        return self.state["asked"]

    @property
    def running(self) -> str:
        state = self.state
        return state["slots"][state["booted"]]["version"]

    @property
    def was_rebooted(self) -> bool:
        return (self.folder / "rebooted").exists()

    def change(self, **changes: Any) -> None:
        self._write(self.state | changes)

    def put(self, content: bytes, sha256: str | None = None) -> str:
        """Lay a bundle in the folder; its SHA-256, by which it is called."""
        digest = sha256 or sha256_of(content)
        (self.updates / f"{digest}.raucb").write_bytes(content)
        return digest

    def hold_installation(self) -> None:
        (self.folder / "rauc.json.hold").touch()

    def go_on(self) -> None:
        (self.folder / "rauc.json.hold").unlink()

    def rauc(self) -> Rauc:
        return Rauc(
            ("env", f"RAUC_SIMULATED={self.folder}/rauc.json", sys.executable, "-ISE", str(PROGRAM))
        )

    def keeper(self, reboot: Sequence[str] | None = None, lock_wait_s: float = 0.0) -> Keeper:
        keeper = Keeper(
            self.rauc(),
            self.places,
            owners={os.geteuid()},
            reboot=reboot or (str(self.folder / "reboot"),),
            clock=lambda: self.uptime_s,
            lock_wait_s=lock_wait_s,
        )
        self.keepers.append(keeper)
        return keeper

    @contextmanager
    def serving(
        self, keeper: Keeper | None = None, users: frozenset[int] | None = None
    ) -> Generator[SlotsClient]:
        keeper = keeper or self.keeper()
        stopping = Event()
        with listen(self.socket, None) as listening:
            allowed = frozenset({os.geteuid()}) if users is None else users
            thread = Thread(target=serve, args=(listening, keeper, allowed, stopping))
            thread.start()
            try:
                yield SlotsClient(self.socket, answer_s=60)
            finally:
                stopping.set()
                thread.join()
                keeper.wait()

    def restart(self) -> str:
        """Off and on again: which version runs now."""
        state = self.state
        if not any(state["left"].values()):
            state["left"] = {"A": 3, "B": 3}
        booted = next(each for each in state["order"] if state["left"][each])
        state["left"][booted] -= 1
        state["booted"] = booted
        self._write(state)
        (self.folder / "rebooted").unlink(missing_ok=True)
        self.places.mark.unlink(missing_ok=True)
        self.uptime_s = 10.0
        self.reboots += 1
        return self.running

    def _write(self, state: dict[str, Any]) -> None:
        draft = self.folder / "rauc.json.draft"
        draft.write_text(json.dumps(state))
        draft.replace(self.folder / "rauc.json")
