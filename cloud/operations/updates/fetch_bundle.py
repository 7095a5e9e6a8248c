"""Who may fetch which bundle: appliances that are ours, what is released and not paused."""

from datetime import datetime

from sqlalchemy import select

from cloud.operations.enrolment.enrol_renew import Peer, find_peer
from cloud.operations.refusals import Code, Refusal
from cloud.store.database import Database
from cloud.store.tables import releases


def may_fetch(
    database: Database, thumbprint: str | None, sha256: str, now: datetime
) -> Peer | Refusal:
    """Any appliance that was not revoked: what is in a bundle is no secret, and whoever was among
    the first and is so no more may end what it began."""
    peer = find_peer(database, thumbprint, now)
    if isinstance(peer, Refusal):
        return peer
    with database.reading() as connection:
        paused = (
            connection.execute(select(releases.c.paused_at).where(releases.c.sha256 == sha256))
            .scalars()
            .all()
        )
    if not paused:
        return Refusal(
            Code.BUNDLE_UNKNOWN,
            "No bundle of that SHA-256 was released.",
            "Fetch what the newest policy announces.",
        )
    if None in paused:
        return peer
    return Refusal(
        Code.UPDATE_PAUSED,
        "The release of this bundle is paused.",
        "Keep what is there, and wait for the next policy.",
    )
