"""A fair on one database: the whole venue running, and its visitors by e-mail, card and phone."""

import email
import email.policy
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import httpx

from tests.journeys.bar import BAR_DOCUMENT, PIN, Books, eventually
from venue.counter import Counter
from venue.programs import run_to_end
from venue.stack import CLOUD, EVENT, STAFF, Venue

CARD: Final = "4242 4242 4242 4242"
DECLINED_CARD: Final = "4000 0000 0000 0002"
STANDARD: Final = "standard"
PRICE: Final = 1500

FAIR_DOCUMENT: Final[dict[str, Any]] = BAR_DOCUMENT | {
    "cash_out": "always",
    "ticket_types": [
        {"id": STANDARD, "name": "Day ticket", "price_in_cents": PRICE, "stock": 50},
    ],
}


def fresh_key() -> str:
    return secrets.token_urlsafe(18)


class Visitor:
    """Somebody with an e-mail address, a card and a phone; nobody but them knows their code."""

    def __init__(self, fair: "Fair") -> None:
        self.email = f"{secrets.token_hex(6)}@visitors.example"
        self.http = httpx.Client(base_url=fair.venue.base_url, timeout=30, trust_env=False)
        self._fair = fair

    def sign_in(self) -> None:
        """By the six digits that come by e-mail."""
        self.ask("POST", "/v1/sign-in/codes", {"email": self.email})
        letter = self.letter("code")
        [code] = re.findall(r"\b\d{6}\b", text_of(letter))[:1]
        session = self.ask(
            "POST", "/v1/session", {"email": self.email, "code": code, "bearer": True}
        )
        self.http.headers["Authorization"] = f"Bearer {session['bearer']}"

    def pay(self, card_page: str, card: str = CARD) -> None:
        """On the provider's own page."""
        answer = self.http.post(card_page, data={"number": card, "action": "pay"})
        assert answer.status_code in {200, 303}, answer.text

    def top_up(self, cents: int) -> str:
        opened = self.ask(
            "POST", "/v1/topups", {"amount_in_cents": cents, "currency": "EUR"}, fresh_key()
        )
        self.pay(opened["card_page"])
        eventually(
            lambda: self.ask("GET", f"/v1/topups/{opened['id']}")["status"] == "paid" or None,
            "the webhook",
        )
        return opened["id"]

    def order(self, quantity: int, credits_in_cents: int | str = "all") -> Any:
        """`all`: as many Credits as there are, and the card for the rest."""
        items = [{"ticket_type_id": STANDARD, "quantity": quantity}]
        body = {"event_id": EVENT, "items": items, "credits_in_cents": credits_in_cents}
        return self.ask("POST", "/v1/orders", body, fresh_key())

    def order_in(self, state: str, order_id: str) -> Any:
        def look() -> Any:
            order = self.ask("GET", f"/v1/orders/{order_id}")
            return order if order["state"] == state else None

        return eventually(look, f"the order to be {state}")

    def balance(self) -> int:
        balances = self.ask("GET", "/v1/wallet")["balances"]
        return next((each["amount_in_cents"] for each in balances), 0)

    def qr(self) -> str:
        return self.ask("POST", "/v1/wallet/qr", {"event_id": EVENT})["digits"]

    def letter(self, about: str) -> EmailMessage:
        """The newest letter to them whose subject speaks of this."""

        def look() -> EmailMessage | None:
            found = [
                each
                for each in self._fair.letters()
                if each["To"] == self.email and about in str(each["Subject"]).lower()
            ]
            return found[-1] if found else None

        return eventually(look, f"a letter about {about!r} to {self.email}")

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


class Fair:
    def __init__(self, venue: Venue, books: Books, counter: Counter) -> None:
        self.venue = venue
        self.books = books
        self.counter = counter
        self._visitors: list[Visitor] = []

    def close(self) -> None:
        self.books.close()
        for visitor in self._visitors:
            visitor.http.close()

    def visitor(self) -> Visitor:
        visitor = Visitor(self)
        self._visitors.append(visitor)
        visitor.sign_in()
        return visitor

    def letters(self) -> list[EmailMessage]:
        """Everything the courier has sent so far, oldest first."""
        files = sorted((self.venue.folder / "cloud" / "mail").glob("*.eml"), key=_written_at)
        return [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)  # type: ignore[misc]
            for path in files
        ]

    def postings(self, visitor: Visitor) -> list[Any]:
        return [row for row in self.books.postings() if row.email == visitor.email]

    def program(self, *arguments: str) -> str:
        """What `railtix-cloud` prints, as a program of its own."""
        return run_to_end([*CLOUD, *arguments, "--config", self.venue.cloud_config])

    def person(self, role: str) -> httpx.Client:
        """Somebody at the console with one role."""
        name = f"{role}-{secrets.token_hex(3)}"
        token = self.program("token", "create", name, "--role", role).strip().splitlines()[-1]
        return httpx.Client(
            base_url=self.venue.base_url,
            timeout=30,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"},
        )


@contextmanager
def open_fair(folder: Path, database: str | None) -> Generator[Fair]:
    with Venue(folder, database=database, document=FAIR_DOCUMENT) as venue:
        url = database or f"sqlite:///{venue.folder / 'cloud' / 'cloud.sqlite'}"
        books = Books(url)
        counter = venue.appliances[0].counter
        counter.sign_in(venue.desk.issue_badge(EVENT, STAFF, PIN))
        fair = Fair(venue, books, counter)
        try:
            yield fair
        finally:
            fair.close()


def text_of(letter: EmailMessage) -> str:
    part = letter.get_body(("plain",))
    assert part is not None, "every letter can be read without HTML"
    return str(part.get_content())


def _written_at(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name
