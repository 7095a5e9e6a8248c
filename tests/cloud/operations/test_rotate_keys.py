"""A new key signs once those who check it know it; what the old one signed stays good."""

from pathlib import Path

from sqlalchemy import select, update

from cloud.keys import KeyRing
from cloud.operations.fleet.rotate_keys import Activated, Prepared, activate_key, prepare_key
from cloud.operations.refusals import Code, Refusal
from cloud.store.tables import devices, policies
from protocol.messages import Approved
from protocol.policy import Policy, find, open_policy
from tests.cloud.floor import EVENT, Floor, Till


def prepare(floor: Floor, name: str) -> Prepared:
    done = prepare_key(floor.database, floor.keys, name, actor="system:test", now=floor.now())
    assert isinstance(done, Prepared), done
    return done


def activate(floor: Floor, name: str, *, force: bool = False) -> Activated | Refusal:
    return activate_key(
        floor.database, floor.keys, name, actor="system:test", now=floor.now(), force=force
    )


def newest_policy(floor: Floor, till: Till) -> Policy:
    with floor.database.reading() as connection:
        jws = connection.execute(
            select(policies.c.jws)
            .where(policies.c.device_id == till.device_id)
            .order_by(policies.c.version.desc())
            .limit(1)
        ).scalar_one()
    policy = open_policy(jws.encode(), find((floor.keys.policy.named,)), till.device_id, 0)
    assert isinstance(policy, Policy), policy
    return policy


def acknowledge(floor: Floor, till: Till) -> None:
    version = newest_policy(floor, till).version
    floor.ask_one(till, till.heartbeat(policy_version=version))


def test_a_reply_key_signs_only_after_every_appliance_knows_it(floor: Floor) -> None:
    near, away = floor.add_till("near"), floor.add_till("away")
    old = floor.keys.reply.kid
    prepared = prepare(floor, "reply")
    assert set(prepared.policies) == {near.device_id, away.device_id}
    assert {each.kid for each in newest_policy(floor, near).reply_keys} == {old, prepared.kid}
    acknowledge(floor, near)
    refused = activate(floor, "reply")
    assert isinstance(refused, Refusal)
    assert refused.code is Code.KEY_NOT_KNOWN_YET
    assert "away" in refused.detail
    assert "near" not in refused.detail
    assert floor.keys.reply.kid == old
    acknowledge(floor, away)
    assert activate(floor, "reply") == Activated("reply", prepared.kid)
    assert floor.keys.reply.kid == prepared.kid
    guest = floor.add_guest()
    assert isinstance(floor.ask_one(near, near.deduct(floor.qr(guest))), Approved)


def test_an_appliance_in_a_drawer_can_be_left_behind_on_purpose(floor: Floor) -> None:
    floor.add_till()
    prepared = prepare(floor, "reply")
    assert activate(floor, "reply", force=True) == Activated("reply", prepared.kid)
    assert [row.outcome for row in floor.audit(action="key_activated")] == ["done"]


def test_a_revoked_appliance_holds_nobody_up(floor: Floor) -> None:
    till, lost = floor.add_till("till-1"), floor.add_till("lost")
    floor.revoke(lost)
    prepared = prepare(floor, "reply")
    assert set(prepared.policies) == {till.device_id}
    acknowledge(floor, till)
    assert isinstance(activate(floor, "reply"), Activated)


def test_a_wallet_qr_of_the_old_key_still_pays(floor: Floor) -> None:
    till, guest = floor.add_till(), floor.add_guest()
    shown_before = floor.qr(guest)
    name = f"wallet.{EVENT}"
    prepared = prepare(floor, name)
    acknowledge(floor, till)
    assert isinstance(activate(floor, name), Activated)
    assert floor.keys.wallet_for(EVENT).kid == prepared.kid
    # A request names the policy that it goes by: the one of the first version still counts.
    assert isinstance(floor.ask_one(till, till.deduct(shown_before)), Approved)
    assert isinstance(floor.ask_one(till, till.deduct(floor.qr(guest))), Approved)


def test_a_process_that_did_not_restart_signs_with_the_key_it_knows(
    floor: Floor, tmp_path: Path
) -> None:
    elsewhere = KeyRing(tmp_path / "keys")
    old = elsewhere.reply.kid
    floor.add_till()
    prepared = prepare(floor, "reply")
    assert isinstance(activate(floor, "reply", force=True), Activated)
    assert elsewhere.reply.kid == old
    # It tells appliances of both, so that neither process's answers are refused.
    assert {each.kid for each in elsewhere.known("reply")} == {old, prepared.kid}
    assert {each.kid for each in KeyRing(tmp_path / "keys").known("reply")} == {old, prepared.kid}


def test_a_badge_of_the_old_key_still_signs_in(floor: Floor) -> None:
    till = floor.add_till()
    badge = floor.badge_qr
    prepare(floor, "badge")
    assert isinstance(activate(floor, "badge", force=True), Activated)
    outcome = floor.ask_one(till, till.sign_in(floor, badge=badge))
    assert type(outcome).__name__ == "SignedIn"


def test_what_anybody_checks_by_the_published_keys_changes_at_once(floor: Floor) -> None:
    floor.add_till()
    assert prepare(floor, "checkpoint").policies == {}
    assert isinstance(activate(floor, "checkpoint"), Activated)
    assert len(floor.keys.public("checkpoint")) == 2


def test_preparing_twice_makes_one_key(floor: Floor) -> None:
    assert prepare(floor, "reply").kid == prepare(floor, "reply").kid


def test_a_key_that_is_not_prepared_or_not_known_is_refused_by_name(floor: Floor) -> None:
    def code(name: str) -> Code:
        refused = activate(floor, name)
        assert isinstance(refused, Refusal)
        return refused.code

    assert code("reply") is Code.KEY_NOT_PREPARED
    assert code("policy") is Code.KEY_UNKNOWN
    assert code("../reply") is Code.KEY_UNKNOWN
    assert code("wallet.no-such-event") is Code.EVENT_UNKNOWN
    assert code("wallet.../../x") is Code.EVENT_UNKNOWN


def test_an_appliance_without_a_policy_of_its_own_counts_as_behind(floor: Floor) -> None:
    till = floor.add_till()
    prepare(floor, "reply")
    with floor.database.transaction() as connection:
        connection.execute(
            update(devices).where(devices.c.device_id == till.device_id).values(policy_acked=0)
        )
    assert isinstance(activate(floor, "reply"), Refusal)
