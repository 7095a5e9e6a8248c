"""Every outcome that the cloud signs: frozen, versioned, bounded."""

from typing import Annotated, Final

import msgspec

from protocol.fields import Count, Jws, Key, Milliseconds, ShortId, Slug, Text, Version
from protocol.money import Cents, Currency, Money
from protocol.named_key import KEYS_MAX, NamedKey
from protocol.reasons import Reason
from protocol.requests import JournalKnown, Lines, SaleName

SHIFT_PRODUCTS_MAX: Final = 200
DENIED_CHANGES_MAX: Final = 200
"""Changes of the deny list in one reply; what is left follows in the next."""


class _Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="outcome"):
    pass


class SignedIn(_Outcome, frozen=True, tag="signed_in"):
    """The staff session: the signed reply that carries it is the proof, kept in the journal."""

    session_id: Key
    staff_id: Slug
    initials: Annotated[str, msgspec.Meta(max_length=8)]
    event_id: Slug
    stall_id: Slug
    expires_at_ms: Milliseconds


class SignedOut(_Outcome, frozen=True, tag="signed_out"):
    session_id: Key


class BalanceShown(_Outcome, frozen=True, tag="balance_shown"):
    balance: Money


class Approved(_Outcome, frozen=True, tag="approved", omit_defaults=True):
    """Deducted, exactly once. `code` is what a person reads out from the receipt."""

    transaction_id: str
    amount: Money
    balance: Money
    code: Text
    at_ms: Milliseconds
    payer_id: ShortId = ""
    """Whose QR it was, and which: what a cloud that lost this sale posts it by again."""
    token_id: ShortId = ""


class PostedOffline(_Outcome, frozen=True, tag="posted_offline", omit_defaults=True):
    """Posted in full after the fact. `short_in_cents`: what the wallet could not cover."""

    transaction_id: str
    amount: Money
    short_in_cents: Count
    token_seen_before: bool
    at_ms: Milliseconds
    payer_id: ShortId = ""
    token_id: ShortId = ""


class Cancelled(_Outcome, frozen=True, tag="cancelled"):
    """Nothing is deducted under this key, now or ever. `reversed`: what was given back."""

    reversed: Money | None


class UnderReview(_Outcome, frozen=True, tag="under_review"):
    """A person decides; the appliance has done its part."""

    review_id: str


class Declined(_Outcome, frozen=True, tag="declined"):
    """Nothing was deducted. `balance` where funds were short and staff may say so."""

    reason: Reason
    balance: Money | None = None


class Refunded(_Outcome, frozen=True, tag="refunded"):
    """Given back to the wallet, exactly once. `code` names the refund on its slip."""

    transaction_id: str
    amount: Money
    left_in_cents: Count
    """What of the sale may still be given back."""
    balance: Money
    code: Text
    at_ms: Milliseconds


class ApprovalGranted(_Outcome, frozen=True, tag="approval_granted"):
    """Counts once, for this appliance, this sale and this amount."""

    approval_id: Key
    amount: Money
    expires_at_ms: Milliseconds


class LastReceipt(_Outcome, frozen=True, tag="last_receipt"):
    """The newest sale of this appliance at its stall, as its receipt said; not who paid it."""

    sale: SaleName
    code: Text
    amount: Money
    left_in_cents: Count
    """What of it was not given back."""
    lines: Lines
    at_ms: Milliseconds
    balance: Money | None
    """After this sale, as its receipt said; None where it was taken offline."""


class ProductSold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    product: Annotated[int, msgspec.Meta(ge=1, le=9999)]
    quantity: Count
    total_in_cents: Count


class ShiftReport(_Outcome, frozen=True, tag="shift_report"):
    """One session at one appliance, as far as the cloud knows it."""

    currency: Currency
    since_ms: Milliseconds
    sales: Count
    sales_in_cents: Count
    offline: Count
    """How many of the sales were taken offline."""
    offline_in_cents: Count
    refunds: Count
    """What was given back at this appliance in this session, cancelled sales included."""
    refunds_in_cents: Count
    net_in_cents: Cents
    products: Annotated[tuple[ProductSold, ...], msgspec.Meta(max_length=SHIFT_PRODUCTS_MAX)]
    """Of the sales that were not given back whole; those with the most money, by number."""


class Resend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cloud came back from a backup: say again what it may have lost."""

    restore_id: Key
    from_entry: Count
    """What is settled before this entry of the journal was in the backup."""


class DeniedChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The deny list: payers that no till may take offline, as changes since what it holds."""

    version: Count
    """What the till holds once it has made these changes, to be said in its next heartbeat."""
    is_whole: bool
    """Begin anew: what was denied before and is not added here is denied no more."""
    added: Annotated[tuple[ShortId, ...], msgspec.Meta(max_length=DENIED_CHANGES_MAX)]
    removed: Annotated[tuple[ShortId, ...], msgspec.Meta(max_length=DENIED_CHANGES_MAX)]
    more: bool
    """There are further changes: ask again at once. The list is fresh only without."""


class HeartbeatAnswered(_Outcome, frozen=True, tag="heartbeat_answered", omit_defaults=True):
    cloud_time_ms: Milliseconds
    policy_version: Version
    """The newest policy for this appliance: behind it, wait for the retained message."""
    checkpoint: Jws | None = None
    """The audit log's newest (`checkpoint.Checkpoint`), so that it leaves the cloud's hands."""
    resend: Resend | None = None
    denied: DeniedChanges | None = None
    """None: nothing changed since `Heartbeat.denied_version`, so that list is fresh."""
    wallet_keys: Annotated[tuple[NamedKey, ...], msgspec.Meta(max_length=KEYS_MAX)] = ()
    """Keys of its event that sign wallet QRs and that the policy it acknowledged lacks."""
    journal_known: JournalKnown | None = None
    """Said where this heartbeat says less than the cloud knows: late, or from an older copy of
    the journal. The next heartbeat, sent at once, says it again, and so tells which."""
    session_over: Key | None = None
    """The heartbeat's `session_id`, where that session was ended: nothing is sold in it any more,
    online or alone."""


Outcome = (
    SignedIn
    | SignedOut
    | BalanceShown
    | Approved
    | PostedOffline
    | Cancelled
    | UnderReview
    | Declined
    | Refunded
    | ApprovalGranted
    | LastReceipt
    | ShiftReport
    | HeartbeatAnswered
)
