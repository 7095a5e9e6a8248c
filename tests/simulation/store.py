"""The cloud's database in memory: what a batch may read, and what one commit changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import structs

from cloud.ledger.decide import Decided
from cloud.ledger.deny_list import (
    DeniedChange,
    ListState,
    newest_version,
    page,
    serial_held,
)
from cloud.ledger.facts import (
    Appliance,
    CheckedQr,
    DeviceKey,
    EventTerms,
    Facts,
    JournalEntry,
    KnownKey,
    PolicyTerms,
    Presented,
    StaffSession,
    ToldInPassing,
)
from cloud.ledger.journals import Placed
from cloud.ledger.postings import Posting, Wallet, post
from protocol.ids import DeviceId, EventId, IdempotencyKey, PayerId, SessionId, TokenId, UserId
from protocol.messages import (
    BalanceRequest,
    Cancel,
    Deduct,
    Heartbeat,
    OfflineAcceptance,
    Request,
    SignOut,
)
from protocol.outcomes import DeniedChanges
from tests.simulation.identities import CURRENCY

Decide = Callable[[Facts, Sequence[Presented]], Decided]


@dataclass(frozen=True)
class Posted:
    """A row of the ledger, and what only this simulation knows of it."""

    posting: Posting
    by_revoked: bool = False
    """The appliance it came from had been revoked before this commit."""
    token_id: TokenId | None = None


@dataclass
class Store:
    appliances: dict[DeviceId, Appliance] = field(default_factory=dict)
    keys: dict[DeviceKey, KnownKey] = field(default_factory=dict)
    reviews: dict[DeviceKey, str] = field(default_factory=dict)
    sessions: dict[SessionId, StaffSession] = field(default_factory=dict)
    events: dict[EventId, EventTerms] = field(default_factory=dict)
    policies: dict[tuple[DeviceId, int], PolicyTerms] = field(default_factory=dict)
    payers: dict[PayerId, UserId] = field(default_factory=dict)
    wallets: dict[tuple[UserId, str], Wallet] = field(default_factory=dict)
    spent: set[tuple[UserId, TokenId]] = field(default_factory=set)
    ledger: list[Posted] = field(default_factory=list)
    entries: dict[JournalEntry, frozenset[IdempotencyKey]] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    _denials: list[DeniedChange] = field(default_factory=list[DeniedChange])

    def gather(self, batch: Sequence[Presented]) -> Facts:
        """No more than the batch asks for, as the real store reads it."""
        requests = [each.request for each in batch]
        keys = {(each.device, each.idempotency_key) for each in requests}
        sessions = {SessionId(each) for each in map(_session_named, requests) if each is not None}
        sales = [each for each in requests if isinstance(each, Deduct | OfflineAcceptance)]
        shows_qr = any(isinstance(each, BalanceRequest) for each in requests)
        known = {each: self.keys[each] for each in keys if each in self.keys}
        users = {each.sale.user_id for each in known.values() if each.sale is not None}
        users |= set(self.payers.values()) if sales or shows_qr else set()
        policies = {(each.device, each.policy_version) for each in sales}
        return Facts(
            appliances={each.device: self.appliances[each.device] for each in requests},
            revoked_certificates=frozenset(),
            keys=known,
            reviews={each: self.reviews[each] for each in keys if each in self.reviews},
            sessions={each: self.sessions[each] for each in sessions if each in self.sessions},
            events=self.events,
            policies={each: self.policies[each] for each in policies if each in self.policies},
            payers=self.payers,
            wallets={of: wallet for of, wallet in self.wallets.items() if of[0] in users},
            spent=frozenset(self.spent),
            entries=self.entries,
            told={
                each.idempotency_key: ToldInPassing(denied=self._denied_since(each.denied_version))
                for each in requests
                if isinstance(each, Heartbeat)
            },
        )

    def keep(self, batch: Sequence[Presented], decided: Decided) -> None:
        """All of it in one commit."""
        for presented, decision in zip(batch, decided.decisions, strict=True):
            device_id = presented.request.device
            device_key = (device_id, presented.request.idempotency_key)
            if decision.posting is not None:
                qr = presented.qr
                token_id = qr.token.token_id if isinstance(qr, CheckedQr) else None
                is_revoked = self.appliances[device_id].revoked
                self.ledger.append(Posted(decision.posting, is_revoked, token_id))
            if decision.key is not None:
                self.keys[device_key] = decision.key
            if decision.spent is not None:
                self.spent.add((decision.spent.user_id, decision.spent.token_id))
            if decision.review is not None:
                self.reviews[device_key] = decision.review.review_id
            if decision.ended is not None:
                self.end_session(decision.ended)
            if decision.seen is not None and decision.seen.journal is not None:
                self.appliances[device_id] = structs.replace(
                    self.appliances[device_id],
                    journal=decision.seen.journal,
                    journal_left=decision.seen.journal_left,
                    settled_by=decision.seen.settled_by,
                )
            if isinstance(presented.request, Placed) and decision.key is not None:
                at = (device_id, presented.request.journal.epoch, presented.request.entry)
                self.entries[at] = self.entries.get(at, frozenset()) | {device_key[1]}
        self.wallets.update(decided.wallets)

    def _list_denied(self) -> None:
        """Who owes, or was caught with one QR at two tills, buys nothing offline."""
        for payer_id, user_id in self.payers.items():
            wallet = self.wallets.get((user_id, CURRENCY))
            is_denied = wallet is not None and wallet.offline_frozen
            if is_denied != (payer_id in self.denied):
                self.denied = self.denied ^ {payer_id}
                self._denials.append(DeniedChange(len(self._denials) + 1, payer_id, is_denied))

    def _denied_since(self, version: int) -> DeniedChanges | None:
        self._list_denied()
        state = ListState(1, len(self._denials)) if self._denials else None
        if version == newest_version(state):
            return None
        held = serial_held(state, version)
        newest = {each.payer_id: each for each in self._denials if each.serial > held}
        return page(state, held, sorted(newest.values(), key=lambda each: each.serial))

    def enter(self, posting: Posting) -> None:
        """A posting that no appliance asked for."""
        of = (posting.user_id, posting.amount.currency)
        wallet = self.wallets.get(of, Wallet.empty(*of))
        self.wallets[of] = post(wallet, posting)
        self.ledger.append(Posted(posting))

    def begin_session(self, session: StaffSession) -> None:
        """One session an appliance: whoever was signed in there before is not any more."""
        for each in list(self.sessions.values()):
            if each.device_id == session.device_id:
                self.end_session(each.session_id)
        self.sessions[session.session_id] = session

    def end_session(self, session_id: SessionId) -> None:
        self.sessions[session_id] = structs.replace(self.sessions[session_id], ended=True)

    def running_session(self, device_id: DeviceId, now: datetime) -> StaffSession | None:
        running = (
            each
            for each in self.sessions.values()
            if each.device_id == device_id and not each.ended and each.expires_at > now
        )
        return next(running, None)

    def wallet(self, user_id: UserId) -> Wallet:
        return self.wallets[user_id, CURRENCY]


def _session_named(request: Request) -> str | None:
    match request:
        case Deduct() | OfflineAcceptance() | Cancel() | SignOut() | BalanceRequest() | Heartbeat():
            return request.session_id
        case _:
            return None
