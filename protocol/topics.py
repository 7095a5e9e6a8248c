"""The only place that builds or parses an MQTT topic."""

from typing import Final

from protocol.ids import DeviceId, is_slug

ROOT: Final = "railtix/v1/devices"

SHARED_REQUESTS: Final = f"$share/cloud/{ROOT}/+/requests"
"""What every worker subscribes to: the broker hands each request to one of them."""

ALL_STATUS: Final = f"{ROOT}/+/status"


def requests(device_id: DeviceId) -> str:
    return _topic(device_id, "requests")


def replies(device_id: DeviceId) -> str:
    return _topic(device_id, "replies")


def policy(device_id: DeviceId) -> str:
    return _topic(device_id, "policy")


def status(device_id: DeviceId) -> str:
    return _topic(device_id, "status")


def device_of(topic: str) -> DeviceId | None:
    """The appliance a topic belongs to, or None where the topic is not one of ours."""
    head, _, leaf = topic.rpartition("/")
    root, _, device_id = head.rpartition("/")
    if root == ROOT and leaf in {"requests", "replies", "policy", "status"} and is_slug(device_id):
        return DeviceId(device_id)
    return None


def _topic(device_id: DeviceId, leaf: str) -> str:
    assert is_slug(device_id), f"not a device id: {device_id!r}"
    return f"{ROOT}/{device_id}/{leaf}"
