"""The facts as a batch goes on: each request sees those before it."""

from msgspec.structs import replace

from cloud.ledger.decisions import Decision, Reversed, Seen
from cloud.ledger.facts import (
    Appliance,
    Approval,
    ApprovalState,
    AskedApproval,
    DeviceKey,
    EventTerms,
    Facts,
    JournalEntry,
    KnownKey,
    PolicyTerms,
    Presented,
    RefundTerms,
    StaffSession,
    ToldInPassing,
)
from cloud.ledger.journals import Placed
from cloud.ledger.postings import Posting, Wallet, post
from protocol.ids import (
    DeviceId,
    EventId,
    IdempotencyKey,
    PayerId,
    SessionId,
    TokenId,
    UserId,
)
from protocol.messages import Reason


class Book:
    """The facts of one batch and what its decisions so far have changed of them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._appliances = dict(facts.appliances)
        self._entries = dict(facts.entries)
        self._keys = dict(facts.keys)
        self._reviews = dict(facts.reviews)
        self._wallets = dict(facts.wallets)
        self._spent = set(facts.spent)
        self._ended: set[SessionId] = set()
        self._approvals = dict(facts.refunds.approvals)
        self._waiting = set(facts.refunds.waiting)

    @property
    def wallets(self) -> dict[tuple[UserId, str], Wallet]:
        """Every wallet of the batch as it stands now."""
        return self._wallets

    def appliance(self, device_id: DeviceId) -> Appliance:
        return self._appliances[device_id]

    def why_shut_out(self, presented: Presented) -> Reason | None:
        """Whether the appliance, or the certificate it signed with, was revoked, or its journal is
        not believed."""
        return self.appliance(presented.request.device).why_shut_out(
            certificate_revoked=presented.thumbprint in self._facts.revoked_certificates
        )

    def others_at(self, entry: JournalEntry, key: IdempotencyKey) -> frozenset[IdempotencyKey]:
        """The other keys that are said to stand at this entry."""
        return self._entries.get(entry, frozenset()) - {key}

    def told(self, presented: Presented) -> ToldInPassing:
        """What this heartbeat's answer brings besides."""
        return self._facts.told.get(presented.request.idempotency_key, ToldInPassing())

    def quarantine(self, device_id: DeviceId) -> None:
        """From here on the batch does not believe this appliance."""
        self._appliances[device_id] = replace(self._appliances[device_id], quarantined=True)

    def known(self, key: DeviceKey) -> KnownKey | None:
        return self._keys.get(key)

    def review_of(self, key: DeviceKey) -> str | None:
        return self._reviews.get(key)

    def session(self, session_id: SessionId) -> StaffSession | None:
        return self._facts.sessions.get(session_id)

    def has_ended(self, session: StaffSession) -> bool:
        return session.ended or session.session_id in self._ended

    def event(self, event_id: EventId) -> EventTerms:
        return self._facts.events[event_id]

    def policy(self, device_id: DeviceId, version: int) -> PolicyTerms | None:
        return self._facts.policies.get((device_id, version))

    def payer(self, payer_id: PayerId) -> UserId | None:
        return self._facts.payers.get(payer_id)

    def wallet(self, user_id: UserId, currency: str) -> Wallet:
        """A wallet that was never topped up is an empty one."""
        found = self._wallets.get((user_id, currency))
        return Wallet.empty(user_id, currency) if found is None else found

    def is_spent(self, user_id: UserId, token_id: TokenId) -> bool:
        return (user_id, token_id) in self._spent

    def refund_terms(self, event_id: EventId) -> RefundTerms:
        return self._facts.refunds.terms[event_id]

    def approval(self, approval_id: str) -> Approval | None:
        return self._approvals.get(approval_id)

    def is_waiting(self, asked: AskedApproval) -> bool:
        return asked in self._waiting

    def is_under_review(self, key: DeviceKey) -> bool:
        """Whether a person has this sale before them; what this batch sends there is."""
        return key in self._facts.refunds.under_review or (
            key in self._reviews and key not in self._facts.reviews
        )

    def enter(self, presented: Presented, decision: Decision) -> None:
        """Let the requests that follow see this decision."""
        request = presented.request
        key = (request.device, request.idempotency_key)
        if isinstance(request, Placed) and decision.key is not None:
            entry = (request.device, request.journal.epoch, request.entry)
            self._entries[entry] = self._entries.get(entry, frozenset()) | {key[1]}
        if decision.seen is not None and decision.seen.journal is not None:
            self._hear(request.device, decision.seen)
        if decision.key is not None:
            self._keys[key] = decision.key
        if decision.posting is not None:
            self._post(decision.posting, freezes=decision.freezes)
        if decision.spent is not None:
            self._spent.add((decision.spent.user_id, decision.spent.token_id))
        if decision.review is not None:
            self._reviews[key] = decision.review.review_id
        if decision.ended is not None:
            self._ended.add(decision.ended)
        if decision.reversed is not None:
            self._reverse(decision.reversed)
        if decision.approval_used is not None:
            used = self._approvals[decision.approval_used]
            self._approvals[used.approval_id] = replace(used, state=ApprovalState.USED)
        if decision.wanted is not None:
            wanted = decision.wanted
            self._waiting.add(
                AskedApproval(
                    wanted.sale.transaction_id, wanted.amount.amount_in_cents, wanted.asked_by
                )
            )

    def _hear(self, device_id: DeviceId, seen: Seen) -> None:
        self._appliances[device_id] = replace(
            self._appliances[device_id],
            journal=seen.journal,
            journal_left=seen.journal_left,
            settled_by=seen.settled_by,
            journal_anew=False,
        )

    def _post(self, posting: Posting, *, freezes: bool) -> None:
        currency = posting.amount.currency
        after = post(self.wallet(posting.user_id, currency), posting)
        if freezes:
            after = replace(after, offline_frozen=True)
        self._wallets[posting.user_id, currency] = after

    def _reverse(self, reversed_sale: Reversed) -> None:
        known = self._keys[reversed_sale.key]
        assert known.sale is not None, "what is given back was posted"
        left = replace(known.sale, left_in_cents=reversed_sale.left_in_cents)
        self._keys[reversed_sale.key] = replace(known, sale=left)
