from typing import Any

from sqlalchemy import update

from cloud.access.roles import Role
from cloud.operations.fleet.device_deeds import DEEDS_MAX
from cloud.operations.people.access_tokens import create_token
from cloud.store.presence import keep_presence, note_watch
from cloud.store.tables import device_certificates, devices, events
from protocol.ids import DeviceId, EventId
from tests.cloud.api.edge import Edge
from tests.cloud.floor import EVENT


def asked(edge: Edge, query: str = "") -> list[str]:
    """The names of the appliances that are listed."""
    answer = edge.http.get(f"/v1/ops/devices{query}", headers=edge.ops)
    assert answer.status_code == 200, answer.text
    return [each["device_id"] for each in answer.json()]


def shown(edge: Edge, device_id: str) -> dict[str, Any]:
    return edge.http.get(f"/v1/ops/devices/{device_id}", headers=edge.ops).json()


def change(edge: Edge, device_id: str, **values: Any) -> None:
    with edge.floor.database.transaction() as connection:
        connection.execute(update(devices).where(devices.c.device_id == device_id).values(**values))


def say_online(edge: Edge, **said: bool) -> None:
    now = edge.floor.now()
    with edge.floor.database.transaction() as connection:
        names = {DeviceId(name.replace("_", "-")): is_online for name, is_online in said.items()}
        keep_presence(connection, names, now)
        note_watch(connection, now)


def test_what_a_heartbeat_says_of_its_appliance_is_shown(edge: Edge) -> None:
    till = edge.floor.add_till()
    sold_ms = till.now_ms() - 60_000
    beat = till.heartbeat(
        temperature_c=48, clock="cloud", last_sale_ms=sold_ms, queue_in_cents=1250, uptime_s=77
    )
    edge.floor.ask(till, beat)
    said = shown(edge, "till-1")
    assert (said["temperature_c"], said["clock"], said["uptime_s"]) == (48, "cloud", 77)
    assert (said["queue_in_cents"], said["currency"]) == (1250, "EUR")
    assert said["last_sale_at"] < said["last_seen_at"]
    assert said["online"] is True
    assert said["problems"] == ["money_waits"]
    # Older firmware says none of it: what was known is old, and is not shown on.
    edge.floor.ask(till, till.heartbeat())
    said = shown(edge, "till-1")
    names = ("temperature_c", "clock", "last_sale_at", "queue_in_cents", "uptime_s")
    assert [said[name] for name in names] == [None] * 5


def test_absurd_words_of_an_appliance_harm_nobody(edge: Edge) -> None:
    till = edge.floor.add_till()
    most = 2**50
    beat = till.heartbeat(
        temperature_c=200, last_sale_ms=most, queue_in_cents=most, uptime_s=most, queue=most
    )
    edge.floor.ask(till, beat)
    said = shown(edge, "till-1")
    # The year 37648 is in no calendar.
    assert said["last_sale_at"] is None
    assert (said["queue_in_cents"], said["uptime_s"]) == (most, most)
    assert said["problems"] == ["money_waits", "hot"]


def test_each_filter_leaves_out_the_others(edge: Edge) -> None:
    floor = edge.floor
    for name in ("till-1", "till-2", "till-3"):
        till = floor.add_till(name)
        floor.ask(till, till.heartbeat(clock="cloud", temperature_c=40, firmware="1.5.0"))
    floor.pass_time(seconds=90)
    say_online(edge, till_1=True, till_2=False)
    change(edge, "till-2", firmware="1.4.9", policy_version=3, policy_acked=1)
    change(edge, "till-3", temperature_c=91)
    with floor.database.transaction() as connection:
        connection.execute(
            update(device_certificates)
            .where(device_certificates.c.device_id == "till-1")
            .values(not_after=floor.now())
        )
    assert asked(edge) == ["till-1", "till-2", "till-3"]
    for query, names in {
        "?online=true": ["till-1"],
        "?online=false": ["till-2"],
        "?problem=hot": ["till-3"],
        "?problem=hot&problem=offline": ["till-2", "till-3"],
        "?expiring_within_days=14": ["till-1"],
        "?behind=true": ["till-2"],
        "?firmware=1.4": ["till-2"],
        "?firmware=1%25": [],
        "?status=revoked": [],
        "?stall=grill": [],
        "?event=elsewhere": [],
        f"?event={EVENT}&stall=bar&limit=2": ["till-1", "till-2"],
        "?after=till-2": ["till-3"],
        "?trouble=true": ["till-1", "till-2", "till-3"],
    }.items():
        assert asked(edge, query) == names, query
    for query in ("?problem=bad", "?online=perhaps", "?limit=0", "?stall=Bar%00", "?surprise=%"):
        status = edge.http.get(f"/v1/ops/devices{query}", headers=edge.ops).status_code
        assert status == (200 if "surprise" in query else 422), query


def test_one_that_left_and_is_still_connected_is_named(edge: Edge) -> None:
    edge.floor.add_till("till-1")
    edge.floor.add_till("till-2")
    for name in ("till-1", "till-2"):
        edge.http.post(
            f"/v1/ops/devices/{name}/revoke", json={"reason": "lost"}, headers=edge.ops
        ).raise_for_status()
    say_online(edge, till_1=True, till_2=False)
    assert shown(edge, "till-1")["problems"] == ["still_connected"]
    assert shown(edge, "till-2")["problems"] == []


def test_its_deeds_are_what_others_did_to_it_newest_first(edge: Edge) -> None:
    till = edge.floor.add_till()
    edge.floor.ask(till, till.heartbeat())
    edge.http.post("/v1/ops/devices/till-1/revoke", json={"reason": "lost"}, headers=edge.ops)
    deeds = edge.http.get("/v1/ops/devices/till-1/deeds", headers=edge.ops).json()
    assert deeds[0]["action"] == "device_revoked"
    assert deeds[0]["detail"]["reason"] == "lost"
    assert "heartbeat" not in {each["action"] for each in deeds}
    for path, status in (("till-9/deeds", 404), (f"till-1/deeds?limit={DEEDS_MAX + 1}", 422)):
        answer = edge.http.get(f"/v1/ops/devices/{path}", headers=edge.ops)
        assert answer.status_code == status


def test_whoever_runs_one_event_sees_no_other_ones_appliances(edge: Edge) -> None:
    edge.floor.add_till("till-1")
    now = edge.floor.now()
    with edge.floor.database.transaction() as connection:
        connection.execute(
            events.insert().values(event_id="winter", name="Winter", currency="CHF", created_at=now)
        )
    made = create_token(edge.floor.database, Role.OPS, "wim", None, now, event_id=EventId("winter"))
    bearer = {"Authorization": f"Bearer {made.token}"}
    assert edge.http.get("/v1/ops/devices", headers=bearer).json() == []
    for path in ("till-1", "till-1/deeds"):
        assert edge.http.get(f"/v1/ops/devices/{path}", headers=bearer).status_code == 403
