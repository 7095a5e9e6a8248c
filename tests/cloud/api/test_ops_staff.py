"""Staff and badges over HTTP, and what appliances are told of their PINs over HTTPS."""

from typing import Any

from cloud.operations.staff.issue_badge import CHOOSE_WITHIN
from protocol.ids import DeviceId, IdempotencyKey
from protocol.messages import (
    Approved,
    ChoosePin,
    Declined,
    Outcome,
    Reason,
    Reply,
    Request,
    SignedIn,
    decode_reply,
)
from protocol.sealing import seal_pin
from protocol.signing import Profile, Verified, verify
from tests.cloud.api.edge import Edge
from tests.cloud.floor import PIN, Till
from tests.cloud.operations.giving_back import add_staff, approve, sold

STAFF = "/v1/ops/events/summer-fair/staff"
BADGES = "/v1/ops/events/summer-fair/badges"
CHOSEN = "83041729"


def told(edge: Edge, till: Till, request: Request) -> Outcome:
    """What the appliance is answered, over HTTPS, by the cloud's own signature."""
    headers = {"Content-Type": "application/jose", "Idempotency-Key": request.key}
    answer = edge.http.post("/v1/pos/requests", content=till.sign(request), headers=headers)
    assert answer.status_code == 200, answer.text
    signer = edge.floor.keys.reply.named
    found = verify(
        Profile.REPLY,
        answer.content,
        lambda kid: signer.public_key if kid == signer.kid else None,
    )
    assert isinstance(found, Verified)
    reply = decode_reply(found.payload)
    assert isinstance(reply, Reply)
    return reply.outcome


def choose(edge: Edge, till: Till, badge: str, pin: str = CHOSEN) -> ChoosePin:
    envelope = till.sign_in(edge.floor)
    public = edge.floor.keys.pin.private.public_key()
    return ChoosePin(
        device_id=till.device_id,
        key=envelope.key,
        journal=envelope.journal,
        sent_at_ms=envelope.sent_at_ms,
        badge=badge,
        sealed_pin=seal_pin(pin, public, DeviceId(till.device_id), IdempotencyKey(envelope.key)),
    )


def post(edge: Edge, path: str, body: dict[str, Any], status: int = 200) -> Any:
    answer = edge.http.post(path, json=body, headers=edge.ops)
    assert answer.status_code == status, answer.text
    return answer.json()


def mia(edge: Edge) -> Any:
    [member] = edge.http.get(STAFF, headers=edge.ops).json()
    return member


def test_from_a_printed_badge_to_a_sale_and_to_the_end_of_it(edge: Edge) -> None:
    floor = edge.floor
    till, guest = floor.add_till(), floor.add_guest(2000)
    sheet = post(edge, BADGES, {"anew": True})
    [printed] = sheet["badges"]
    assert (sheet["event_name"], printed["name"]) == ("Summer fair", "Mia")
    assert (mia(edge)["badge"]["has_pin"], mia(edge)["badge"]["is_good"]) == (False, True)
    asked = till.sign_in(floor, CHOSEN, badge=printed["badge"])
    assert told(edge, till, asked) == Declined(Reason.PIN_NOT_SET)
    signed_in = told(edge, till, choose(edge, till, printed["badge"]))
    assert isinstance(signed_in, SignedIn)
    assert mia(edge)["badge"]["has_pin"]
    assert mia(edge)["signed_in_at"] == ["till-1"]
    sale = till.deduct(floor.qr(guest), session_id=signed_in.session_id)
    assert isinstance(told(edge, till, sale), Approved)
    # Printed again it is the same badge, PIN and all.
    assert post(edge, BADGES, {"staff": ["mia"]})["badges"][0]["badge_id"] == printed["badge_id"]

    revoked = post(edge, f"{STAFF}/mia/revoke", {"reason": "badge lost"})
    assert (revoked["badges"], revoked["signed_out_at"]) == (1, ["till-1"])
    next_sale = till.deduct(floor.qr(guest), session_id=signed_in.session_id)
    assert told(edge, till, next_sale) == Declined(Reason.SESSION_ENDED)
    assert floor.balance(guest) == 1650
    assert (mia(edge)["badge"], mia(edge)["signed_in_at"]) == (None, [])


def test_guessing_at_a_pin_is_stopped_and_audited_whichever_way_it_is_tried(
    lone_edge: Edge,
) -> None:
    floor = lone_edge.floor
    add_staff(floor)
    guest = floor.add_guest()
    badge = floor.badge_qr
    for number, way in enumerate(("sign_in", "choose_pin", "approve")):
        till = floor.add_till(f"till-{number}")
        sale = sold(floor, till, guest, 100)

        def ask(pin: str, *, till: Till = till, way: str = way, sale: Any = sale) -> Outcome:
            match way:
                case "sign_in":
                    request: Request = till.sign_in(floor, pin)
                case "choose_pin":
                    request = choose(lone_edge, till, badge, pin)
                case _:
                    request = approve(floor, till, sale, pin=pin)
            return told(lone_edge, till, request)

        said = {str(ask("9753")) for _ in range(5)}
        assert len(said) == 1
        assert ask(PIN) == Declined(Reason.LOCKED_OUT)
        [locked] = [
            each
            for each in floor.audit(action="badge_locked")
            if each.device_id == f"till-{number}"
        ]
        assert (locked.detail["tried_by"], locked.detail["tries"]) == (way, 5)
        tries = floor.audit(action=way, device_id=f"till-{number}")
        assert [each.outcome for each in tries][-1] == "locked_out"
        assert len(tries) == 6


def test_a_forgotten_pin_is_chosen_anew_with_the_same_badge_within_a_day(lone_edge: Edge) -> None:
    till = lone_edge.floor.add_till()
    badge = lone_edge.floor.badge_qr
    forgotten = post(lone_edge, f"{STAFF}/mia/pin", {})
    assert (forgotten["pin"], forgotten["badge_id"]) == (None, lone_edge.floor.badge_id)
    old = told(lone_edge, till, till.sign_in(lone_edge.floor))
    assert old == Declined(Reason.PIN_NOT_SET)
    assert isinstance(told(lone_edge, till, choose(lone_edge, till, badge)), SignedIn)
    drawn = post(lone_edge, f"{STAFF}/mia/pin", {"draw_pin": True})
    assert drawn["choose_until"] is None
    signed_in = told(lone_edge, till, till.sign_in(lone_edge.floor, drawn["pin"]))
    assert isinstance(signed_in, SignedIn)
    [first, second] = lone_edge.floor.audit(action="pin_changed")
    assert (first.outcome, second.outcome) == ("to_be_chosen", "set")
    assert drawn["pin"] not in repr([*first, *second])


def test_a_badge_without_a_pin_says_until_when_one_is_chosen(lone_edge: Edge) -> None:
    badge = post(lone_edge, f"{STAFF}/mia/badge", {}, 201)
    assert badge["pin"] is None
    until = lone_edge.floor.now() + CHOOSE_WITHIN
    assert badge["choose_until"] == until.isoformat().replace("+00:00", "Z")
    lone_edge.floor.pass_time(days=14)
    assert not mia(lone_edge)["badge"]["is_good"]


def test_what_cannot_be_done_is_refused_by_name_and_changes_nothing(lone_edge: Edge) -> None:
    unread = "request_not_understood"
    for path, body, status, code in (
        (f"{STAFF}/mia/badge", {"pin": "2580", "draw_pin": True}, 422, unread),
        (f"{STAFF}/mia/pin", {"pin": "1234"}, 422, "pin_not_allowed"),
        (f"{STAFF}/ghost/pin", {}, 404, "staff_unknown"),
        (f"{STAFF}/ghost/revoke", {"reason": "x"}, 404, "staff_unknown"),
        (f"{STAFF}/mia/revoke", {"reason": ""}, 422, unread),
        (BADGES, {"staff": ["ghost"]}, 404, "staff_unknown"),
        (BADGES, {"staff": []}, 422, unread),
    ):
        assert post(lone_edge, path, body, status)["code"] == code
    assert mia(lone_edge)["badge"]["badge_id"] == lone_edge.floor.badge_id
    assert mia(lone_edge)["badge"]["has_pin"]


def test_whoever_has_no_badge_has_no_pin_to_forget(lone_edge: Edge) -> None:
    post(lone_edge, f"{STAFF}/mia/revoke", {"reason": "left"})
    assert post(lone_edge, f"{STAFF}/mia/pin", {}, 404)["code"] == "badge_unknown"
    nowhere = lone_edge.http.get("/v1/ops/events/nowhere/staff", headers=lone_edge.ops)
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "event_unknown")
