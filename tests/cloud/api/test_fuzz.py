"""A short run of `make fuzz`, the same every time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from schemathesis import GenerationMode

from tests.cloud.api.fuzzing import STREAMS, Fuzz

POSITIVE, NEGATIVE, GRANTED_WITHIN, SEED = 2, 2, 15, 20260620
MUST_BE_GRANTED = {
    "get_wallet",
    "get_wallet_transactions",
    "post_wallet_qr",
    "post_topups",
    "patch_me",
    "post_orders",
    "get_console_reviews_by_review_id",
    "put_ops_events_by_event_id",
    "post_ops_devices_by_device_id_revoke",
    "post_console_people",
    "get_console_exports_transactions",
}
"""Behind these stands most of what the others refuse by: the run is worth nothing without them."""


@pytest.fixture
def fuzz(postgres_url: str, tmp_path: Path) -> Iterator[Fuzz]:
    # It takes less than SQLite does: no zero bytes, no numbers beyond their column's.
    fuzz = Fuzz(postgres_url, tmp_path)
    yield fuzz
    fuzz.close()


@pytest.mark.timeout(600)
@pytest.mark.postgres
def test_whatever_is_asked_the_answer_is_as_described(fuzz: Fuzz) -> None:
    asked: set[str] = set()
    with fuzz.running() as (url, schema):
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path in STREAMS:
                continue
            name = operation.definition.raw["operationId"]
            asked.add(name)
            examples = GRANTED_WITHIN if name in MUST_BE_GRANTED else POSITIVE
            fuzz.ask(url, operation, GenerationMode.POSITIVE, examples, SEED)
            fuzz.ask(url, operation, GenerationMode.NEGATIVE, NEGATIVE, SEED)
    assert {name for name, _ in fuzz.found.answers} == asked
    assert not [name for name, status in fuzz.found.answers if status >= 500]
    assert {name for name in MUST_BE_GRANTED if not fuzz.found.answered(name)} == set()
