"""The ledger's facts kept in dictionaries: what the store does, without a database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zlib import crc32

from msgspec.structs import replace

from cloud.ledger.decide import decide_batch
from cloud.ledger.decisions import Decision
from cloud.ledger.facts import (
    Appliance,
    Approval,
    ApprovalState,
    AskedApproval,
    BatchRequest,
    CheckedQr,
    DeviceKey,
    EventTerms,
    Facts,
    JournalEntry,
    KnownKey,
    PolicyTerms,
    Presented,
    RefundFacts,
    RefundTerms,
    Resending,
    StaffSession,
    ToldInPassing,
)
from cloud.ledger.postings import (
    Direction,
    Posting,
    TransactionType,
    Wallet,
    post,
    purchase,
)
from protocol.ids import (
    CorrelationId,
    DeviceId,
    EventId,
    IdempotencyKey,
    PayerId,
    SessionId,
    StaffId,
    StallId,
    TokenId,
    TransactionId,
    UserId,
)
from protocol.messages import (
    BalanceRequest,
    Cancel,
    Deduct,
    Heartbeat,
    JournalPosition,
    OfflineAcceptance,
    Refund,
    SaleContent,
    SaleName,
    SignOut,
)
from protocol.money import Money
from protocol.policy import OfflineRules
from protocol.wallet_qr import QrRefusal, WalletToken

EVENT, STALL, EUR = EventId("fair"), StallId("bar"), "EUR"
NOW = datetime(2026, 6, 20, 18, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
JOURNAL = JournalPosition("e" * 16, 9, 9, "A" * 43)


class World:
    """Appliances till-0 and till-1, users 0 to 2; `ask` decides a batch and keeps it."""

    def __init__(self, balance_in_cents: int = 1000, *, users: int = 3) -> None:
        self.revoked: set[DeviceId] = set()
        self.ended: set[SessionId] = set()
        self.keys: dict[DeviceKey, KnownKey] = {}
        self.reviews: dict[DeviceKey, str] = {}
        self.spent: set[tuple[UserId, TokenId]] = set()
        self.postings: list[Posting] = []
        self.wallets: dict[tuple[UserId, str], Wallet] = {}
        self.decided: list[tuple[Presented, Decision]] = []
        self.rules = OfflineRules(allowed=True)
        # What a test may change to be refused by its name.
        self.now = NOW
        self.qr: CheckedQr | QrRefusal | None = None
        self.place: tuple[EventId | None, StallId | None] = (EVENT, STALL)
        self.session_changes: dict[str, Any] = {}
        self.policy_stall = STALL
        self.sale_max_in_cents = 20_000
        self.revoked_certificates: frozenset[str] = frozenset()
        self.journal: JournalPosition | None = None
        self.resend: Resending | None = None
        self.quarantined: set[DeviceId] = set()
        self.journal_changes: dict[str, Any] = {}
        self.told: dict[IdempotencyKey, ToldInPassing] = {}
        self.entries: dict[JournalEntry, frozenset[IdempotencyKey]] = {}
        self.terms = RefundTerms(1800, 2000, None, None)
        self.approvals: dict[str, Approval] = {}
        self.waiting: set[AskedApproval] = set()
        self.under_review: set[DeviceKey] = set()
        for number in range(users):
            self._top_up(user(number), balance_in_cents)

    def ask(self, *requests: BatchRequest) -> list[Any]:
        """The answers to one batch."""
        batch = [self._present(each, len(self.decided) + at) for at, each in enumerate(requests)]
        facts = self._facts()
        decided = decide_batch(facts, batch)
        self._keep(batch, decided.decisions)
        self.wallets = dict(decided.wallets)
        return [decision.answer for decision in decided.decisions]

    def ask_one(self, request: BatchRequest) -> Any:
        [answer] = self.ask(request)
        return answer

    def balance(self, number: int) -> int:
        return self.wallets[user(number), EUR].balance.amount_in_cents

    def _keep(self, batch: Sequence[Presented], decisions: Sequence[Decision]) -> None:
        for presented, decision in zip(batch, decisions, strict=True):
            device_key = (presented.request.device, presented.request.idempotency_key)
            if decision.key is not None:
                self.keys[device_key] = decision.key
            if decision.posting is not None:
                self.postings.append(decision.posting)
            if decision.spent is not None:
                spent = (decision.spent.user_id, decision.spent.token_id)
                assert spent not in self.spent, "the table's primary key"
                self.spent.add(spent)
            if decision.review is not None:
                assert device_key not in self.reviews, "the table's unique constraint"
                self.reviews[device_key] = decision.review.review_id
            if decision.ended is not None:
                self.ended.add(decision.ended)
            if decision.quarantine is not None:
                self.quarantined.add(presented.request.device)
            if decision.reversed is not None:
                self._leave(decision.reversed.key, decision.reversed.left_in_cents)
            if decision.wanted is not None:
                wanted = decision.wanted
                sale_id, cents = wanted.sale.transaction_id, wanted.amount.amount_in_cents
                self.waiting.add(AskedApproval(sale_id, cents, wanted.asked_by))
            if decision.approval_used is not None:
                used = self.approvals[decision.approval_used]
                self.approvals[used.approval_id] = replace(used, state=ApprovalState.USED)
            self.decided.append((presented, decision))

    def _facts(self) -> Facts:
        tills = [till(0), till(1)]
        return Facts(
            appliances={
                each: Appliance(
                    each,
                    each in self.revoked,
                    *self.place,
                    1,
                    self.journal,
                    self.resend,
                    quarantined=each in self.quarantined,
                    **self.journal_changes,
                )
                for each in tills
            },
            revoked_certificates=self.revoked_certificates,
            keys=self.keys,
            reviews=self.reviews,
            sessions={
                session(each): replace(
                    StaffSession(
                        session_id=session(each),
                        device_id=each,
                        staff_id=StaffId("mia"),
                        event_id=EVENT,
                        stall_id=STALL,
                        expires_at=NOW + timedelta(hours=8),
                        ended=session(each) in self.ended,
                        staff_assigned=True,
                    ),
                    **self.session_changes,
                )
                for each in tills
            },
            events={EVENT: EventTerms(EVENT, EUR, 20_000)},
            policies={
                (each, 1): PolicyTerms(
                    expires_at_ms=(NOW_S + 3600) * 1000,
                    event_id=EVENT,
                    stall_id=self.policy_stall,
                    sale_max_in_cents=self.sale_max_in_cents,
                    offline=self.rules,
                )
                for each in tills
            },
            payers={PayerId(f"payer-{number:09}"): user(number) for number in range(3)},
            wallets=self.wallets,
            spent=frozenset(self.spent),
            entries=self.entries,
            told=self.told,
            refunds=RefundFacts(
                terms={EVENT: self.terms},
                approvals=self.approvals,
                waiting=frozenset(self.waiting),
                under_review=frozenset(self.under_review),
            ),
        )

    def _leave(self, key: DeviceKey, left_in_cents: int) -> None:
        known = self.keys[key]
        assert known.sale is not None, "what is given back was posted"
        self.keys[key] = replace(known, sale=replace(known.sale, left_in_cents=left_in_cents))

    def approve(self, sale: Deduct, cents: int, **changes: Any) -> str:
        """As a supervisor does at till-0; the approval's id."""
        known = self.keys[sale.device, sale.idempotency_key]
        assert known.sale is not None, "only what was sold is given back"
        approval_id = f"approval-{len(self.approvals)}".ljust(16, "-")
        granted = Approval(
            approval_id,
            ApprovalState.GRANTED,
            known.sale.transaction_id,
            Money(cents, EUR),
            till(0),
            "staff:sue",
            NOW + timedelta(minutes=5),
        )
        self.approvals[approval_id] = replace(granted, **changes)
        return approval_id

    def _present(self, request: BatchRequest, number: int) -> Presented:
        qr, digest = None, None
        if isinstance(request, BalanceRequest | Deduct | OfflineAcceptance):
            sub, jti = request.wallet_qr.split("/")
            qr = CheckedQr(WalletToken(sub, jti, "n" * 12, NOW_S, NOW_S + 90), EVENT)
            qr = self.qr or qr
        if isinstance(request, Deduct | OfflineAcceptance):
            jti = request.wallet_qr.split("/")[1]
            digest = SaleContent(EVENT, STALL, request.amount, request.lines, jti).digest()
        elif isinstance(request, Refund):
            digest = request.content().digest()
        return Presented(
            request=request,
            request_hash="H" * 43,
            thumbprint="T" * 43,
            arrived_at=self.now,
            fresh_id=str(UUID(int=number + 1)),
            qr=qr,
            digest=digest,
        )

    def _top_up(self, user_id: UserId, cents: int) -> None:
        self.wallets[user_id, EUR] = Wallet.empty(user_id, EUR)
        if cents == 0:
            return
        posting = purchase(
            transaction_id=TransactionId(f"top-up of {user_id}"),
            user_id=user_id,
            amount=Money(cents, EUR),
            provider_reference="ch_1",
            idempotency_key=IdempotencyKey("k" * 16),
            correlation_id=CorrelationId("c" * 16),
            at=NOW,
            created_by="system:test",
        )
        self.postings.append(posting)
        self.wallets[user_id, EUR] = post(self.wallets[user_id, EUR], posting)

    def refund(self, transaction_id: str, cents: int) -> None:
        """Reverse part of a sale through another door, and let the key's fact show it."""
        [sold] = [each for each in self.postings if each.id == transaction_id]
        posting = replace(
            sold,
            id=TransactionId(f"refund {len(self.postings)}"),
            type=TransactionType.REFUND,
            direction=Direction.IN,
            amount=Money(cents, EUR),
            reversal_of=sold.id,
        )
        self.postings.append(posting)
        wallet_key = (sold.user_id, EUR)
        self.wallets[wallet_key] = post(self.wallets[wallet_key], posting)
        for device_key, known in self.keys.items():
            if known.sale is not None and known.sale.transaction_id == transaction_id:
                left = known.sale.left_in_cents - cents
                self.keys[device_key] = replace(known, sale=replace(known.sale, left_in_cents=left))


def user(number: int) -> UserId:
    return UserId(f"user-{number}")


def till(number: int) -> DeviceId:
    return DeviceId(f"till-{number}")


def session(device_id: DeviceId) -> SessionId:
    return SessionId(f"session-of-{device_id}")


def deduct(
    *, key: str = "key-1", at: int = 0, payer: int = 0, jti: str = "token-1", cents: int = 350
) -> Deduct:
    device_id = till(at)
    return Deduct(
        device_id=device_id,
        key=key.ljust(16, "-"),
        journal=JOURNAL,
        sent_at_ms=NOW_S * 1000,
        session_id=session(device_id),
        event_id=EVENT,
        stall_id=STALL,
        policy_version=1,
        entry=entry_of(key),
        correlation_id="c" * 16,
        amount=Money(cents, EUR),
        wallet_qr=f"payer-{payer:09}/{jti.ljust(12, '-')}",
        scanned_at_ms=NOW_S * 1000,
    )


def entry_of(key: str) -> int:
    """Each key stands at an entry of its own, as in a journal."""
    return 10 + crc32(key.ljust(16, "-").encode())


def offline(sale: Deduct) -> OfflineAcceptance:
    recorded: dict[str, Any] = {name: getattr(sale, name) for name in Deduct.__struct_fields__}
    return OfflineAcceptance(accepted_at_ms=NOW_S * 1000, **recorded)


def cancel(sale: Deduct) -> Cancel:
    recorded: dict[str, Any] = {name: getattr(sale, name) for name in Cancel.__struct_fields__}
    return Cancel(**recorded)


def refund(
    sale: Deduct, cents: int | None = None, *, key: str = "refund-1", at: int = 0, **changes: Any
) -> Refund:
    said: dict[str, Any] = {
        "session_id": session(till(at)),
        "event_id": EVENT,
        "stall_id": STALL,
        "policy_version": 1,
        "entry": entry_of(key),
        "correlation_id": "c" * 16,
        "sale": SaleName(sale.device_id, sale.key),
        "amount": None if cents is None else Money(cents, EUR),
    }
    envelope: dict[str, Any] = _envelope(at) | {"key": key.ljust(16, "-")}
    return Refund(**(envelope | said | changes))


def balance(at: int = 0, jti: str = "token-1") -> BalanceRequest:
    return BalanceRequest(
        session_id=session(till(at)), wallet_qr=deduct(jti=jti).wallet_qr, **_envelope(at)
    )


def sign_out(at: int = 0, of: int = 0) -> SignOut:
    return SignOut(session_id=session(till(of)), **_envelope(at))


def heartbeat(at: int = 0, policy_version: int = 1) -> Heartbeat:
    said: dict[str, Any] = {"policy_version": policy_version, "firmware": "1", "queue": 0}
    return Heartbeat(printer="ok", **said, **_envelope(at))


def _envelope(at: int) -> dict[str, Any]:
    return {
        "device_id": till(at),
        "key": "key-other".ljust(16, "-"),
        "journal": JOURNAL,
        "sent_at_ms": NOW_S * 1000,
    }
