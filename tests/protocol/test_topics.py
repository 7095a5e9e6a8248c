from collections.abc import Callable

import pytest

from protocol import topics
from protocol.ids import DeviceId, is_slug

DEVICE = DeviceId("bar-3")


@pytest.mark.parametrize("build", [topics.requests, topics.replies, topics.policy, topics.status])
def test_every_topic_names_its_appliance(build: Callable[[DeviceId], str]) -> None:
    assert topics.device_of(build(DEVICE)) == DEVICE


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "railtix/v1/devices",
        "railtix/v1/devices/bar-3",
        "railtix/v1/devices/bar-3/",
        "railtix/v1/devices/bar-3/secrets",
        "railtix/v1/devices/bar-3/x/requests",
        "railtix/v2/devices/bar-3/requests",
        "railtix/v1/devices/+/requests",
        "railtix/v1/devices/#/requests",
        "railtix/v1/devices/BAR/requests",
        "x/railtix/v1/devices/bar-3/requests",
    ],
)
def test_a_foreign_topic_belongs_to_nobody(topic: str) -> None:
    assert topics.device_of(topic) is None


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a/b", "+", "#", "a" * 41, "ä", "a\n"]
)
def test_what_could_be_read_as_a_wildcard_or_a_path_is_no_name(name: str) -> None:
    assert not is_slug(name)


def test_a_topic_is_never_built_from_such_a_name() -> None:
    with pytest.raises(AssertionError):
        topics.requests(DeviceId("a/b"))


def test_the_workers_group_stands_before_the_topic_and_nothing_else_fits_in() -> None:
    assert topics.shared_requests("g-1") == "$share/g-1/railtix/v1/devices/+/requests"
    for odd in ("", "a/b", "+", "#"):
        with pytest.raises(AssertionError):
            topics.shared_requests(odd)


def test_a_status_is_told_from_a_request() -> None:
    assert topics.is_status(topics.status(DEVICE))
    assert not any(map(topics.is_status, (topics.requests(DEVICE), topics.policy(DEVICE), "")))
