"""An attendee with a phone: signs in, tops up, shows a fresh QR; all over HTTP."""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx

from protocol.money import Money
from venue.desk import DeskError, explain

TIMEOUT_S: Final = 20.0
WEBHOOK_WITHIN_S: Final = 60.0
GOOD_CARD: Final = "4242 4242 4242 4242"


@dataclass(frozen=True)
class Published:
    """One wallet QR: what the phone draws, and the token in it."""

    digits: str
    token: str


class Attendee:
    """Owns one session of the wallet API."""

    def __init__(self, base_url: str, sign_in_link: str, event_id: str) -> None:
        """Sign in by the link's token, as the wallet page does."""
        self._event_id = event_id
        self._http = httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=False)
        link = sign_in_link.partition("#sign-in=")[2]
        session = self._ask("POST", "/v1/session", {"link": link, "bearer": True})
        self._http.headers["Authorization"] = f"Bearer {session['bearer']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def balance(self, currency: str) -> Money:
        """The wallet's balance; zero where nothing was ever bought."""
        for each in self.wallet()["balances"]:
            if each["currency"] == currency:
                return Money(each["amount_in_cents"], currency)
        return Money.zero(currency)

    def wallet(self) -> dict[str, Any]:
        return self._ask("GET", "/v1/wallet")

    def fresh_qr(self) -> Published:
        made = self._ask("POST", "/v1/wallet/qr", {"event_id": self._event_id})
        return Published(made["digits"], made["token"])

    def top_up(self, amount: Money, card: str = GOOD_CARD) -> None:
        """Buy Credits: open the card page, pay there, wait until the signed webhook credited it.

        Raises DeskError where the payment does not succeed.
        """
        opened = self._ask(
            "POST",
            "/v1/topups",
            {"amount_in_cents": amount.amount_in_cents, "currency": amount.currency},
            {"Idempotency-Key": secrets.token_urlsafe(18)},
        )
        paid = self._http.post(opened["card_page"], data={"number": card, "action": "pay"})
        if paid.is_error:
            raise DeskError(explain(paid))
        deadline = _clock() + WEBHOOK_WITHIN_S
        while (status := self._ask("GET", f"/v1/topups/{opened['id']}")["status"]) != "paid":
            if status == "declined":
                raise DeskError("the card was declined")
            if _clock() > deadline:
                raise DeskError("the provider's webhook did not come")
            time.sleep(0.02)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        answer = self._http.request(method, path, json=body, headers=headers)
        if answer.is_success:
            return answer.json()
        raise DeskError(explain(answer))


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 - waiting for a webhook is an edge
