import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages
from protocol.encoding import public_key_to_text
from protocol.messages import (
    PAYLOAD_BYTES_MAX,
    ApprovalGranted,
    Approve,
    Approved,
    BalanceRequest,
    BalanceShown,
    Cancel,
    Cancelled,
    ChoosePin,
    Declined,
    Deduct,
    DeniedChanges,
    Heartbeat,
    HeartbeatAnswered,
    JournalKnown,
    JournalPosition,
    LastReceipt,
    LastReceiptRequest,
    MessageRefusal,
    OfflineAcceptance,
    Outcome,
    PostedOffline,
    ProductSold,
    Reason,
    Refund,
    Refunded,
    Reply,
    Request,
    Resend,
    SaleLine,
    SaleName,
    ShiftReport,
    ShiftReportRequest,
    SignedIn,
    SignedOut,
    SignIn,
    SignOut,
    UnderReview,
    decode_outcome,
    decode_reply,
    decode_request,
    encode,
    encode_outcome,
    kind_of,
)
from protocol.money import Money
from protocol.named_key import KEYS_MAX, NamedKey
from protocol.wallet_qr import QrRefusal

slugs = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
keys = st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True)
hashes = st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True)
counts = st.integers(0, 2**50)
versions = st.integers(0, 2**31 - 1)
money = st.builds(Money, st.integers(-(10**9), 10**9), st.sampled_from(["EUR", "CHF", "GBP"]))
texts = st.text(max_size=40)
tokens = st.from_regex(r"[A-Za-z0-9_.-]{1,400}", fullmatch=True)
lines = st.lists(
    st.builds(SaleLine, st.integers(1, 9999), st.integers(1, 999), st.integers(0, 10**8)),
    max_size=messages.LINES_MAX,
).map(tuple)
envelope: dict[str, Any] = {
    "device_id": slugs,
    "key": keys,
    "journal": st.builds(JournalPosition, keys, counts, counts, hashes),
    "sent_at_ms": counts,
}
place: dict[str, Any] = {
    "session_id": keys,
    "event_id": slugs,
    "stall_id": slugs,
    "policy_version": versions,
    "entry": counts,
    "correlation_id": keys,
}
sale = (
    envelope
    | place
    | {
        "amount": money,
        "lines": lines,
        "wallet_qr": tokens,
        "scanned_at_ms": counts,
    }
)
sale_names = st.builds(SaleName, slugs, keys)
refund: dict[str, Any] = {"sale": sale_names, "amount": st.none() | money}
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(SignIn, **envelope, badge=tokens, sealed_pin=tokens.map(lambda text: text[:200])),
    st.builds(ChoosePin, **envelope, badge=tokens, sealed_pin=tokens.map(lambda text: text[:200])),
    st.builds(SignOut, **envelope, session_id=keys),
    st.builds(BalanceRequest, **envelope, session_id=keys, wallet_qr=tokens),
    st.builds(Deduct, **sale),
    st.builds(OfflineAcceptance, **sale, accepted_at_ms=counts),
    st.builds(Cancel, **envelope, **place),
    st.builds(Refund, **envelope, **place, **refund, approval_id=st.none() | keys),
    st.builds(
        Approve,
        **envelope,
        **refund,
        session_id=keys,
        event_id=slugs,
        stall_id=slugs,
        badge=tokens,
        sealed_pin=tokens.map(lambda text: text[:200]),
    ),
    st.builds(LastReceiptRequest, **envelope, session_id=keys),
    st.builds(ShiftReportRequest, **envelope, session_id=keys),
    st.builds(
        Heartbeat,
        **envelope,
        policy_version=versions,
        firmware=texts,
        queue=counts,
        printer=texts,
        temperature_c=st.none() | st.integers(-100, 200),
        clock=st.none() | st.sampled_from(["network", "cloud", "unset"]),
        last_sale_ms=st.none() | counts,
        queue_in_cents=st.none() | counts,
        uptime_s=st.none() | counts,
    ),
)
denied_payers = st.lists(st.from_regex(r"[A-Za-z0-9_-]{11,22}", fullmatch=True), max_size=5).map(
    tuple
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(SignedIn, keys, slugs, st.text(max_size=8), slugs, slugs, expires_at_ms=counts),
    st.builds(SignedOut, keys),
    st.builds(BalanceShown, money),
    st.builds(Approved, texts, money, money, texts, counts),
    st.builds(PostedOffline, texts, money, counts, st.booleans(), counts),
    st.builds(Cancelled, st.none() | money),
    st.builds(UnderReview, texts),
    st.builds(Declined, st.sampled_from(Reason), st.none() | money),
    st.builds(Refunded, texts, money, counts, money, texts, counts),
    st.builds(ApprovalGranted, keys, money, counts),
    st.builds(LastReceipt, sale_names, texts, money, counts, lines, counts, st.none() | money),
    st.builds(
        ShiftReport,
        currency=st.just("EUR"),
        since_ms=counts,
        sales=counts,
        sales_in_cents=counts,
        offline=counts,
        offline_in_cents=counts,
        refunds=counts,
        refunds_in_cents=counts,
        net_in_cents=st.integers(-(10**9), 10**9),
        products=st.lists(
            st.builds(ProductSold, st.integers(1, 9999), counts, counts), max_size=5
        ).map(tuple),
    ),
    st.builds(HeartbeatAnswered, counts, versions),
    st.builds(
        HeartbeatAnswered,
        counts,
        versions,
        denied=st.builds(
            DeniedChanges, counts, st.booleans(), denied_payers, denied_payers, st.booleans()
        ),
    ),
)
replies = st.builds(
    Reply,
    device_id=slugs,
    key=keys,
    answers=st.sampled_from(["deduct", "cancel", "heartbeat"]),
    request_hash=hashes,
    answered_at_ms=counts,
    cloud_us=counts,
    outcome=outcomes,
)


@given(requests)
def test_every_request_round_trips(request: Request) -> None:
    assert decode_request(encode(request)) == request


@given(replies)
def test_every_reply_round_trips(reply: Reply) -> None:
    assert decode_reply(encode(reply)) == reply


@given(outcomes)
def test_a_stored_outcome_is_the_same_answer_word_for_word(outcome: Outcome) -> None:
    stored = encode_outcome(outcome)
    assert decode_outcome(stored) == outcome
    assert encode_outcome(decode_outcome(stored)) == stored


@given(requests, st.integers(-5, 99).filter(lambda version: version != 1))
def test_an_unknown_version_is_refused_by_name(request: Request, version: int) -> None:
    changed = json.loads(encode(request)) | {"v": version}
    refusal = decode_request(json.dumps(changed).encode())
    assert isinstance(refusal, MessageRefusal)
    assert refusal.reason is Reason.UNSUPPORTED_VERSION
    assert str(version) in refusal.detail


@given(replies)
def test_a_reply_of_another_version_is_refused_by_name(reply: Reply) -> None:
    refusal = decode_reply(json.dumps(json.loads(encode(reply)) | {"v": 2}).encode())
    assert isinstance(refusal, MessageRefusal)
    assert refusal.reason is Reason.UNSUPPORTED_VERSION


def test_a_message_that_names_no_version_is_refused() -> None:
    reply = Reply(
        device_id="bar-1",
        key="k" * 22,
        answers="deduct",
        request_hash="h" * 43,
        answered_at_ms=1,
        outcome=Cancelled(None),
    )
    for message, decode in ((deduct(), decode_request), (reply, decode_reply)):
        whole = json.loads(encode(message))
        assert not isinstance(decode(json.dumps(whole).encode()), MessageRefusal)
        del whole["v"]
        refusal = decode(json.dumps(whole).encode())
        assert isinstance(refusal, MessageRefusal)
        assert refusal.reason is Reason.MALFORMED


@given(requests, st.data())
def test_a_missing_or_an_unknown_field_is_refused(request: Request, data: st.DataObject) -> None:
    whole: dict[str, Any] = json.loads(encode(request))
    fields = msgspec.structs.fields(type(request))
    # Without a version nothing is read, though ours is written by default.
    optional = {each.encode_name for each in fields if not each.required} - {"v"}
    name = data.draw(st.sampled_from(sorted(set(whole) - optional)))
    without = {key: value for key, value in whole.items() if key != name}
    for changed in (without, whole | {"surprise": 1}):
        refusal = decode_request(json.dumps(changed).encode())
        assert isinstance(refusal, MessageRefusal)
        assert refusal.reason is Reason.MALFORMED


@pytest.mark.parametrize("field", ["device_id", "key", "session_id", "stall_id"])
def test_a_name_with_a_line_break_behind_it_is_another_name(field: str) -> None:
    """Python's `$` lets one pass, and a key would outgrow its column."""
    sale = {
        "kind": "cancel",
        "v": 1,
        "device_id": "till-1",
        "key": "k" * 64,
        "journal": {"epoch": "e" * 20, "last": 1, "settled_below": 1, "head": "h" * 43},
        "sent_at_ms": 1,
        "session_id": "s" * 20,
        "event_id": "fair",
        "stall_id": "bar",
        "policy_version": 1,
        "entry": 1,
        "correlation_id": "c" * 20,
    }
    assert isinstance(decode_request(json.dumps(sale).encode()), Cancel)
    refusal = decode_request(json.dumps(sale | {field: f"{sale[field]}\n"}).encode())
    assert isinstance(refusal, MessageRefusal)
    assert refusal.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "said",
    [
        {"temperature_c": 201},
        {"temperature_c": -101},
        {"temperature_c": 40.5},
        {"clock": "mine"},
        {"last_sale_ms": -1},
        {"last_sale_ms": 2**50 + 1},
        {"queue_in_cents": -1},
        {"uptime_s": 2**63},
    ],
)
def test_what_no_appliance_can_be_like_is_refused(said: dict[str, Any]) -> None:
    whole = json.loads(encode(heartbeat()))
    refusal = decode_request(json.dumps(whole | said).encode())
    assert isinstance(refusal, MessageRefusal)
    assert refusal.reason is Reason.MALFORMED


def test_older_firmware_leaves_out_how_the_appliance_is() -> None:
    new = ("temperature_c", "clock", "last_sale_ms", "queue_in_cents", "uptime_s")
    older = {
        name: said for name, said in json.loads(encode(heartbeat())).items() if name not in new
    }
    assert decode_request(json.dumps(older).encode()) == heartbeat()


@given(st.binary(max_size=400))
def test_rubbish_is_refused_and_raises_nothing(rubbish: bytes) -> None:
    assert isinstance(decode_request(rubbish), MessageRefusal)
    assert isinstance(decode_reply(rubbish), MessageRefusal)


@pytest.mark.parametrize("decode", [decode_request, decode_reply])
@pytest.mark.parametrize("opening", ['{"v":1,"x":', '{"kind":"cancel","v":1,"journal":', ""])
def test_brackets_nested_by_the_thousand_are_refused(decode: Any, opening: str) -> None:
    refusal = decode(opening.encode() + b"[" * 5000)
    assert refusal.reason is Reason.MALFORMED


@pytest.mark.parametrize("decode", [decode_request, decode_reply])
def test_a_payload_over_the_bound_is_refused_unread(decode: Any) -> None:
    refusal = decode(b'{"v":1,"x":"' + b"a" * PAYLOAD_BYTES_MAX + b'"}')
    assert refusal.reason is Reason.MALFORMED
    assert "longer" in refusal.detail


@pytest.mark.parametrize("payload", [b'{"v":1,"kind":"gift"}', b'{"v":1}', b'{"v":"1"}', b"[]"])
def test_a_kind_nobody_knows_is_refused(payload: bytes) -> None:
    refusal = decode_request(payload)
    assert isinstance(refusal, MessageRefusal)
    assert refusal.reason is Reason.MALFORMED
    reply_refusal = decode_reply(payload)
    assert isinstance(reply_refusal, MessageRefusal)


def position() -> JournalPosition:
    return JournalPosition("e" * 22, 7, 5, "h" * 43)


def heartbeat() -> Heartbeat:
    return Heartbeat(
        device_id="bar-1",
        key="k" * 22,
        journal=position(),
        sent_at_ms=1,
        policy_version=3,
        firmware="1.4",
        queue=0,
        printer="ok",
    )


def deduct(**changes: Any) -> Deduct:
    fields: dict[str, Any] = {
        "device_id": "bar-1",
        "key": "k" * 22,
        "journal": position(),
        "sent_at_ms": 1,
        "session_id": "s" * 22,
        "event_id": "fair",
        "stall_id": "bar",
        "policy_version": 1,
        "entry": 6,
        "correlation_id": "c" * 22,
        "amount": Money(500, "EUR"),
        "wallet_qr": "a.b.c",
        "scanned_at_ms": 1,
    }
    return Deduct(**(fields | changes))


def test_the_longest_sale_fits_its_bound() -> None:
    longest = deduct(
        lines=tuple(SaleLine(9999, 999, 100_000_000) for _ in range(messages.LINES_MAX)),
        wallet_qr="x" * 1024,
    )
    assert len(encode(longest)) < PAYLOAD_BYTES_MAX


def test_the_longest_heartbeat_reply_fits_its_bound() -> None:
    spki = public_key_to_text(ec.generate_private_key(ec.SECP256R1()).public_key())
    payers = tuple(f"{number:0>22}" for number in range(messages.DENIED_CHANGES_MAX))
    longest = Reply(
        device_id="d" * 40,
        key="k" * 64,
        answers="heartbeat",
        request_hash="h" * 43,
        answered_at_ms=2**50,
        cloud_us=2**50,
        outcome=HeartbeatAnswered(
            2**50,
            2**31 - 1,
            checkpoint="c" * 1024,
            resend=Resend("r" * 64, 2**50),
            denied=DeniedChanges(2**50, is_whole=True, added=payers, removed=payers, more=True),
            wallet_keys=tuple(NamedKey("k" * 43, spki) for _ in range(KEYS_MAX)),
            journal_known=JournalKnown("e" * 64, 2**50, 2**50),
        ),
    )
    assert len(encode(longest)) < PAYLOAD_BYTES_MAX
    assert decode_reply(encode(longest)) == longest


def test_a_heartbeat_reply_without_news_is_what_it_always_was() -> None:
    assert json.loads(encode_outcome(HeartbeatAnswered(1, 2))) == {
        "outcome": "heartbeat_answered",
        "cloud_time_ms": 1,
        "policy_version": 2,
    }


def test_what_makes_a_sale_the_same_sale() -> None:
    base = deduct().content("jti-1").digest()
    resent = deduct(sent_at_ms=99, scanned_at_ms=5, entry=7, session_id="t" * 22)
    assert resent.content("jti-1").digest() == base
    others = [
        deduct(amount=Money(501, "EUR")),
        deduct(amount=Money(500, "CHF")),
        deduct(event_id="other"),
        deduct(stall_id="other"),
        deduct(lines=(SaleLine(1, 1, 500),)),
    ]
    digests = {each.content("jti-1").digest() for each in others}
    digests.add(deduct().content("jti-2").digest())
    assert len(digests) == len(others) + 1
    assert base not in digests


def ask_back(**changes: Any) -> Refund:
    fields: dict[str, Any] = {
        name: getattr(deduct(), name) for name in Cancel.__struct_fields__
    } | {"sale": SaleName("bar-2", "s" * 22)}
    return Refund(**(fields | changes))


def ask_supervisor(**changes: Any) -> Approve:
    secret: dict[str, Any] = {"badge": "secret-badge", "sealed_pin": "sealed"}
    fields: dict[str, Any] = {
        name: getattr(ask_back(), name) for name in Approve.__struct_fields__ if name not in secret
    }
    return Approve(**(fields | secret | changes))


def test_what_makes_a_refund_the_same_refund() -> None:
    base = ask_back().content().digest()
    resumed = ask_back(sent_at_ms=99, entry=7, session_id="t" * 22)
    assert resumed.content().digest() == base
    others = [
        ask_back(amount=Money(500, "EUR")),
        ask_back(amount=Money(500, "CHF")),
        ask_back(event_id="other"),
        ask_back(stall_id="other"),
        ask_back(approval_id="a" * 22),
        ask_back(sale=SaleName("bar-3", "s" * 22)),
        ask_back(sale=SaleName("bar-2", "t" * 22)),
        ask_supervisor(),
        ask_supervisor(amount=Money(500, "EUR")),
    ]
    digests = {each.content().digest() for each in others}
    assert len(digests) == len(others)
    assert base not in digests


def test_a_supervisors_badge_and_pin_stay_out_of_what_is_printed() -> None:
    assert "secret-badge" not in repr(ask_supervisor())
    assert "sealed" not in repr(ask_supervisor())


def test_the_longest_shift_report_fits_its_bound() -> None:
    most = 2**50
    report = ShiftReport(
        currency="EUR",
        since_ms=most,
        sales=most,
        sales_in_cents=most,
        offline=most,
        offline_in_cents=most,
        refunds=most,
        refunds_in_cents=most,
        net_in_cents=-(10**12),
        products=tuple(ProductSold(9999, most, most) for _ in range(messages.SHIFT_PRODUCTS_MAX)),
    )
    reply = Reply(
        device_id="bar-1",
        key="k" * 64,
        answers="shift_report",
        request_hash="h" * 43,
        answered_at_ms=most,
        outcome=report,
    )
    assert len(encode(reply)) < PAYLOAD_BYTES_MAX


def test_an_offline_acceptance_of_the_same_sale_has_the_same_content() -> None:
    one = deduct()
    fields: dict[str, Any] = msgspec.structs.asdict(one) | {"accepted_at_ms": 3}
    assert OfflineAcceptance(**fields).content("j").digest() == one.content("j").digest()


@pytest.mark.parametrize("kind", [SignIn, ChoosePin])
def test_a_pin_and_a_badge_stay_out_of_what_is_printed(kind: type[SignIn | ChoosePin]) -> None:
    message = kind(
        device_id="bar-1",
        key="k" * 22,
        journal=position(),
        sent_at_ms=1,
        badge="secret-badge",
        sealed_pin="sealed",
    )
    assert "secret-badge" not in repr(message)
    assert "sealed" not in repr(message)


def test_every_kind_has_its_own_name() -> None:
    assert kind_of(deduct()) == "deduct"
    kinds = {SignIn: "sign_in", Cancel: "cancel", OfflineAcceptance: "offline_acceptance"}
    for message, kind in kinds.items():
        assert message.__struct_config__.tag == kind


def test_every_reason_a_qr_is_refused_for_can_be_answered() -> None:
    assert {refusal.value for refusal in QrRefusal} <= {reason.value for reason in Reason}


def test_identities_keep_their_types() -> None:
    request = deduct()
    assert (request.device, request.idempotency_key) == ("bar-1", "k" * 22)
    assert (request.correlation, request.session) == ("c" * 22, "s" * 22)
    refund = ask_back()
    assert refund.correlation == "c" * 22
    assert (refund.sale.device, refund.sale.idempotency_key) == ("bar-2", "s" * 22)


def test_a_line_knows_its_total() -> None:
    assert SaleLine(3, 2, 350).total_in_cents == 700
