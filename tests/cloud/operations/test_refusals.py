"""Every refusal by its name, audited, and with nothing posted."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import delete, update
from uuid_utils.compat import uuid7

from cloud.operations.till.opening import Arrived, Unverified, UnverifiedReason
from cloud.operations.till.pos import SignedReply
from cloud.store.tables import (
    device_certificates,
    devices,
    staff_assignments,
    staff_sessions,
)
from protocol.ids import EventId
from protocol.messages import (
    Approved,
    BalanceShown,
    Cancelled,
    Declined,
    DeniedChanges,
    HeartbeatAnswered,
    PostedOffline,
    Reason,
    SaleLine,
    SignedOut,
    UnderReview,
)
from protocol.money import Money
from protocol.policy import OfflineRules
from protocol.signing import SIGNED_BYTES_MAX, Profile, sign
from protocol.wallet_qr import WalletToken, issue
from tests.cloud.floor import Floor, Guest, Till, eur


def refuse(floor: Floor, till: Till, guest: Guest, reason: Reason, **changes: Any) -> None:
    """A deduct with these changes is declined by this name, audited, and posts nothing."""
    qr = changes.pop("wallet_qr", None) or floor.qr(guest)
    sale = till.deduct(qr, changes.pop("cents", 350), **changes)
    before = floor.transactions(guest)
    answer = floor.ask_one(till, sale)
    assert isinstance(answer, Declined)
    assert answer.reason is reason
    assert floor.transactions(guest) == before
    [record] = floor.audit(subject=sale.key)
    assert (record.action, record.outcome, record.device_id) == (
        "deduct",
        reason.value,
        till.device_id,
    )


def test_amounts_out_of_bounds_are_refused(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(50_000)
    refuse(floor, till, guest, Reason.AMOUNT_NOT_POSITIVE, cents=0)
    refuse(floor, till, guest, Reason.AMOUNT_NOT_POSITIVE, cents=-350)
    refuse(floor, till, guest, Reason.AMOUNT_OVER_LIMIT, cents=20_001)
    refuse(floor, till, guest, Reason.WRONG_CURRENCY, amount=Money(350, "CHF"))
    lines = (SaleLine(1, 2, 350),)
    refuse(floor, till, guest, Reason.LINES_DO_NOT_ADD_UP, lines=lines)


def test_a_wallet_qr_is_refused_by_what_is_wrong_with_it(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    now_s = int(floor.now().timestamp())
    expired = floor.qr(guest, iat=now_s - 131, exp=now_s - 41)
    early = floor.qr(guest, iat=now_s + 31, exp=now_s + 121)
    refuse(floor, till, guest, Reason.TOKEN_EXPIRED, wallet_qr=expired)
    refuse(floor, till, guest, Reason.TOKEN_FROM_THE_FUTURE, wallet_qr=early)
    refuse(floor, till, guest, Reason.NOT_A_WALLET_QR, wallet_qr="WIFI:T:WPA;S:fair;P:x;;")
    refuse(floor, till, guest, Reason.UNKNOWN_PAYER, wallet_qr=floor.qr(Guest("", "nobody-12345")))
    header, payload, signature = floor.qr(guest).split(".")
    mangled = f"{header}.{payload}.{'A' * len(signature)}"
    refuse(floor, till, guest, Reason.TOKEN_BAD_SIGNATURE, wallet_qr=mangled)
    other_key = ec.generate_private_key(ec.SECP256R1())
    token = WalletToken(guest.payer_id, "x" * 12, "y" * 12, now_s, now_s + 90)
    foreign = issue(token, other_key, "zzz")
    refuse(floor, till, guest, Reason.TOKEN_UNKNOWN_KEY, wallet_qr=foreign)
    other_event = floor.keys.wallet_for(EventId("winter-fair"))
    elsewhere = issue(token, other_event.private, other_event.kid)
    refuse(floor, till, guest, Reason.TOKEN_OTHER_EVENT, wallet_qr=elsewhere)


def test_a_token_counts_ten_seconds_past_its_expiry_by_the_clouds_clock(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    qr = floor.qr(guest)
    floor.pass_time(seconds=100)
    assert isinstance(floor.ask_one(till, till.deduct(qr)), Approved)


def test_a_second_stall_scanning_the_same_qr_is_declined(floor: Floor) -> None:
    guest, qr_at = floor.add_guest(), []
    bar, grill = floor.add_till("till-1"), floor.add_till("till-2", stall_id="grill")
    qr = floor.qr(guest)
    qr_at = [floor.ask_one(each, each.deduct(qr)) for each in (bar, grill)]
    assert isinstance(qr_at[0], Approved)
    assert qr_at[1] == Declined(Reason.TOKEN_ALREADY_USED)
    assert floor.ask_one(grill, grill.balance(qr)) == Declined(Reason.TOKEN_ALREADY_USED)


def test_a_refused_qr_is_not_used_up(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(500)
    qr = floor.qr(guest)
    refuse(floor, till, guest, Reason.INSUFFICIENT_FUNDS, cents=900, wallet_qr=qr)
    assert isinstance(floor.ask_one(till, till.deduct(qr, 500)), Approved)


def test_a_revoked_appliance_posts_nothing_new(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    approved = floor.ask_one(till, sale)
    unseen = till.deduct(floor.qr(guest))
    floor.revoke(till)
    refuse(floor, till, guest, Reason.DEVICE_REVOKED)
    assert floor.ask_one(till, sale) == approved
    cancelled, uploaded = floor.ask(till, till.cancel(sale), till.accept_offline(unseen))
    assert isinstance(cancelled, UnderReview)
    assert isinstance(uploaded, UnderReview)
    assert floor.ask(till, till.cancel(sale), till.cancel(unseen)) == [cancelled, uploaded]
    assert {entry.reason for entry in floor.reviews()} == {"device_revoked"}
    assert floor.ask_one(till, till.heartbeat()) == Declined(Reason.DEVICE_REVOKED)
    assert floor.ask_one(till, till.balance(floor.qr(guest))) == Declined(Reason.DEVICE_REVOKED)
    assert len(floor.transactions(guest)) == 2


def test_a_revoked_certificate_counts_as_a_revoked_appliance(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    floor.ask(till, till.heartbeat())  # the key is remembered by now
    with floor.database.transaction() as connection:
        connection.execute(update(device_certificates).values(revoked_at=floor.now()))
    refuse(floor, till, guest, Reason.DEVICE_REVOKED)


def test_a_session_that_ended_expired_or_is_anothers_sells_nothing(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest()
    refuse(floor, till, guest, Reason.SESSION_UNKNOWN, session_id=other.session_id)
    refuse(floor, till, guest, Reason.SESSION_UNKNOWN, session_id=str(uuid7()))
    refuse(floor, till, guest, Reason.SESSION_UNKNOWN, session_id="not-a-session-at-all")
    assert floor.ask_one(till, till.sign_out()) == SignedOut(till.session_id)
    refuse(floor, till, guest, Reason.SESSION_ENDED)
    assert floor.ask_one(till, till.sign_out()) == SignedOut(till.session_id)
    floor.pass_time(hours=12)
    refuse(floor, other, guest, Reason.SESSION_EXPIRED)


def test_a_sign_out_ends_the_sales_behind_it_in_the_same_batch(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    before, after = till.deduct(floor.qr(guest)), till.deduct(floor.qr(guest))
    answers = floor.ask(till, before, till.sign_out(), after)
    assert isinstance(answers[0], Approved)
    assert answers[2] == Declined(Reason.SESSION_ENDED)


def test_nobody_signs_out_anothers_session(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    stolen = msgspec.structs.replace(till.sign_out(), session_id=other.session_id)
    assert floor.ask_one(till, stolen) == Declined(Reason.SESSION_UNKNOWN)
    assert isinstance(floor.ask_one(other, other.deduct(floor.qr(floor.add_guest()))), Approved)


def test_staff_who_are_not_assigned_any_more_sell_nothing(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    with floor.database.transaction() as connection:
        connection.execute(update(staff_assignments).values(stall_id="grill"))
    refuse(floor, till, guest, Reason.STAFF_NOT_ASSIGNED)
    with floor.database.transaction() as connection:
        connection.execute(delete(staff_assignments))
    refuse(floor, till, guest, Reason.STAFF_NOT_ASSIGNED)


def test_an_appliance_that_was_moved_sells_nothing_under_the_old_session(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    refuse(floor, till, guest, Reason.DEVICE_ELSEWHERE, stall_id="grill")
    with floor.database.transaction() as connection:
        connection.execute(update(devices).values(stall_id="grill"))
    refuse(floor, till, guest, Reason.DEVICE_ELSEWHERE)
    refuse(floor, till, guest, Reason.DEVICE_ELSEWHERE, stall_id="grill")


def test_a_policy_has_to_be_known_and_current(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    refuse(floor, till, guest, Reason.POLICY_UNKNOWN, policy_version=2)
    refuse(floor, till, guest, Reason.POLICY_UNKNOWN, policy_version=0)
    with floor.database.transaction() as connection:
        connection.execute(
            update(staff_sessions).values(expires_at=floor.now() + timedelta(days=9))
        )
    floor.pass_time(days=3, seconds=1)
    refuse(floor, till, guest, Reason.POLICY_EXPIRED)


def test_what_happened_since_refuses_no_offline_sale_and_no_cancel(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(2000)
    approved, offline = till.deduct(floor.qr(guest)), till.deduct(floor.qr(guest))
    floor.ask(till, approved)
    floor.ask(till, till.sign_out())
    with floor.database.transaction() as connection:
        connection.execute(update(devices).values(stall_id="grill"))
        connection.execute(delete(staff_assignments))
    floor.pass_time(hours=13)
    assert isinstance(floor.ask_one(till, till.accept_offline(offline)), PostedOffline)
    assert floor.ask_one(till, till.cancel(approved)) == Cancelled(eur(350))
    assert floor.balance(guest) == 1650


def review(floor: Floor, till: Till, reason: str, **changes: Any) -> None:
    """An offline acceptance with these changes goes to the review list for this reason."""
    qr = changes.pop("wallet_qr", None) or floor.qr(floor.add_guest())
    upload = till.accept_offline(till.deduct(qr, changes.pop("cents", 350)), **changes)
    answer = floor.ask_one(till, upload)
    assert isinstance(answer, UnderReview)
    [entry] = [each for each in floor.reviews() if each.key == upload.key]
    assert (entry.reason, str(entry.review_id)) == (reason, answer.review_id)
    assert floor.audit(subject=upload.key)[0].outcome == "under_review"


def test_an_offline_sale_against_its_own_policy_goes_to_review(floor: Floor) -> None:
    till = floor.add_till("till-1")
    review(floor, till, "amount_over_limit", cents=1001)
    review(floor, till, "policy_unknown", policy_version=7)
    review(floor, till, "session_unknown", session_id=str(uuid7()))
    review(floor, till, "device_elsewhere", stall_id="grill")
    review(floor, till, "wrong_currency", amount=Money(350, "CHF"))
    review(floor, till, "not_a_wallet_qr", wallet_qr="https://example.org/")
    review(floor, till, "unknown_payer", wallet_qr=floor.qr(Guest("", "nobody-12345")))
    review(floor, till, "token_expired", scanned_at_ms=till.now_ms() + 200_000)
    review(floor, till, "upload_too_old", accepted_at_ms=till.now_ms() - 24 * 3_600_000 - 1)
    strict = floor.add_till("till-2", offline=OfflineRules(allowed=False))
    review(floor, strict, "offline_not_allowed")


def test_an_offline_sale_flags_and_burns_its_qr(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest()
    qr = floor.qr(guest)
    floor.ask(till, till.accept_offline(till.deduct(qr)))
    assert floor.ask_one(other, other.deduct(qr)) == Declined(Reason.TOKEN_ALREADY_USED)
    again = floor.ask_one(other, other.accept_offline(other.deduct(qr)))
    assert isinstance(again, PostedOffline)
    assert again.token_seen_before
    assert floor.balance(guest) == 1300


def test_a_balance_consumes_nothing_and_is_audited(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest(1234)
    qr = floor.qr(guest)
    assert floor.ask_one(till, till.balance(qr)) == BalanceShown(eur(1234))
    [record] = floor.audit(action="balance")
    assert (record.outcome, record.actor, record.user_id) == (
        "balance_shown",
        "staff:mia",
        UUID(guest.user_id),
    )
    assert record.request_hash is not None
    assert isinstance(floor.ask_one(till, till.deduct(qr)), Approved)


def test_a_heartbeat_acknowledges_a_policy_and_tells_where_the_journal_stands(
    floor: Floor,
) -> None:
    till = floor.add_till()
    answer = floor.ask_one(till, till.heartbeat(printer="paper\x00 low"))
    nobody = DeniedChanges(1, is_whole=True, added=(), removed=(), more=False)
    assert answer == HeartbeatAnswered(till.now_ms(), 1, denied=nobody)
    with floor.database.reading() as connection:
        row = connection.execute(devices.select()).one()
    assert (row.policy_acked, row.journal_last, row.printer) == (1, 1, "paper low")
    floor.ask(till, till.heartbeat(policy_version=9))
    floor.pass_time(seconds=1)
    shorter = msgspec.structs.replace(till.position(), last=0, settled_below=0)
    floor.ask(till, till.heartbeat(journal=shorter))
    flags = [record.detail for record in floor.audit(action="heartbeat")]
    assert flags[0] is None
    assert flags[2] == {"flags": ["journal_behind"]}
    with floor.database.reading() as connection:
        row = connection.execute(devices.select()).one()
    assert (row.policy_acked, row.journal_last, row.quarantined_at) == (1, 2, None)


def unverified(floor: Floor, arrived: Arrived, reason: UnverifiedReason) -> None:
    """Gets no reply; the audit names the reason."""
    known = len(floor.audit(action="request_refused"))
    [answer] = floor.answer([arrived])
    assert isinstance(answer, Unverified)
    assert answer.reason is reason
    records = floor.audit(action="request_refused")
    assert len(records) == known + 1
    assert reason.value in {record.outcome for record in records}


def test_what_no_appliance_of_ours_signed_gets_no_reply_and_a_record(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    token, now = till.sign(sale), floor.now()
    forged = sign(Profile.REQUEST, token.split(b".")[1], other.private, till.thumbprint).encode()
    stranger = msgspec.structs.replace(till.heartbeat(), key="k" * 22)
    wrong = UnverifiedReason
    unverified(floor, Arrived(token, other.device_id, now), wrong.ANOTHERS_TOPIC)
    unverified(floor, Arrived(other.sign(sale), None, now), wrong.ANOTHERS_KEY)
    unverified(floor, Arrived(other.sign(sale), till.device_id, now), wrong.ANOTHERS_TOPIC)
    unverified(floor, Arrived(forged, till.device_id, now), wrong.BAD_SIGNATURE)
    unverified(floor, Arrived(b"no token", till.device_id, now), wrong.NOT_A_TOKEN)
    unverified(floor, Arrived(b"x" * (SIGNED_BYTES_MAX + 1), till.device_id, now), wrong.TOO_LONG)
    late = now + timedelta(days=91)
    unverified(floor, Arrived(token, till.device_id, late), wrong.CERTIFICATE_EXPIRED)
    till.thumbprint = "N" * 43
    unverified(floor, Arrived(till.sign(stranger), till.device_id, now), wrong.UNKNOWN_CERTIFICATE)
    assert floor.deducts(guest) == []


@pytest.mark.parametrize(
    ("version", "reason"), [(2, Reason.UNSUPPORTED_VERSION), (1, Reason.MALFORMED)]
)
def test_what_cannot_be_read_is_told_so_by_name(floor: Floor, version: int, reason: Reason) -> None:
    till = floor.add_till()
    payload = msgspec.json.encode(
        {"v": version, "kind": "teleport", "device_id": "till-1", "key": "k" * 22}
    )
    token = sign(Profile.REQUEST, payload, till.private, till.thumbprint).encode()
    [answer] = floor.answer([Arrived(token, till.device_id, floor.now())])
    assert isinstance(answer, SignedReply)
    assert answer.reply.outcome == Declined(reason)
    assert (answer.reply.key, answer.reply.answers) == ("k" * 22, "teleport")
    assert [record.outcome for record in floor.audit(subject="k" * 22)] == [reason.value]


def test_a_poisonous_request_spoils_no_other_in_its_batch(floor: Floor) -> None:
    """One that nests deeper than any reader goes, though an appliance of ours signed it."""
    till, guest = floor.add_till(), floor.add_guest()
    sale = till.deduct(floor.qr(guest))
    payload = b'{"v":1,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    poison = sign(Profile.REQUEST, payload, till.private, till.thumbprint).encode()
    refused, sold = floor.answer(
        [Arrived(each, till.device_id, floor.now()) for each in (poison, till.sign(sale))]
    )
    assert isinstance(refused, Unverified)
    assert refused.reason is UnverifiedReason.MALFORMED
    assert isinstance(sold, SignedReply)
    assert isinstance(sold.reply.outcome, Approved)


def test_one_bad_request_spoils_no_other_in_its_batch(floor: Floor) -> None:
    till, other = floor.add_till("till-1"), floor.add_till("till-2")
    guest = floor.add_guest()
    good, now = till.deduct(floor.qr(guest)), floor.now()
    answers = floor.answer(
        [
            Arrived(b"rubbish", till.device_id, now),
            Arrived(other.sign(good), other.device_id, now),
            Arrived(till.sign(good), till.device_id, now),
        ]
    )
    assert isinstance(answers[2], SignedReply)
    assert isinstance(answers[2].reply.outcome, Approved)
    assert [type(each) for each in answers[:2]] == [Unverified, Unverified]
