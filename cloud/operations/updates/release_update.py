"""A bundle released to a channel; paused, resumed, given to more or to fewer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from cloud.operations.refusals import Code, Refusal
from cloud.operations.rows import insert_if_new, insert_or_update
from cloud.store.database import Database
from cloud.store.keeping import AuditRow, write_audit_records
from cloud.store.locks import lock_releases
from cloud.store.tables import bundles, releases
from protocol.updates import CHANNELS, is_newer

NOTES_CHARS_MAX: Final = 2000
WHY_CHARS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Bundle:
    """One that lies in the folder, whole, as its SHA-256 says."""

    sha256: str
    version: str
    compatible: str
    size: int


@dataclass(frozen=True, slots=True)
class Terms:
    """To whom it is released, and how."""

    channel: str
    rollout_percent: int
    notes: str = ""
    allow_downgrade: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The releases of one version; what is None leaves none out."""

    version: str
    channel: str | None = None
    compatible: str | None = None


def release_update(
    database: Database, bundle: Bundle, terms: Terms, *, actor: str, now: datetime
) -> Refusal | None:
    """Announce it from now on, as the latest of its channel. Releasing it again begins anew: with
    these terms, not paused, the latest once more."""
    if terms.channel not in CHANNELS:
        return no_channel(terms.channel)
    with database.transaction() as connection:
        lock_releases(connection)
        refusal = _refuse_other_bundle(connection, bundle) or _refuse_older(
            connection, bundle, terms
        )
        if refusal is not None:
            return refusal
        row = {
            "sha256": bundle.sha256,
            "version": bundle.version,
            "compatible": bundle.compatible,
            "size": bundle.size,
        }
        insert_if_new(connection, bundles, row | {"created_at": now})
        release = {
            "sha256": bundle.sha256,
            "channel": terms.channel,
            "rollout_percent": terms.rollout_percent,
            "allow_downgrade": terms.allow_downgrade,
            "notes": terms.notes[:NOTES_CHARS_MAX],
            "released_at": now,
            "released_by": actor,
            "paused_at": None,
            "paused_why": None,
            "resumed_at": now,
        }
        insert_or_update(connection, releases, release)
        detail = row | {
            "channel": terms.channel,
            "rollout_percent": terms.rollout_percent,
            "allow_downgrade": terms.allow_downgrade,
        }
        _record(connection, "update_released", bundle.version, detail, actor=actor, now=now)
    return None


def pause_update(
    database: Database, chosen: Chosen, why: str, *, actor: str, now: datetime
) -> Refusal | None:
    """Announce it to nobody, and let nobody fetch it. Whoever installed it keeps it."""
    values = {"paused_at": now, "paused_why": why[:WHY_CHARS_MAX]}
    still = releases.c.paused_at.is_(None)
    return _change(database, chosen, "update_paused", values, still, actor=actor, now=now)


def resume_update(
    database: Database, chosen: Chosen, *, actor: str, now: datetime
) -> Refusal | None:
    """Announce it again. Those who rolled back before count against it no more."""
    values = {"paused_at": None, "paused_why": None, "resumed_at": now}
    still = releases.c.paused_at.is_not(None)
    return _change(database, chosen, "update_resumed", values, still, actor=actor, now=now)


def roll_out(
    database: Database, chosen: Chosen, percent: int, *, actor: str, now: datetime
) -> Refusal | None:
    """To so many of a hundred appliances of its channel. Fewer than before: those who are out of
    it again stop; nobody goes back."""
    values = {"rollout_percent": percent}
    still = releases.c.rollout_percent != percent
    return _change(database, chosen, "update_rollout_changed", values, still, actor=actor, now=now)


def pause_releases(
    connection: Connection, where: ColumnElement[bool], why: str, now: datetime
) -> list[str]:
    """In a transaction that holds the releases; the channels where it was not paused before."""
    paused = connection.execute(
        update(releases)
        .where(where, releases.c.paused_at.is_(None))
        .values(paused_at=now, paused_why=why[:WHY_CHARS_MAX])
        .returning(releases.c.channel)
    )
    return sorted(paused.scalars())


def no_channel(channel: str) -> Refusal:
    return Refusal(
        Code.CHANNEL_UNKNOWN,
        f"There is no channel {channel!r}.",
        f"The channels are {' and '.join(CHANNELS)}.",
    )


def _change(
    database: Database,
    chosen: Chosen,
    action: str,
    values: dict[str, Any],
    still: ColumnElement[bool],
    *,
    actor: str,
    now: datetime,
) -> Refusal | None:
    """Each release that was chosen and is not so yet, with a record; doing it twice is once."""
    with database.transaction() as connection:
        lock_releases(connection)
        found = _find(connection, chosen)
        if not found:
            return unknown(chosen)
        for row in found:
            this = and_(releases.c.sha256 == row.sha256, releases.c.channel == row.channel)
            changed = connection.execute(update(releases).where(this, still).values(**values))
            if changed.rowcount:
                told = {name: said for name, said in values.items() if not name.endswith("_at")}
                detail = {"channel": row.channel, "compatible": row.compatible} | told
                _record(connection, action, chosen.version, detail, actor=actor, now=now)
    return None


def _find(connection: Connection, chosen: Chosen) -> Sequence[Row[*tuple[Any, ...]]]:
    wanted = (
        select(releases.c.sha256, releases.c.channel, bundles.c.compatible)
        .join(bundles, bundles.c.sha256 == releases.c.sha256)
        .where(bundles.c.version == chosen.version)
        .order_by(releases.c.sha256, releases.c.channel)
    )
    if chosen.channel is not None:
        wanted = wanted.where(releases.c.channel == chosen.channel)
    if chosen.compatible is not None:
        wanted = wanted.where(bundles.c.compatible == chosen.compatible)
    return connection.execute(wanted).all()


def unknown(chosen: Chosen) -> Refusal:
    where = "" if chosen.channel is None else f" in the channel {chosen.channel}"
    what = "" if chosen.compatible is None else f" for {chosen.compatible}"
    return Refusal(
        Code.RELEASE_UNKNOWN,
        f"{chosen.version!r} was not released{where}{what}.",
        "`railtix-ops update status` names what was.",
    )


def _refuse_other_bundle(connection: Connection, bundle: Bundle) -> Refusal | None:
    """What was tried under a version's name is what everybody gets by it."""
    found = connection.execute(
        select(bundles).where(
            (bundles.c.sha256 == bundle.sha256)
            | ((bundles.c.version == bundle.version) & (bundles.c.compatible == bundle.compatible))
        )
    ).all()
    said = (bundle.sha256, bundle.version, bundle.compatible)
    if all((row.sha256, row.version, row.compatible) == said for row in found):
        return None
    [other, *_] = found
    return Refusal(
        Code.BUNDLE_DIFFERS,
        f"{other.version} for {other.compatible} is known as the bundle {other.sha256}.",
        "Build it under a version of its own.",
    )


def _refuse_older(connection: Connection, bundle: Bundle, terms: Terms) -> Refusal | None:
    """Appliances would pass it over: say so now, and not by their silence."""
    if terms.allow_downgrade:
        return None
    released = connection.execute(
        select(bundles.c.version)
        .join(releases, releases.c.sha256 == bundles.c.sha256)
        .where(releases.c.channel == terms.channel, bundles.c.compatible == bundle.compatible)
    ).scalars()
    newer = [each for each in released if is_newer(each, bundle.version)]
    if not newer:
        return None
    return Refusal(
        Code.RELEASE_OLDER,
        f"{newer[0]} was released to {terms.channel} before, and is newer than {bundle.version}.",
        "Build it under a newer version; or release it with --allow-downgrade, which takes back "
        "those who run the newer one.",
    )


def _record(
    connection: Connection,
    action: str,
    version: str,
    detail: dict[str, Any],
    *,
    actor: str,
    now: datetime,
) -> None:
    deed = AuditRow(
        at=now, actor=actor, action=action, outcome="done", subject=version, detail=detail
    )
    write_audit_records(connection, [deed])
