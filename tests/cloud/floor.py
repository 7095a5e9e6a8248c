"""A small event in a real database, and appliances that sign as real ones do."""

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import make_url
from uuid_utils.compat import uuid7

from cloud.access.pins import hash_pin
from cloud.keys import KeyRing
from cloud.operations.till.opening import Arrived
from cloud.operations.till.pos import Answer, Desk, SignedReply, answer_batch
from cloud.store.database import Database, NotMigratedError, migrate
from cloud.store.locks import lock_devices
from cloud.store.records import await_tree
from cloud.store.tables import (
    audit_records,
    badges,
    credit_transactions,
    credit_wallets,
    device_certificates,
    devices,
    events,
    payments,
    policies,
    review_entries,
    staff,
    staff_assignments,
    staff_sessions,
    stalls,
    users,
)
from protocol.encoding import public_key_to_text, to_base64url
from protocol.ids import DeviceId, EventId, IdempotencyKey
from protocol.messages import (
    BalanceRequest,
    Cancel,
    Deduct,
    Heartbeat,
    JournalPosition,
    OfflineAcceptance,
    Outcome,
    Request,
    SaleLine,
    SignIn,
    SignOut,
    encode,
)
from protocol.money import Money
from protocol.policy import Badge, OfflineRules, Policy, Product, sign_badge, sign_policy
from protocol.sealing import seal_pin
from protocol.signing import PrivateKey, Profile, sign
from protocol.wallet_qr import WalletToken, issue

EVENT = EventId("summer-fair")
CURRENCY = "EUR"
PIN = "4711"
START = datetime(2026, 6, 20, 18, 0, tzinfo=UTC)


def eur(cents: int) -> Money:
    return Money(cents, CURRENCY)


@dataclass
class Guest:
    """An attendee and their wallet."""

    user_id: str
    payer_id: str


@dataclass
class Till:
    """An appliance's own key, session and journal numbers: makes requests and signs them."""

    device_id: DeviceId
    stall_id: str
    private: PrivateKey = field(repr=False)
    thumbprint: str
    session_id: str
    now: Any
    entry: int = 0
    epoch: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def sign(self, request: Request) -> bytes:
        return sign(Profile.REQUEST, encode(request), self.private, self.thumbprint).encode()

    def deduct(self, qr: str, cents: int = 350, **changes: Any) -> Deduct:
        return Deduct(**(self._sale(qr, cents) | changes))

    def accept_offline(self, sale: Deduct, **changes: Any) -> OfflineAcceptance:
        """The same sale under the same key, accepted without the cloud."""
        recorded: dict[str, Any] = {name: getattr(sale, name) for name in Deduct.__struct_fields__}
        recorded["accepted_at_ms"] = sale.scanned_at_ms + 4000
        return OfflineAcceptance(**(recorded | changes))

    def cancel(self, sale: Deduct | OfflineAcceptance, **changes: Any) -> Cancel:
        recorded: dict[str, Any] = {
            name: getattr(sale, name) for name in Cancel.__struct_fields__ if name != "sent_at_ms"
        }
        recorded["sent_at_ms"] = self.now_ms()
        return Cancel(**(recorded | changes))

    def balance(self, qr: str) -> BalanceRequest:
        return BalanceRequest(session_id=self.session_id, wallet_qr=qr, **self._envelope())

    def sign_out(self) -> SignOut:
        return SignOut(session_id=self.session_id, **self._envelope())

    def heartbeat(self, **changes: Any) -> Heartbeat:
        said: dict[str, Any] = {
            "policy_version": 1,
            "firmware": "0.1.0",
            "queue": 0,
            "printer": "ok",
        }
        return Heartbeat(**(self._envelope() | said | changes))

    def sign_in(self, floor: "Floor", pin: str = PIN, **changes: Any) -> SignIn:
        envelope = self._envelope() | changes
        sealed = seal_pin(
            pin,
            floor.keys.pin.private.public_key(),
            self.device_id,
            IdempotencyKey(envelope["key"]),
        )
        said: dict[str, Any] = {"badge": floor.badge_qr, "sealed_pin": sealed}
        return SignIn(**(said | envelope))

    def now_ms(self) -> int:
        return round(self.now().timestamp() * 1000)

    def position(self) -> JournalPosition:
        return JournalPosition(self.epoch, self.entry, self.entry, "A" * 43)

    def _envelope(self) -> dict[str, Any]:
        self.entry += 1
        return {
            "device_id": self.device_id,
            "key": secrets.token_urlsafe(16),
            "journal": self.position(),
            "sent_at_ms": self.now_ms(),
        }

    def _sale(self, qr: str, cents: int) -> dict[str, Any]:
        return self._envelope() | {
            "session_id": self.session_id,
            "event_id": EVENT,
            "stall_id": self.stall_id,
            "policy_version": 1,
            "entry": self.entry,
            "correlation_id": secrets.token_urlsafe(16),
            "amount": eur(cents),
            "lines": (SaleLine(1, 1, cents),) if cents > 0 else (),
            "wallet_qr": qr,
            "scanned_at_ms": self.now_ms(),
        }


class Floor:
    """An event, its stall `bar`, the staff member `mia` with a badge; appliances as asked for."""

    def __init__(self, url: str, keys_folder: Path, *, starts_at: datetime | None = START) -> None:
        """`starts_at`: the clock stands there until a test moves it; None: the real clock."""
        lay_tables(url)
        self.url = url
        self.database = Database(url)
        self.keys = KeyRing(keys_folder)
        self.time = starts_at
        self.desk = Desk(self.database, self.keys, self.now)
        self.badge_id = "mias-badge-01"
        self._enter_event()

    def close(self) -> None:
        self.database.close()

    def now(self) -> datetime:
        return datetime.now(UTC) if self.time is None else self.time  # noqa: TID251  # the edge

    def pass_time(self, **duration: float) -> None:
        assert self.time is not None, "the real clock passes by itself"
        self.time += timedelta(**duration)

    # What stands at the event.

    def add_till(
        self,
        device_id: str = "till-1",
        *,
        private: PrivateKey | None = None,
        thumbprint: str | None = None,
        stall_id: str = "bar",
        offline: OfflineRules | None = None,
    ) -> Till:
        """An active appliance at a stall, with a certificate, a policy and `mia` signed in."""
        private = private or ec.generate_private_key(ec.SECP256R1())
        thumbprint = thumbprint or to_base64url(secrets.token_bytes(32))
        session_id, now = uuid7(), self.now()
        policy = self.policy(DeviceId(device_id), stall_id, 1, offline)
        with self.database.transaction() as connection:
            connection.execute(
                insert(devices).values(
                    device_id=device_id,
                    event_id=EVENT,
                    stall_id=stall_id,
                    policy_version=1,
                    created_at=now,
                )
            )
            connection.execute(
                insert(device_certificates).values(
                    thumbprint=thumbprint,
                    device_id=device_id,
                    spki=public_key_to_text(private.public_key()),
                    not_before=now - timedelta(days=1),
                    not_after=now + timedelta(days=90),
                )
            )
            connection.execute(
                insert(policies).values(
                    device_id=device_id,
                    version=1,
                    jws=policy,
                    issued_at=now,
                    # Longer than it says itself: no worker renews it under a test's feet.
                    expires_at=now + timedelta(days=60),
                )
            )
            connection.execute(
                insert(staff_sessions).values(
                    session_id=session_id,
                    staff_id="mia",
                    device_id=device_id,
                    event_id=EVENT,
                    stall_id=stall_id,
                    created_at=now,
                    expires_at=now + timedelta(hours=12),
                )
            )
        return Till(DeviceId(device_id), stall_id, private, thumbprint, str(session_id), self.now)

    def policy(
        self, device_id: DeviceId, stall_id: str, version: int, offline: OfflineRules | None
    ) -> str:
        now_ms = round(self.now().timestamp() * 1000)
        wallet_key = self.keys.wallet_for(EVENT)
        policy = Policy(
            version=version,
            device_id=device_id,
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + 3 * 24 * 3600 * 1000,
            event_id=EVENT,
            event_name="Summer fair",
            stall_id=stall_id,
            stall_name="Bar",
            currency=CURRENCY,
            products=(Product(1, "Lemonade", 350),),
            offline=offline or OfflineRules(allowed=True),
            wallet_keys=(wallet_key.named,),
            reply_keys=(self.keys.reply.named,),
            badge_keys=(self.keys.badge.named,),
            pin_key=self.keys.pin.named,
        )
        return sign_policy(policy, self.keys.policy.private, self.keys.policy.kid)

    def add_guest(self, balance_in_cents: int = 2000, *, paid: bool = False) -> Guest:
        """An attendee who topped up this much (0: never); `paid`: by a payment of theirs."""
        user_id, payer_id, now = uuid7(), secrets.token_urlsafe(9), self.now()
        with self.database.transaction() as connection:
            connection.execute(
                insert(users).values(user_id=user_id, payer_id=payer_id, created_at=now)
            )
            if balance_in_cents:
                connection.execute(
                    insert(credit_wallets).values(
                        user_id=user_id,
                        currency=CURRENCY,
                        balance_in_cents=balance_in_cents,
                        offline_frozen=False,
                        updated_at=now,
                    )
                )
                purchase_id, reference = uuid7(), secrets.token_hex(8)
                if paid:
                    connection.execute(
                        insert(payments).values(
                            id=uuid7(),
                            user_id=user_id,
                            amount_in_cents=balance_in_cents,
                            currency=CURRENCY,
                            provider="test",
                            provider_reference=reference,
                            state="succeeded",
                            idempotency_key=secrets.token_hex(8),
                            transaction_id=purchase_id,
                            created_at=now,
                            updated_at=now,
                        )
                    )
                await_tree(connection, transactions=[(str(user_id), str(purchase_id))])
                connection.execute(
                    insert(credit_transactions).values(
                        user_id=user_id,
                        id=purchase_id,
                        type="Purchase",
                        direction="in",
                        amount_in_cents=balance_in_cents,
                        currency=CURRENCY,
                        reference=reference,
                        idempotency_key=secrets.token_hex(8),
                        correlation_id=secrets.token_hex(8),
                        created_at=now,
                        created_by="system:test",
                    )
                )
        return Guest(str(user_id), payer_id)

    def qr(self, guest: Guest, **changes: Any) -> str:
        """A fresh wallet QR as the phone shows it, for this event."""
        now_s = int(self.now().timestamp())
        claims: dict[str, Any] = {
            "sub": guest.payer_id,
            "jti": secrets.token_urlsafe(9),
            "nonce": secrets.token_urlsafe(9),
            "iat": now_s,
            "exp": now_s + 90,
        }
        key = self.keys.wallet_for(EVENT)
        return issue(WalletToken(**(claims | changes)), key.private, key.kid)

    @property
    def badge_qr(self) -> str:
        badge = Badge(1, self.badge_id, "mia", EVENT)
        return sign_badge(badge, self.keys.badge.private, self.keys.badge.kid)

    def revoke(self, till: Till) -> None:
        """As an operator's revocation does it: under the appliance's lock."""
        with self.database.transaction() as connection:
            lock_devices(connection, [till.device_id])
            connection.execute(
                update(devices)
                .where(devices.c.device_id == till.device_id)
                .values(status="revoked", revoked_at=self.now())
            )

    # Asking the cloud, without the wire.

    def ask(self, till: Till, *requests: Request) -> list[Outcome]:
        """The answers to these requests, which all wait in one batch."""
        answers = self.answer(
            [Arrived(till.sign(each), till.device_id, self.now()) for each in requests]
        )
        outcomes: list[Outcome] = []
        for answer in answers:
            assert isinstance(answer, SignedReply), answer
            outcomes.append(answer.reply.outcome)
        return outcomes

    def ask_one(self, till: Till, request: Request) -> Any:
        [outcome] = self.ask(till, request)
        return outcome

    def answer(self, arrived: Sequence[Arrived]) -> list[Answer]:
        return answer_batch(self.desk, arrived)

    # Looking at what stands.

    def balance(self, guest: Guest) -> int:
        """The wallet's balance, having checked that it is the sum of its transactions."""
        with self.database.reading() as connection:
            stored = connection.execute(
                select(credit_wallets.c.balance_in_cents).where(
                    credit_wallets.c.user_id == UUID(guest.user_id)
                )
            ).scalar_one_or_none()
        total = sum(
            row.amount_in_cents if row.direction == "in" else -row.amount_in_cents
            for row in self.transactions(guest)
        )
        assert (stored or 0) == total, "the balance is not the sum of its transactions"
        return total

    def transactions(self, guest: Guest) -> list[Any]:
        with self.database.reading() as connection:
            return list(
                connection.execute(
                    select(credit_transactions)
                    .where(credit_transactions.c.user_id == UUID(guest.user_id))
                    .order_by(credit_transactions.c.id)
                )
            )

    def deducts(self, guest: Guest) -> list[Any]:
        return [row for row in self.transactions(guest) if row.type == "Deduct"]

    def audit(self, **wanted: Any) -> list[Any]:
        statement = select(audit_records).order_by(audit_records.c.id)
        for name, value in wanted.items():
            statement = statement.where(audit_records.c[name] == value)
        with self.database.reading() as connection:
            return list(connection.execute(statement))

    def reviews(self) -> list[Any]:
        with self.database.reading() as connection:
            return list(connection.execute(select(review_entries)))

    def _enter_event(self) -> None:
        now = self.now()
        pin_hash = _pin_hash()
        with self.database.transaction() as connection:
            connection.execute(
                insert(events).values(
                    event_id=EVENT,
                    name="Summer fair",
                    currency=CURRENCY,
                    sale_max_in_cents=20_000,
                    offline_rules=msgspec.to_builtins(OfflineRules(allowed=True)),
                    created_at=now,
                )
            )
            for stall_id, name in (("bar", "Bar"), ("grill", "Grill")):
                connection.execute(
                    insert(stalls).values(event_id=EVENT, stall_id=stall_id, name=name)
                )
            connection.execute(
                insert(staff).values(staff_id="mia", name="Mia", initials="MM", created_at=now)
            )
            connection.execute(
                insert(staff_assignments).values(
                    assignment_id=uuid7(), staff_id="mia", event_id=EVENT
                )
            )
            connection.execute(
                insert(badges).values(
                    badge_id=self.badge_id,
                    staff_id="mia",
                    event_id=EVENT,
                    pin_hash=pin_hash,
                    created_at=now,
                )
            )


def lay_tables(url: str) -> None:
    """Our tables, where they are not there yet: an SQLite file is copied from one made before."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_laid_out(), path)
        return
    database = Database(url)
    try:
        database.check_migrated()
    except NotMigratedError:
        migrate(url)
    finally:
        database.close()


@cache
def _laid_out() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="railtix-laid-out-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "cloud.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@cache
def _pin_hash() -> str:
    """Made once: argon2 is slow on purpose."""
    hashed = hash_pin(PIN)
    assert isinstance(hashed, str), hashed
    return hashed
