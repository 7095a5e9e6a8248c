"""The only place that builds or parses an MQTT topic."""

import re
from typing import Final

from protocol.ids import DeviceId, is_slug

ROOT: Final = "railtix/v1/devices"
_GROUP: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

ALL_STATUS: Final = f"{ROOT}/+/status"


def shared_requests(group: str) -> str:
    """What every worker subscribes to: the broker hands each request to one of them.

    `group` is a secret of the workers (docs/decisions/0011): mosquitto 2.0 lets anybody join a
    group by name and then loses the requests it deals to those who may not read them.
    """
    assert _GROUP.fullmatch(group), "not a group name"
    return f"$share/{group}/{ROOT}/+/requests"


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


def is_status(topic: str) -> bool:
    return topic.endswith("/status")


def _topic(device_id: DeviceId, leaf: str) -> str:
    assert is_slug(device_id), f"not a device id: {device_id!r}"
    return f"{ROOT}/{device_id}/{leaf}"
