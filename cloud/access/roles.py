"""Who may do what: roles, each for every event or for one, or for one stall of it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from protocol.ids import EventId, StallId


class Role(StrEnum):
    """What a console user, or a program with an access token, may do."""

    OPS = "ops"
    """Events, appliances, staff, attendees' sign-in links."""
    SUPERVISOR = "supervisor"
    """Approves refunds and ends review entries."""
    FINANCE = "finance"
    """Adjustments, exports, settlements, cash-outs, the review list."""
    ADMIN = "admin"
    """Console users, their roles and sessions; the audit log."""
    STALL_OWNER = "stall_owner"
    """The settlement of their own stall, and nothing else."""


@dataclass(frozen=True, slots=True)
class Grant:
    role: Role
    event_id: EventId | None = None
    """None: every event."""
    stall_id: StallId | None = None
    """None: every stall."""

    def __str__(self) -> str:
        """`ops`, `ops@harbour`, `stall_owner@harbour/bar`."""
        event = "" if self.event_id is None else f"@{self.event_id}"
        stall = "" if self.stall_id is None else f"/{self.stall_id}"
        return f"{self.role.value}{event}{stall}"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, as the audit log names them (`kind:id`), and what they were granted."""

    subject: str
    grants: tuple[Grant, ...]

    def may(
        self,
        roles: Collection[Role],
        event_id: EventId | None = None,
        stall_id: StallId | None = None,
    ) -> bool:
        """Whether one of the roles is theirs there.

        Without an event: whether it is theirs anywhere; what is then shown must be narrowed with
        `events`.
        """
        return any(
            grant.role in roles
            and (event_id is None or grant.event_id in {None, event_id})
            and (stall_id is None or grant.stall_id in {None, stall_id})
            for grant in self.grants
        )

    def events(self, roles: Collection[Role]) -> frozenset[EventId] | None:
        """The events where one of the roles is theirs; None: every event."""
        named = [grant.event_id for grant in self.grants if grant.role in roles]
        if None in named:
            return None
        return frozenset(event_id for event_id in named if event_id is not None)
