"""Bundles for appliances, by their own certificates: whole or from where they were."""

import re
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from cloud.api.bundle_fetches import BundleResponse
from cloud.api.context import Cloud, TheCloud
from cloud.api.est import refused
from cloud.api.problems import answers
from cloud.api.tls_peer import peer_thumbprint
from cloud.operations.enrolment.enrol_renew import Peer
from cloud.operations.refusals import Code, Refusal
from cloud.operations.updates.fetch_bundle import may_fetch
from protocol.ids import DeviceId
from protocol.updates import SHA256_PATTERN

RETRY_AFTER_S: Final = 60

router = APIRouter(prefix="/v1/pos", tags=["appliances"])

Sha256InPath = Annotated[str, Path(pattern=SHA256_PATTERN.replace(r"\Z", "$"))]
_RANGE: Final = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.ASCII)
_BUNDLE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/vnd.rauc.bundle": {}}},
    206: {"content": {"application/vnd.rauc.bundle": {}}},
}


@router.get(
    "/updates/{sha256}",
    response_class=Response,
    responses={**_BUNDLE, **answers(401, 403, 404, 409, 416, 422, 503)},
)
async def get_bundle(sha256: Sha256InPath, request: Request, cloud: TheCloud) -> Response:
    """The bundle that a policy announced, for whoever shows an appliance's certificate in TLS.

    `Range: bytes=N-` goes on where it was; `If-Range` with the ETag, which is the SHA-256.
    """
    found = await run_in_threadpool(_find, cloud, peer_thumbprint(request), sha256)
    if isinstance(found, Refusal):
        return refused(found)
    peer, path, size = found
    asked = request.headers.get("range")
    if asked is not None and not _is_one_range(asked, size):
        return _no_range(size)
    if cloud.fetches.is_full(peer):
        return refused(
            Refusal(
                Code.UPDATES_BUSY,
                "As many appliances fetch as may at once.",
                f"Ask again in {RETRY_AFTER_S} s, for the rest.",
                retry_after_s=RETRY_AFTER_S,
            )
        )
    return BundleResponse(path, sha256, peer, cloud.fetches)


def _find(
    cloud: Cloud, thumbprint: str | None, sha256: str
) -> tuple[DeviceId, FilePath, int] | Refusal:
    peer = may_fetch(cloud.database, thumbprint, sha256, cloud.clock())
    if not isinstance(peer, Peer):
        return peer
    path = cloud.bundles.find(sha256)
    if path is None:
        return Refusal(
            Code.BUNDLE_UNKNOWN,
            "The bundle was released, and its file is not here.",
            "Ops: upload it again with `railtix-ops update release`.",
        )
    return peer.device_id, path, path.stat().st_size


def _is_one_range(asked: str, size: int) -> bool:
    """Several at once nobody needs, and each would be a seek."""
    one = _RANGE.fullmatch(asked.strip())
    if one is None:
        return False
    first, last = one.groups()
    if not first:
        return bool(last) and int(last) > 0
    return int(first) < size and (not last or int(first) <= int(last))


def _no_range(size: int) -> Response:
    answer = refused(
        Refusal(
            Code.RANGE_NOT_USABLE,
            f"This is not one range of the bundle's {size} bytes.",
            "Ask for bytes=N-, with N below its size; or for all of it.",
        )
    )
    answer.headers["Content-Range"] = f"bytes */{size}"
    return answer
