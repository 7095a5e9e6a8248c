"""What a hundred thousand phones ask again and again, each looked up with whoever else asks."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from cloud.api.context import Cloud
from cloud.api.together import Together
from cloud.operations.issue_token import Payer, find_payers
from cloud.operations.people.sign_in_attendee import Attendee, find_attendees
from cloud.operations.read_wallet import WalletView, read_wallets
from protocol.ids import EventId


@dataclass(frozen=True, slots=True)
class Phones:
    """Nothing is remembered from one batch to the next: who signed out is out, at once."""

    sessions: Together[str, Attendee | None]
    """By a session's token."""
    payers: Together[tuple[str, EventId], Payer | None]
    wallets: Together[str, WalletView | None]

    @classmethod
    def of(cls, cloud: Cloud) -> "Phones":
        database, clock = cloud.database, cloud.clock
        return cls(
            Together(lambda tokens: find_attendees(database, tokens, clock())),
            Together(lambda asked: find_payers(database, asked, clock())),
            Together(lambda tokens: read_wallets(database, tokens, clock())),
        )


def phones_of(request: Request) -> Phones:
    """Called, not depended on: FastAPI takes as long over a dependency as we over a lookup."""
    return cast("Phones", request.app.state.phones)
