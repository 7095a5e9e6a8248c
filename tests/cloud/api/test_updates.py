"""Bundles over HTTP: uploaded part by part by ops, handed out to appliances of ours in ranges."""

import hashlib
import ssl
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from cloud.operations.updates.bundle_folder import PART_BYTES_MAX
from device.bundles.fetch import Failure, Pace, Trouble, Way, fetch
from device.bundles.folder import BundleFolder as Folder
from device.identity.exchange import Address
from protocol.updates import Update
from tests.cloud.api.enrolment_office import Box, Office, said, set_status

DEBIAN = "railtix-pos-debian"
NO_SHA256 = "f" * 64


def make(seed: int, size: int = 300_000) -> tuple[str, bytes]:
    """A bundle of its own: its name and its content."""
    content = hashlib.shake_256(str(seed).encode()).digest(size)
    return hashlib.sha256(content).hexdigest(), content


def put(office: Office, sha256: str, offset: int, part: bytes) -> httpx.Response:
    return office.ops.put(
        f"/v1/ops/updates/bundles/{sha256}", params={"offset": offset}, content=part
    )


def upload(office: Office, sha256: str, content: bytes) -> None:
    for at in range(0, len(content), PART_BYTES_MAX):
        assert put(office, sha256, at, content[at : at + PART_BYTES_MAX]).status_code == 200
    finished = finish(office, sha256, len(content))
    assert finished.json() == {"size": len(content), "is_whole": True}


def finish(office: Office, sha256: str, size: int) -> httpx.Response:
    return office.ops.post(f"/v1/ops/updates/bundles/{sha256}/finish", json={"size": size})


def release(office: Office, sha256: str, version: str, **terms: Any) -> httpx.Response:
    # In any order: each test's own is released, whatever was before.
    own = {"sha256": sha256, "version": version, "compatible": DEBIAN, "allow_downgrade": True}
    body = own | {"channel": "beta"} | terms
    return office.ops.post("/v1/ops/updates", json=body)


def released(office: Office, seed: int, size: int = 300_000) -> tuple[str, bytes]:
    sha256, content = make(seed, size)
    upload(office, sha256, content)
    assert release(office, sha256, f"1.{seed}.0").status_code == 201
    return sha256, content


def test_a_bundle_goes_up_in_parts_and_an_appliance_fetches_it_whole(office: Office) -> None:
    sha256, content = make(1, 2_500_000)
    assert put(office, sha256, 0, content[:PART_BYTES_MAX]).json() == {
        "size": PART_BYTES_MAX,
        "is_whole": False,
    }
    assert said(release(office, sha256, "1.1.0")) == (404, "bundle_unknown")
    assert said(finish(office, sha256, len(content))) == (409, "bundle_part_misplaced")
    upload(office, sha256, content)
    answer = release(office, sha256, "1.1.0", rollout_percent=7, notes="less paper")
    assert answer.status_code == 201
    [release_said] = answer.json()["releases"]
    assert (release_said["size"], release_said["rollout_percent"]) == (len(content), 7)
    assert release_said["released_by"] == "ops:ana"
    fetched = office.client(office.enrolled()).get(f"/v1/pos/updates/{sha256}")
    assert fetched.status_code == 200
    assert fetched.content == content
    assert fetched.headers["etag"] == f'"{sha256}"'
    assert fetched.headers["accept-ranges"] == "bytes"


def test_what_is_not_as_it_is_named_is_refused_and_deleted(office: Office) -> None:
    sha256, content = make(2)
    put(office, sha256, 0, content[:-1] + b"x")
    assert said(finish(office, sha256, len(content))) == (422, "bundle_damaged")
    left = office.ops.get(f"/v1/ops/updates/bundles/{sha256}").json()
    assert left == {"size": 0, "is_whole": False}
    assert said(put(office, sha256, 9, b"x")) == (409, "bundle_part_misplaced")


def test_no_part_is_larger_than_a_request_and_no_bundle_than_is_set(office: Office) -> None:
    assert said(put(office, NO_SHA256, 0, b"x" * (PART_BYTES_MAX + 1))) == (413, "body_too_large")
    assert said(put(office, NO_SHA256, 10_000_000, b"x")) == (413, "bundle_too_large")


@pytest.mark.parametrize(
    "name", ["..%2f..%2fkeys", "%2e%2e", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "%0a", "%00"]
)
def test_no_name_leads_out_of_the_folder(office: Office, name: str) -> None:
    box = office.client(office.enrolled())
    for answer in (
        office.ops.get(f"/v1/ops/updates/bundles/{name}"),
        office.ops.put(f"/v1/ops/updates/bundles/{name}?offset=0", content=b"x"),
        office.ops.post(f"/v1/ops/updates/bundles/{name}/finish", json={"size": 1}),
        box.get(f"/v1/pos/updates/{name}"),
    ):
        assert answer.status_code in {404, 405, 422}, answer.text


def test_a_fetch_that_broke_off_goes_on_where_it_was(office: Office) -> None:
    sha256, content = released(office, 3)
    box = office.client(office.enrolled())
    rest = box.get(
        f"/v1/pos/updates/{sha256}",
        headers={"Range": "bytes=123456-", "If-Range": f'"{sha256}"'},
    )
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes 123456-{len(content) - 1}/{len(content)}"
    assert content[:123456] + rest.content == content
    other = box.get(
        f"/v1/pos/updates/{sha256}",
        headers={"Range": "bytes=123456-", "If-Range": f'"{NO_SHA256}"'},
    )
    assert (other.status_code, other.content) == (200, content), "of another it would be rubbish"
    head = box.head(f"/v1/pos/updates/{sha256}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
    assert (
        box.get(f"/v1/pos/updates/{sha256}", headers={"Range": "bytes=-5"}).content
        == (content[-5:])
    )


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=300000-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes=0-1,5-6",
        "bytes=" + ",".join("0-" for _ in range(1000)),
        "bytes=99999999999999999999-",
        "bytes=\u0665-".encode().decode("latin-1"),
        "lines=0-",
        "0-5",
        "bytes=a-b",
    ],
)
def test_a_range_that_is_none_is_refused_in_words(office: Office, asked: str) -> None:
    sha256, content = make(4)
    if office.ops.get(f"/v1/ops/updates/bundles/{sha256}").json()["size"] == 0:
        released(office, 4)
    box = office.client(office.enrolled())
    headers = [(b"Range", asked.encode("latin-1"))]
    answer = box.get(f"/v1/pos/updates/{sha256}", headers=headers)
    assert said(answer) == (416, "range_not_usable")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


def test_only_appliances_of_ours_fetch_and_only_what_is_released_and_not_paused(
    office: Office,
) -> None:
    sha256, content = released(office, 5)
    path = f"/v1/pos/updates/{sha256}"
    box = office.enrolled(device_id="fetches-1")
    client = office.client(box)
    assert said(office.http.get(path)) == (401, "certificate_unknown")
    assert office.ops.get(path).status_code == 404, "not on the other listener"
    assert said(client.get(f"/v1/pos/updates/{NO_SHA256}")) == (404, "bundle_unknown")
    paused = office.ops.post("/v1/ops/updates/pause", json={"version": "1.5.0", "reason": "odd"})
    assert paused.json()["releases"][0]["paused_why"] == "odd"
    assert said(client.get(path)) == (409, "update_paused")
    office.ops.post("/v1/ops/updates/resume", json={"version": "1.5.0"})
    assert client.get(path).content == content
    set_status(office, "fetches-1", "revoked")
    assert said(client.get(path)) == (403, "device_revoked")


def test_a_second_fetch_of_an_appliance_ends_its_first_and_others_wait_their_turn(
    office: Office,
) -> None:
    sha256, content = released(office, 6, 9_000_000)
    fetches = office.cloud.fetches
    first, others = office.enrolled(), [office.enrolled() for _ in range(2)]
    path = f"/v1/pos/updates/{sha256}"
    before = (fetches.at_once_max, fetches.bytes_per_s)
    fetches.at_once_max, fetches.bytes_per_s = 1, 1_000_000.0
    try:
        with fetching(office, first, path) as begun:
            assert begun.status_code == 200
            assert said(office.client(others[0]).get(path)) == (503, "updates_busy")
            assert office.client(others[1]).get(path).headers["retry-after"] == "60"
            fetches.bytes_per_s = 1_000_000_000.0
            assert office.client(first).get(path).content == content
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                begun.read()
        until(lambda: len(fetches) == 0)
        fetches.at_once_max = 1
        assert office.client(others[0]).get(path).content == content
    finally:
        fetches.at_once_max, fetches.bytes_per_s = before


def test_the_appliances_own_program_fetches_whole_and_goes_on_and_hears_of_a_pause(
    office: Office, tmp_path: Path
) -> None:
    sha256, content = released(office, 8, 1_200_000)
    box = office.enrolled()
    trust = ssl.create_default_context(cafile=str(office.folder / "ca" / "root.pem"))
    trust.load_cert_chain(*box.files())
    host, port = office.url.removeprefix("https://").split(":")
    way = Way(Address(host, int(port)), trust)
    announced = Update(
        version="1.8.0",
        sha256=sha256,
        size=len(content),
        compatible=DEBIAN,
        channel="beta",
        rollout_percent=100,
    )
    folder = Folder(tmp_path)
    folder.path.mkdir()
    folder.part(sha256).write_bytes(content[:500_001])
    office.ops.post("/v1/ops/updates/pause", json={"version": "1.8.0", "reason": "odd"})
    assert fetch(way, announced, folder, Pace(1e12)) == Failure(Trouble.REFUSED, "status 409")
    assert folder.part(sha256).stat().st_size == 500_001, "what is there is kept"
    office.ops.post("/v1/ops/updates/resume", json={"version": "1.8.0"})
    assert fetch(way, announced, folder, Pace(1e12)) is None
    assert folder.whole(sha256).read_bytes() == content


def test_ops_move_an_appliance_to_beta_and_see_what_it_runs(office: Office) -> None:
    office.enrolled(device_id="moves-1")
    answer = office.ops.post("/v1/ops/devices/moves-1/channel", json={"channel": "beta"})
    shown = answer.json()
    assert (shown["channel"], shown["image"], shown["update"]) == ("beta", None, None)
    wrong = office.ops.post("/v1/ops/devices/moves-1/channel", json={"channel": "nightly"})
    assert said(wrong) == (422, "channel_unknown")
    unknown = office.ops.post("/v1/ops/devices/nobody-1/channel", json={"channel": "beta"})
    assert said(unknown) == (404, "device_unknown")


def test_the_status_of_one_version_is_asked_for_by_its_whole_name(office: Office) -> None:
    sha256, content = make(7)
    upload(office, sha256, content)
    version = "1.7.0+202611230215"
    release(office, sha256, version)
    asked = office.ops.get(f"/v1/ops/updates?version={quote(version, safe='')}")
    assert [each["version"] for each in asked.json()["releases"]] == [version]
    changed = office.ops.post("/v1/ops/updates/rollout", json={"version": version, "percent": 42})
    assert changed.json()["releases"][0]["rollout_percent"] == 42
    assert said(office.ops.get("/v1/ops/updates?version=9.9")) == (404, "release_unknown")
    assert said(office.ops.get("/v1/ops/updates?version=../x")) == (422, "request_not_understood")


@contextmanager
def fetching(office: Office, box: Box, path: str) -> Generator[httpx.Response]:
    """One that takes its time."""
    trust = ssl.create_default_context(cafile=str(office.folder / "ca" / "root.pem"))
    trust.load_cert_chain(*box.files())
    with (
        httpx.Client(base_url=office.url, verify=trust, timeout=60, trust_env=False) as client,
        client.stream("GET", path) as answer,
    ):
        yield answer


def until(is_so: Any) -> None:
    """However slow the machine is."""
    for _ in range(6000):
        if is_so():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")
