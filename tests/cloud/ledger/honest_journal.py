"""An appliance's journal as honest software keeps it, a copy of it, and the cloud that listens."""

import copy
import hashlib
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from msgspec.structs import replace

from cloud.ledger.decisions import QuarantineCause
from cloud.ledger.facts import Appliance, JournalEntry
from cloud.ledger.journals import Placed, doubt_entry, hear_journal
from protocol.encoding import to_base64url
from protocol.ids import DeviceId, IdempotencyKey
from protocol.messages import (
    Cancel,
    Deduct,
    Heartbeat,
    JournalKnown,
    JournalPosition,
    OfflineAcceptance,
)
from tests.cloud.ledger.world import deduct, heartbeat, offline, till

NAMES = count()


@dataclass
class Machine:
    """Writes first, says it after; forgets what it was told when the power goes."""

    epoch: str = "epoch-0000000000"
    heads: list[str] = field(default_factory=list[str])
    unsettled: dict[int, Deduct] = field(default_factory=dict[int, Deduct])
    offline: set[int] = field(default_factory=set[int])
    told: JournalKnown | None = None

    def copy(self) -> "Machine":
        """As the memory card is copied: not what it had in mind."""
        twin = copy.deepcopy(self)
        twin.told = None
        return twin

    def write(self, entries: int = 1) -> None:
        for _ in range(entries):
            # What is written differs from copy to copy.
            text = f"{self.heads[-1:]}{next(NAMES)}".encode()
            self.heads.append(to_base64url(hashlib.sha256(text).digest()))

    @property
    def position(self) -> JournalPosition:
        last = len(self.heads)
        head = self.heads[-1] if self.heads else "A" * 43
        return JournalPosition(self.epoch, last, min(self.unsettled, default=last + 1), head)

    def beat(self) -> Heartbeat:
        return replace(heartbeat(), journal=self.position, journal_told=self.told)

    def sell(self) -> Deduct:
        self.write()
        number = len(self.heads)
        said: dict[str, Any] = {"journal": self.position, "entry": number}
        self.unsettled[number] = replace(deduct(key=f"key-{next(NAMES)}"), **said)
        return self.unsettled[number]

    def accept(self, number: int) -> OfflineAcceptance:
        self.write()
        self.offline.add(number)
        return replace(offline(self.unsettled[number]), journal=self.position)

    def cancel(self, number: int) -> Cancel:
        self.write()
        sale = self.unsettled[number]
        recorded: dict[str, Any] = {name: getattr(sale, name) for name in Cancel.__struct_fields__}
        said: dict[str, Any] = {"journal": self.position}
        return Cancel(**(recorded | said))

    def settle(self, request: Placed) -> None:
        """The cloud has answered it for good, and that is written down."""
        mine = self.unsettled.get(request.entry)
        if mine is not None and mine.key == request.key:
            self.write()
            del self.unsettled[request.entry]

    def set_aside(self) -> None:
        """The file was corrupt: another epoch, which knows nothing."""
        self.epoch = f"epoch-{next(NAMES):010}"
        self.heads, self.unsettled = [], {}
        self.write()


class Cloud:
    """What the ledger's fold and its store do about journals, and nothing else."""

    def __init__(self) -> None:
        self.appliance = Appliance(
            till(0), revoked=False, event_id=None, stall_id=None, policy_version=1
        )
        self.keys: set[IdempotencyKey] = set()
        self.entries: dict[JournalEntry, frozenset[IdempotencyKey]] = {}

    def hear(self, request: Heartbeat | Placed) -> QuarantineCause | JournalKnown | None:
        """What it says of a heartbeat's journal, or what no honest appliance can have said."""
        if isinstance(request, Heartbeat):
            heard = hear_journal(self.appliance, request)
            if heard.doubt is None and heard.journal is not None:
                self.appliance = replace(
                    self.appliance,
                    journal=heard.journal,
                    journal_left=heard.left,
                    journal_anew=False,
                    settled_by=heard.settled_by,
                )
            return heard.doubt or heard.known
        at = (DeviceId(request.device_id), request.journal.epoch, request.entry)
        key = request.idempotency_key
        others = self.entries.get(at, frozenset()) - {key}
        is_known = key in self.keys
        doubt = doubt_entry(self.appliance, request, is_known=is_known, others=others)
        if doubt is None:
            self.keys.add(key)
            self.entries[at] = others | {key}
        return doubt

    def release(self) -> None:
        self.appliance = replace(
            self.appliance,
            releases=self.appliance.releases + 1,
            journal_anew=True,
            journal_left=(),
        )
        self.entries = {}
