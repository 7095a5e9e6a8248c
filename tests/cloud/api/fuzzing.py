"""Asks every address of a running server for anything at all, and compares with its description.

`make fuzz ARGS="--examples 500 --seed 7"`; a short run of it is tests/cloud/api/test_fuzz.py.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import requests
import schemathesis
from cryptography import x509
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import select, text

from cloud.access.pace import Pace
from cloud.access.roles import Role
from cloud.api.app import make_app
from cloud.api.limits import Limits
from cloud.operations.enrolment.enrol_gate import Gate
from cloud.operations.people.access_tokens import create_token
from cloud.settings import LimitSettings
from cloud.store.tables import (
    approvals,
    card_refunds,
    cash_outs,
    console_users,
    credit_transactions,
    devices,
    orders,
    payments,
    review_entries,
    ticket_types,
    users,
)
from provisioning.authority.certificates import Constraints
from provisioning.authority.folder import ISSUING_CERTIFICATE, ROOT_CERTIFICATE, Authority, found
from tests.cloud.api.edge import Attendee, Edge, serving
from tests.cloud.floor import EVENT

STREAMS: Final = frozenset({"/v1/wallet/changes"})
"""They end when the server does: asked for elsewhere."""

_TOO_MUCH: Final = (413, 431)
_SIGNS_OUT: Final = frozenset({"/v1/session", "/v1/me/sessions"})

_ALWAYS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
)
_UNLIMITED: Final = Pace(1_000_000, 1)
_ANSWERED: Final = (200, 201, 202, 204)
_COLUMNS: Final = {
    "approval_id": approvals.c.approval_id,
    "cash_out_id": cash_outs.c.cash_out_id,
    "device_id": devices.c.device_id,
    "order_id": orders.c.order_id,
    "payment_id": payments.c.id,
    "refund_id": card_refunds.c.refund_id,
    "review_id": review_entries.c.review_id,
    "ticket_type_id": ticket_types.c.ticket_type_id,
    "transaction_id": credit_transactions.c.id,
    "user_id": users.c.user_id,
    "user_name": console_users.c.user_name,
}


@dataclass
class Found:
    """What was asked, and how it was answered."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])

    def answered(self, operation_id: str) -> bool:
        """Whether it was ever granted what it asked."""
        return any(self.answers[operation_id, status] for status in _ANSWERED)


def _gate(folder: Path, now: datetime) -> Gate:
    """Claims are made where there is an authority; nobody comes to this one."""
    authority = found(folder, None, Constraints(), now)
    assert isinstance(authority, Authority)
    root, issuing = (
        x509.load_pem_x509_certificate((folder / name).read_bytes())
        for name in (ROOT_CERTIFICATE, ISSUING_CERTIFICATE)
    )
    return Gate("appliances.test", 8443, "broker.test", 8883, root, issuing, authority)


class Fuzz:
    """A server with an event in full swing, and somebody of every role."""

    def __init__(self, url: str, folder: Path) -> None:
        self.edge = Edge(url, folder)
        self.found = Found()
        everybody = LimitSettings.model_validate(
            {name: _UNLIMITED for name in LimitSettings.model_fields if name not in _NO_PACE}
        )
        gate = _gate(folder / "ca", self.edge.floor.now())
        self.app = make_app(replace(self.edge.cloud, limits=Limits(everybody), gate=gate))
        self._tokens = {
            role: create_token(
                self.edge.floor.database, role, f"fuzz-{role}", None, self.edge.floor.now()
            ).token
            for role in Role
        }
        self._keys = 0
        self._prepare()

    def close(self) -> None:
        self.edge.close()

    @contextmanager
    def running(self) -> Generator[tuple[str, Any]]:
        """The server's address, and its description as schemathesis reads it."""
        with serving(self.app) as url:
            answer = httpx.get(f"{url}/v1/openapi.json", trust_env=False, timeout=120)
            answer.raise_for_status()
            yield url, schemathesis.openapi.from_dict(answer.json())

    def ask(
        self,
        url: str,
        operation: APIOperation[Any, Any, Any, Any],
        mode: GenerationMode,
        examples: int,
        chance: int,
    ) -> None:
        """Raises what a check says when an answer is not as the description has it."""
        said = operation.definition.raw
        headers = self._headers(said.get("x-roles", []))
        if operation.path in _SIGNS_OUT:
            headers = self._attendee().headers
        known = self._known()
        session = requests.Session()
        session.trust_env = False

        @seed(chance)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
                HealthCheck.large_base_example,
            ),
        )
        @given(case=operation.as_strategy(mode), drawn=st.data())
        def each(case: Case[Any], drawn: st.DataObject) -> None:
            if mode is GenerationMode.POSITIVE:
                _aim(case, known, drawn)
            response = case.call(base_url=url, session=session, headers=headers, timeout=30)
            self.found.answers[said["operationId"], response.status_code] += 1
            checks = [*_ALWAYS]
            if mode is GenerationMode.NEGATIVE and response.status_code not in _TOO_MUCH:
                checks.append(negative_data_rejection)
            case.validate_response(response, checks=checks, headers=headers)

        # Where nothing is sent, nothing can be sent wrongly.
        with session, suppress(Unsatisfiable):
            each()

    def _headers(self, roles: list[str]) -> dict[str, str]:
        """Somebody who may ask; what an attendee has done is theirs to see later."""
        if roles == ["attendee"]:
            return self._one.headers
        if roles in ([], ["anyone"]):
            return {}
        role = Role.ADMIN if roles == ["console"] else Role(roles[0])
        return {"Authorization": f"Bearer {self._tokens[role]}"}

    def _attendee(self) -> Attendee:
        attendee = self.edge.sign_in()
        self._keys += 1
        self.edge.top_up(attendee, 5000, key=f"fuzz-{self._keys:015}")
        return attendee

    def _prepare(self) -> None:
        """Something of everything that an address can name."""
        floor = self.edge.floor
        with floor.database.transaction() as connection:
            connection.execute(
                text(
                    "INSERT INTO ticket_types (event_id, ticket_type_id, name, price_in_cents,"
                    " stock, per_order_max) VALUES (:event, 'adult', 'Adult', 1000, 1000, 10)"
                ),
                {"event": EVENT},
            )
        self._one = attendee = self._attendee()
        till = floor.add_till()
        sale = till.deduct(floor.qr(attendee.guest), 350)
        floor.ask_one(till, sale)
        # One for the review list: it comes after its own cancel.
        late = till.deduct(floor.qr(attendee.guest), 250)
        floor.ask_one(till, till.cancel(late))
        floor.ask_one(till, till.accept_offline(late))
        floor.pass_time(seconds=timedelta(seconds=1).total_seconds())

    def _known(self) -> Mapping[str, list[Any]]:
        """Ids that are there by now, by the names that addresses and bodies give them."""
        known: dict[str, list[Any]] = {
            "amount_in_cents": [100, 500, 2000],
            "credits_in_cents": [0, 500, 1000],
            "quantity": [1, 2],
            "event_id": [EVENT],
            "stall_id": ["bar"],
            "staff_id": ["mia"],
            "currency": ["EUR"],
        }
        with self.edge.floor.database.reading() as connection:
            for name, column in _COLUMNS.items():
                rows = connection.execute(select(column).limit(20)).scalars()
                known[name] = [str(row) for row in rows]
        return known


_NO_PACE: Final = frozenset({"streams_max", "trusted_proxies"})


def _aim(case: Case[Any], known: Mapping[str, list[Any]], drawn: st.DataObject) -> None:
    """Mostly name what is there: what is made up is refused before anything can go wrong."""
    if case.path_parameters:
        _name(case.path_parameters, known, drawn)
    if isinstance(case.body, dict | list):
        _name(case.body, known, drawn)


def _name(said: Any, known: Mapping[str, list[Any]], drawn: st.DataObject) -> None:
    members = said.items() if isinstance(said, dict) else enumerate(said)
    for name, value in list(members):
        usual = known.get(str(name))
        if isinstance(value, dict | list):
            _name(value, known, drawn)
        elif usual and isinstance(value, type(usual[0])) and drawn.draw(st.integers(0, 4)):
            said[name] = drawn.draw(st.sampled_from(usual))


@schemathesis.serializer("application/jose")
def _as_it_is(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="for each address and kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", help="postgresql://...: an empty one; default: SQLite")
    parser.add_argument("--only", default="", help="a part of the operation's name")
    asked = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(asked.database or f"sqlite:///{folder}/cloud.sqlite", Path(folder))
        try:
            with fuzz.running() as (url, schema):
                for result in schema.get_all_operations():
                    operation = result.ok()
                    named = operation.definition.raw["operationId"]
                    if operation.path in STREAMS or asked.only not in named:
                        continue
                    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                        try:
                            fuzz.ask(url, operation, mode, asked.examples, asked.seed)
                        except (Exception, FailureGroup) as error:  # noqa: BLE001  # told; the next is asked
                            failures += 1
                            print(f"FAILED {named} ({mode.value})\n{error}\n")  # noqa: T201
                    statuses = {
                        status: count
                        for (name, status), count in sorted(fuzz.found.answers.items())
                        if name == named
                    }
                    print(f"{named}: {statuses}")  # noqa: T201
        finally:
            fuzz.close()
    print(f"{failures} failed, {sum(fuzz.found.answers.values())} requests")  # noqa: T201
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
