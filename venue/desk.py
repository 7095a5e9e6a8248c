"""The ops desk: sets up an event over HTTP, as `railtix-ops` does."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx

TIMEOUT_S: Final = 20.0


class DeskError(Exception):
    """The cloud refused; the message is its problem's title, detail and next step."""


@dataclass(frozen=True)
class IssuedBadge:
    """What stands in a badge's QR, and the PIN that belongs to it."""

    jws: str = field(repr=False)
    pin: str = field(repr=False)


@dataclass(frozen=True)
class Claim:
    """What lets one appliance enrol, once."""

    claim_id: str
    device_id: str
    qr_text: str = field(repr=False)


class OpsDesk:
    """Speaks to `/v1/ops` with an access token."""

    def __init__(self, base_url: str, token: str) -> None:
        self.token: Final = token
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def apply_event(self, event_id: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._ask("PUT", f"/v1/ops/events/{event_id}", document)

    def policy_key(self) -> dict[str, str]:
        """The public key that appliances check their policies with."""
        return self._ask("GET", "/v1/ops/policy-key")

    def register_device(
        self, device_id: str, certificate: Path, event_id: str, stall_id: str
    ) -> dict[str, Any]:
        return self._ask(
            "POST",
            "/v1/ops/devices",
            {
                "device_id": device_id,
                "certificate_pem": certificate.read_text("ascii"),
                "place": {"event_id": event_id, "stall_id": stall_id},
            },
        )

    def device(self, device_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/ops/devices/{device_id}")

    def move_device(self, device_id: str, event_id: str, stall_id: str) -> dict[str, Any]:
        place = {"event_id": event_id, "stall_id": stall_id}
        return self._ask("POST", f"/v1/ops/devices/{device_id}/move", place)

    def revoke_device(self, device_id: str, reason: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/ops/devices/{device_id}/revoke", {"reason": reason})

    def claim(self, event_id: str, stall_id: str, **bound: str) -> Claim:
        """`bound`: device_id, serial or replaces."""
        body = {"event_id": event_id, "stall_id": stall_id, **bound}
        made = self._ask("POST", "/v1/ops/claims", body)
        return Claim(made["claim_id"], made["device_id"], made["qr_text"])

    def withdraw(self, claim: Claim) -> None:
        self._ask("POST", f"/v1/ops/claims/{claim.claim_id}/withdraw")

    def issue_badge(self, event_id: str, staff_id: str, pin: str) -> IssuedBadge:
        path = f"/v1/ops/events/{event_id}/staff/{staff_id}/badge"
        made = self._ask("POST", path, {"pin": pin})
        return IssuedBadge(made["badge"], pin)

    def invite(self, email: str) -> str:
        """A sign-in link for an attendee; it works once."""
        return self._ask("POST", "/v1/ops/attendees", {"email": email})["sign_in_link"]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if answer.is_success:
            return answer.json()
        raise DeskError(explain(answer))


def explain(answer: httpx.Response) -> str:
    """A problem (RFC 9457) in one line, or the bare status where the body holds none."""
    try:
        body: dict[str, Any] = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.reason_phrase}"
    said = [str(body[name]) for name in ("title", "detail", "next_step") if body.get(name)]
    return " ".join(said) or f"{answer.status_code}"
