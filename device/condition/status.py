"""What an appliance's files say about it, whether it runs or not; reads only."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time_ns  # noqa: TID251 -- what is read here is told with its age
from typing import Final

import msgspec

from device.condition.health import Health, is_alive, read_health
from device.condition.standstill import SENTENCES, Known, Why, why
from device.credentials import (
    CredentialsError,
    Identity,
    NotEnrolledError,
    load,
    load_identity,
)
from device.hardware.spool import look as look_at_spool
from device.identity.files import broker_of
from device.identity.renewal import DAYS_MIN
from device.journal.chain import FILE_NAME, Chain
from device.journal.journal import JournalFault, look_at
from device.journal.kept_checkpoint import KeptCheckpoint
from device.journal.retention import DAY_MS, MIB
from device.journal.salvage import files_set_aside
from device.settings import Settings
from device.till.standing import Standing
from protocol.policy import PolicyRefusal, find, open_policy

DISK_FREE_MIN_MIB: Final = 64
STUCK_MAX_MS: Final = 3600 * 1000
"""Longer than any pause that ends by itself: somebody should look."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for the cloud's signed answer, by the journal."""

    offline: int = 0
    offline_in_cents: int = 0
    currency: str = ""
    cancels: int = 0
    refunds: int = 0
    sign_outs: int = 0
    undecided: int = 0
    """A sale of this moment, or one that the next start will cancel."""
    unseen: int = 0
    """Approved, and perhaps not shown: staff are asked."""
    oldest_at_ms: int | None = None

    @property
    def to_send(self) -> int:
        return self.offline + self.cancels + self.refunds + self.sign_outs


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    printer: str
    state: str
    waiting: int
    oldest_at_ms: int | None = None


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    entries: int
    settled_below: int
    size_bytes: int
    set_aside: tuple[str, ...]
    """Damaged files of earlier epochs."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    stall: str = ""
    event: str = ""
    offline_allowed: bool = False
    expires_at_ms: int = 0
    refused: str = ""
    """Why it is no longer believed."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, as `--json` prints it. Times are milliseconds since 1970, UTC."""

    at_ms: int
    troubles: tuple[str, ...]
    """What a person should do something about; none: sound."""
    device_id: str = ""
    broker: str = ""
    certificate_expires_at_ms: int = 0
    certificate_days: int = 0
    is_running: bool = False
    firmware: str = ""
    image: str = ""
    update: str = ""
    link: str = ""
    clock: str = ""
    queue: Queue = Queue()
    why: str = Why.NOTHING_WAITS.value
    why_said: str = SENTENCES[Why.NOTHING_WAITS]
    paper: Paper | None = None
    scanner: str = ""
    policy: Policy | None = None
    signed_in: str = ""
    journal: Journal | None = None
    disk_free_mib: int = 0
    checkpoint: str = ""

    @property
    def is_sound(self) -> bool:
        return not self.troubles


@dataclass(frozen=True)
class _Moment:
    """Now, by the clocks of this machine."""

    ms: int
    monotonic_s: float


def status_of(settings: Settings, passed_over: Sequence[str] = ()) -> Status:
    """Everything that can be read; what cannot is among the troubles, as are settings that were
    `passed_over`."""
    now = _Moment(time_ns() // 1_000_000, monotonic())
    folder = settings.state.path
    troubles: list[str] = list(passed_over)
    identity = _identity(settings, troubles)
    chain = _chain(folder, troubles)
    health = read_health(folder)
    runs = health is not None and is_alive(health, now.monotonic_s)
    told = health if health is not None and runs else None
    queue = Queue() if chain is None else _queue(chain.standing)
    policy = _policy(chain, identity)
    standstill = _standstill(queue, told, identity, policy, now)
    detail = _detail(standstill, told)
    said = SENTENCES[standstill] + (f": {detail}" if detail else "")
    free_mib = _free_mib(folder)
    days = -1 if identity is None else _days_left(identity, now)
    if identity is not None and days < 0:
        troubles.append("the certificate has expired")
    elif identity is not None and days < DAYS_MIN:
        troubles.append(_not_renewed(days, told))
    troubles += _of_the_program(told)
    is_old = queue.oldest_at_ms is not None and now.ms - queue.oldest_at_ms > STUCK_MAX_MS
    if is_old and standstill is not Why.MOVING:
        troubles.append(f"what waits has not moved for more than an hour: {said}")
    if free_mib < DISK_FREE_MIN_MIB:
        troubles.append(f"{free_mib} MiB left on the disk")
    return Status(
        at_ms=now.ms,
        troubles=tuple(troubles),
        device_id="" if identity is None else identity.device_id,
        broker=_broker(settings),
        certificate_expires_at_ms=(
            0 if identity is None else int(identity.expires_at.timestamp() * 1000)
        ),
        certificate_days=days,
        is_running=runs,
        firmware="" if told is None else told.firmware,
        image="" if told is None else told.image,
        update="" if told is None else told.update,
        link=_link(told),
        clock="" if told is None else told.clock,
        queue=queue,
        why=standstill.value,
        why_said=said,
        paper=_paper(settings, told),
        scanner=_scanner(told),
        policy=policy,
        signed_in=_signed_in(chain),
        journal=None if chain is None else _journal(folder, chain),
        disk_free_mib=free_mib,
        checkpoint=_checkpoint(folder),
    )


def _broker(settings: Settings) -> str:
    broker = broker_of(settings)
    return "not known yet" if broker is None else f"{broker.host}:{broker.port}"


def _identity(settings: Settings, troubles: list[str]) -> Identity | None:
    folder = settings.state.path
    try:
        # A sealed key is the running program's alone; who the appliance is, its certificate says.
        return load(folder) if settings.keys.kind == "file" else load_identity(folder)
    except NotEnrolledError as error:
        troubles.append(f"not enrolled: {error}")
        return None
    except CredentialsError as error:
        troubles.append(f"no identity: {error}")
        return None


def _chain(folder: Path, troubles: list[str]) -> Chain | None:
    try:
        return look_at(folder)
    except JournalFault as fault:
        troubles.append(f"the journal cannot be read: {fault}")
        return None


def _queue(standing: Standing) -> Queue:
    unsynced, cancels = standing.unsynced, [e.sale for e in standing.sales if e.is_cancelled]
    refunds = [each.refund for each in standing.refunds if each.answer is None]
    times = [
        *(each.accepted_at_ms for each in unsynced),
        *(each.at_ms for each in (*cancels, *refunds)),
    ]
    return Queue(
        offline=len(unsynced),
        offline_in_cents=sum(each.amount.amount_in_cents for each in unsynced),
        currency=unsynced[0].amount.currency if unsynced else "",
        cancels=len(cancels),
        refunds=len(refunds),
        sign_outs=len(standing.sign_outs),
        undecided=sum(each.is_undecided for each in standing.sales),
        unseen=sum(each.may_be_unseen for each in standing.sales),
        oldest_at_ms=min(times, default=None),
    )


def _standstill(
    queue: Queue,
    told: Health | None,
    identity: Identity | None,
    policy: Policy | None,
    now: _Moment,
) -> Why:
    health = Health() if told is None else told
    expired = identity is not None and _days_left(identity, now) < 0
    silent_ms = None
    if health.is_answering and health.heard_at_ms is not None:
        silent_ms = health.at_ms - health.heard_at_ms
    return why(
        Known(
            waits=queue.to_send > 0,
            runs=told is not None,
            is_journal_open=health.is_journal_open,
            certificate_expired=expired,
            has_policy=policy is not None,
            link_is_up=health.link_is_up,
            link_trouble=health.link_trouble,
            refusal=health.refusal,
            silent_ms=silent_ms,
        )
    )


def _detail(standstill: Why, told: Health | None) -> str:
    """What the program knows beyond the sentence."""
    if told is None:
        return ""
    match standstill:
        case Why.REFUSED_BY_CLOUD:
            return told.refusal
        case Why.CLOUD_SILENT if told.heard_at_ms is not None:
            return f"since {moment(told.heard_at_ms)}"
        case Why.NO_NETWORK | Why.CERTIFICATE_REFUSED | Why.BROKER_NOT_BELIEVED | Why.CLOCK:
            return told.link_trouble
        case _:
            return ""


def _not_renewed(days: int, told: Health | None) -> str:
    why = "" if told is None or not told.renewal else f": {told.renewal}"
    return f"the certificate has {days} days left, and was not renewed{why}"


def _of_the_program(told: Health | None) -> list[str]:
    troubles: list[str] = []
    if told is not None and told.refusal:
        troubles.append(f"the cloud refuses this appliance: {told.refusal}")
    if told is not None and told.enrolling:
        troubles.append(f"it waits to be enrolled: {told.enrolling}")
    if told is not None and not told.is_journal_open:
        troubles.append("the disk refuses the journal: nothing is sold")
    return troubles


def _policy(chain: Chain | None, identity: Identity | None) -> Policy | None:
    taken = None if chain is None else chain.standing.policy
    if taken is None or identity is None:
        return None
    find_key = find(identity.policy_keys)
    opened = open_policy(taken.token.encode(), find_key, identity.device_id, 0)
    if isinstance(opened, PolicyRefusal):
        return Policy(version=taken.version, refused=opened.value)
    return Policy(
        version=opened.version,
        stall=opened.stall_name,
        event=opened.event_name,
        offline_allowed=opened.offline.allowed,
        expires_at_ms=opened.expires_at_ms,
    )


def _signed_in(chain: Chain | None) -> str:
    began = None if chain is None else chain.standing.session
    return "" if began is None else began.session.initials


def _journal(folder: Path, chain: Chain) -> Journal:
    paths = (folder / f"{FILE_NAME}{suffix}" for suffix in ("", "-wal"))
    return Journal(
        epoch=chain.epoch,
        entries=chain.last,
        settled_below=chain.position.settled_below,
        size_bytes=sum(path.stat().st_size for path in paths if path.exists()),
        set_aside=tuple(path.name for path in files_set_aside(folder)),
    )


def _paper(settings: Settings, told: Health | None) -> Paper:
    waiting = look_at_spool(settings.state.path)
    return Paper(
        printer=settings.hardware.printer.kind,
        state="" if told is None else told.printer,
        waiting=len(waiting),
        oldest_at_ms=int(waiting[0].since * 1000) if waiting else None,
    )


def _scanner(told: Health | None) -> str:
    if told is None or told.scanner is None:
        return ""
    scanner = told.scanner
    if scanner.last_frame_at_s is None:
        return f"no frame so far, {scanner.restarts} restarts"
    age_s = max(0.0, told.at_s - scanner.last_frame_at_s)
    return f"{scanner.frames} frames, the last {age_s:.0f} s before, {scanner.restarts} restarts"


def _link(told: Health | None) -> str:
    if told is None:
        return ""
    if told.link_is_up:
        return "up, the cloud answers" if told.is_answering else "up, no answer so far"
    return f"down: {told.link_trouble}" if told.link_trouble else "down"


def _checkpoint(folder: Path) -> str:
    try:
        kept = KeptCheckpoint(folder).read()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if kept is None:
        return ""
    return f"epoch {kept.epoch}, {kept.size} leaves, {moment(kept.at_ms)}"


def _days_left(identity: Identity, now: _Moment) -> int:
    """Whole days; negative once it has expired."""
    left_ms = int(identity.expires_at.timestamp() * 1000) - now.ms
    return left_ms // DAY_MS


def _free_mib(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free // MIB
    except OSError:
        return 0


def moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
