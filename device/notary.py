"""What leaves the appliance is signed here; what comes in is believed here, or refused by name."""

from collections import deque
from dataclasses import dataclass
from typing import Final, assert_never

from msgspec.structs import replace

from device.condition.wellbeing import Wellbeing
from device.credentials import Credentials
from device.till.contents import (
    AskForBalance,
    AskForHeartbeat,
    AskForLastReceipt,
    AskForShiftReport,
    AskToApprove,
    AskToCancel,
    AskToChoosePin,
    AskToDeduct,
    AskToPostAgain,
    AskToPostOffline,
    AskToRefund,
    AskToSignIn,
    AskToSignOut,
    Content,
    kind_of,
)
from device.till.entries import SaleOpened
from protocol.ids import IdempotencyKey
from protocol.messages import (
    Approve,
    BalanceRequest,
    Cancel,
    ChoosePin,
    Deduct,
    Heartbeat,
    JournalPosition,
    LastReceiptRequest,
    MessageRefusal,
    OfflineAcceptance,
    Refund,
    Reply,
    Request,
    Resubmission,
    SaleLine,
    ShiftReportRequest,
    SignedIn,
    SignIn,
    SignOut,
    decode_reply,
    encode,
)
from protocol.policy import Policy, PolicyRefusal, find, open_policy
from protocol.sealing import seal_pin
from protocol.signing import KeyFinder, Profile, SignatureRefusal, fingerprint, sign, verify
from protocol.updates import System

SIGNED_MAX: Final = 256


@dataclass(frozen=True)
class Circumstances:
    """What a request says beside what the till wants: the appliance as it is at this moment."""

    position: JournalPosition
    entry: int
    """The number of the sale's own journal entry; 0 for what is no sale."""
    wall_ms: int
    firmware: str
    printer: str
    wellbeing: Wellbeing | None = None
    """For a heartbeat; None: it says nothing of it, as older firmware does."""
    system: System | None = None
    """For a heartbeat; None: it runs no image of ours."""


@dataclass(frozen=True)
class SignedRequest:
    """A request as it goes out, and the hash by which the reply will name it."""

    kind: str
    key: str
    token: bytes
    request_hash: str


class Notary:
    """Signs with the appliance's key; believes replies by the policy it last trusted."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._find_policy_key = find(credentials.policy_keys)
        self._find_reply_key: KeyFinder = find(())
        self._policy: Policy | None = None
        self._signed: deque[str] = deque(maxlen=SIGNED_MAX)
        """Hashes of what was signed under this certificate last."""

    @property
    def thumbprint(self) -> str:
        return self._credentials.thumbprint

    def use(self, credentials: Credentials) -> None:
        """From now on sign with this key, under this certificate."""
        self._credentials = credentials
        self._find_policy_key = find(credentials.policy_keys)
        self._signed.clear()

    def has_signed(self, request_hash: str) -> bool:
        """Whether this was signed under the certificate in use, and not under the one before."""
        return request_hash in self._signed

    @property
    def policy(self) -> Policy | None:
        return self._policy

    def open_policy(self, token: bytes, version_min: int) -> Policy | PolicyRefusal:
        return open_policy(token, self._find_policy_key, self._credentials.device_id, version_min)

    def trust(self, policy: Policy) -> None:
        """From now on believe the replies this policy's keys have signed."""
        self._policy = policy
        self._find_reply_key = find(policy.reply_keys)

    def open_reply(self, token: bytes) -> Reply | str:
        """The reply, or the name of what is wrong with it."""
        verified = verify(Profile.REPLY, token, self._find_reply_key)
        if isinstance(verified, SignatureRefusal):
            return verified.value
        reply = decode_reply(verified.payload)
        if isinstance(reply, MessageRefusal):
            return reply.reason.value
        if reply.device_id != self._credentials.device_id:
            return "reply_for_another_appliance"
        return reply

    def open_session(self, token: str) -> SignedIn | None:
        """The session in a journaled reply, where its signature still counts."""
        reply = self.open_reply(token.encode())
        if isinstance(reply, Reply) and isinstance(reply.outcome, SignedIn):
            return reply.outcome
        return None

    def sign(self, content: Content, at: Circumstances) -> SignedRequest:
        request = self._compose(content, at)
        token = sign(
            Profile.REQUEST, encode(request), self._credentials.key, self._credentials.thumbprint
        ).encode()
        request_hash = fingerprint(token)
        self._signed.append(request_hash)
        return SignedRequest(kind_of(content), content.key, token, request_hash)

    def _compose(  # noqa: PLR0912 -- a branch a kind
        self, content: Content, at: Circumstances
    ) -> Request:
        device_id = self._credentials.device_id
        match content:
            case AskToSignIn(key=key, badge=badge, pin=pin):
                assert self._policy is not None, "nobody can sign in without a policy"
                pin_key = self._policy.pin_key.public_key
                return SignIn(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    badge=badge,
                    sealed_pin=seal_pin(pin.digits, pin_key, device_id, IdempotencyKey(key)),
                )
            case AskToChoosePin(key=key, badge=badge, pin=pin):
                assert self._policy is not None, "nobody chooses a PIN without a policy"
                pin_key = self._policy.pin_key.public_key
                return ChoosePin(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    badge=badge,
                    sealed_pin=seal_pin(pin.digits, pin_key, device_id, IdempotencyKey(key)),
                )
            case AskToSignOut(key=key, session_id=session_id):
                return SignOut(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=session_id,
                )
            case AskToDeduct(sale=sale):
                return Deduct(
                    device_id=device_id,
                    key=sale.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=sale.session_id,
                    event_id=sale.event_id,
                    stall_id=sale.stall_id,
                    policy_version=sale.policy_version,
                    entry=at.entry,
                    correlation_id=sale.correlation_id,
                    amount=sale.amount,
                    lines=_lines(sale),
                    wallet_qr=content.wallet_qr,
                    scanned_at_ms=content.scanned_at_ms,
                )
            case AskToCancel(sale=sale):
                return Cancel(
                    device_id=device_id,
                    key=sale.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=sale.session_id,
                    event_id=sale.event_id,
                    stall_id=sale.stall_id,
                    policy_version=sale.policy_version,
                    entry=at.entry,
                    correlation_id=sale.correlation_id,
                )
            case AskToPostOffline(sale=sale, acceptance=acceptance):
                return OfflineAcceptance(
                    device_id=device_id,
                    key=sale.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=sale.session_id,
                    event_id=sale.event_id,
                    stall_id=sale.stall_id,
                    policy_version=sale.policy_version,
                    entry=content.number or at.entry,
                    correlation_id=sale.correlation_id,
                    amount=sale.amount,
                    lines=_lines(sale),
                    wallet_qr=acceptance.wallet_qr,
                    scanned_at_ms=acceptance.scanned_at_ms,
                    accepted_at_ms=acceptance.accepted_at_ms,
                )
            case AskToPostAgain(sale=sale):
                return Resubmission(
                    device_id=device_id,
                    key=sale.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=sale.session_id,
                    event_id=sale.event_id,
                    stall_id=sale.stall_id,
                    policy_version=sale.policy_version,
                    entry=content.number,
                    correlation_id=sale.correlation_id,
                    lines=_lines(sale),
                    reply=content.token,
                )
            case AskToRefund(refund=refund):
                return Refund(
                    device_id=device_id,
                    key=refund.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=refund.session_id,
                    event_id=refund.event_id,
                    stall_id=refund.stall_id,
                    policy_version=refund.policy_version,
                    entry=at.entry,
                    correlation_id=refund.correlation_id,
                    sale=refund.sale,
                    amount=refund.amount,
                    approval_id=refund.approval_id,
                )
            case AskToApprove(key=key):
                assert self._policy is not None, "nobody refunds without a policy"
                pin_key = self._policy.pin_key.public_key
                return Approve(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=content.session_id,
                    event_id=content.event_id,
                    stall_id=content.stall_id,
                    sale=content.sale,
                    amount=content.amount,
                    badge=content.badge,
                    sealed_pin=seal_pin(
                        content.pin.digits, pin_key, device_id, IdempotencyKey(key)
                    ),
                )
            case AskForBalance(key=key, session_id=session_id, wallet_qr=wallet_qr):
                return BalanceRequest(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=session_id,
                    wallet_qr=wallet_qr,
                )
            case AskForLastReceipt(key=key, session_id=session_id):
                return LastReceiptRequest(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=session_id,
                )
            case AskForShiftReport(key=key, session_id=session_id):
                return ShiftReportRequest(
                    device_id=device_id,
                    key=key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    session_id=session_id,
                )
            case AskForHeartbeat():
                beat = Heartbeat(
                    device_id=device_id,
                    key=content.key,
                    journal=at.position,
                    sent_at_ms=at.wall_ms,
                    policy_version=content.policy_version,
                    firmware=at.firmware,
                    queue=content.queue,
                    resent_for=content.resent_for,
                    denied_version=content.denied_version,
                    journal_told=content.journal_told,
                    session_id=content.session_id,
                    printer=at.printer,
                )
                return _with_system(_with_wellbeing(beat, at.wellbeing), at.system)
            case _:
                assert_never(content)


def _with_wellbeing(beat: Heartbeat, wellbeing: Wellbeing | None) -> Heartbeat:
    if wellbeing is None:
        return beat
    return replace(
        beat,
        temperature_c=wellbeing.temperature_c,
        clock=wellbeing.clock,
        last_sale_ms=wellbeing.last_sale_ms,
        queue_in_cents=wellbeing.queue_in_cents,
        uptime_s=wellbeing.uptime_s,
    )


def _with_system(beat: Heartbeat, system: System | None) -> Heartbeat:
    return beat if system is None else replace(beat, system=system)


def _lines(sale: SaleOpened) -> tuple[SaleLine, ...]:
    return tuple(
        SaleLine(each.product, each.quantity, each.unit_price_in_cents) for each in sale.lines
    )
