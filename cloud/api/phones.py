"""What a hundred thousand phones ask again and again, each looked up with whoever else asks."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from cloud.api.context import Cloud
from cloud.api.together import Together
from cloud.operations.issue_token import PublishedQr, issue_tokens
from cloud.operations.people.sign_in_attendee import Attendee, find_attendees
from cloud.operations.read_wallet import WalletView, read_wallets
from cloud.operations.refusals import Refusal
from protocol.ids import EventId


@dataclass(frozen=True, slots=True)
class Phones:
    """Nothing is remembered from one batch to the next: who signed out is out, at once."""

    sessions: Together[str, Attendee | None]
    tokens: Together[tuple[Attendee, EventId], PublishedQr | Refusal]
    wallets: Together[Attendee, WalletView]

    @classmethod
    def of(cls, cloud: Cloud) -> "Phones":
        database, keys, clock = cloud.database, cloud.keys, cloud.clock
        return cls(
            Together(lambda tokens: find_attendees(database, tokens, clock())),
            Together(lambda asked: issue_tokens(database, keys, asked, clock())),
            Together(lambda attendees: read_wallets(database, attendees, clock())),
        )


def phones_of(request: Request) -> Phones:
    """Called, not depended on: FastAPI takes as long over a dependency as we over a lookup."""
    return cast("Phones", request.app.state.phones)
