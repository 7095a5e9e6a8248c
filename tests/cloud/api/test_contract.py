"""The OpenAPI document and docs/api.md say all that there is to say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cloud.api.description import EDGE_CODES, METHODS, operation_id, operations
from cloud.api.problems import STATUS
from tests.cloud.api.edge import Edge

API = Path(__file__).parents[3] / "docs" / "api.md"
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.fixture
def document(lone_edge: Edge) -> Any:
    return lone_edge.http.get("/v1/openapi.json").json()


def test_every_operation_says_what_it_does(document: Any) -> None:
    silent = [
        f"{method} {path}"
        for path, method, said in operations(document)
        if not said.get("description") or not said.get("summary") or not said.get("tags")
    ]
    assert silent == []


def test_an_operations_name_follows_its_address_and_is_its_own(document: Any) -> None:
    names = [said["operationId"] for _, _, said in operations(document)]
    assert len(names) == len(set(names))
    assert operation_id("get", "/v1/topups/{payment_id}") == "get_topups_by_payment_id"
    assert all(re.fullmatch(r"(get|put|post|delete|patch)(_[a-z0-9]+)+", name) for name in names)


def _bodies(document: Any) -> Iterator[tuple[str, Any]]:
    for path, method, said in operations(document):
        where = f"{method} {path}"
        for content in said.get("requestBody", {}).get("content", {}).items():
            yield f"{where} asks {content[0]}", content[1]
        for status, answer in said["responses"].items():
            if status.startswith("2"):
                for kind, content in answer.get("content", {}).items():
                    yield f"{where} answers {kind}", content


def test_every_json_body_has_an_example_that_its_schema_allows(document: Any) -> None:
    bodies = [
        (where, content)
        for where, content in _bodies(document)
        if where.endswith("json") and content.get("schema")
    ]
    assert len(bodies) > 40
    assert [where for where, content in bodies if "example" not in content] == []
    for where, content in bodies:
        schema = {**content["schema"], "components": document["components"]}
        try:
            jsonschema.Draft202012Validator(schema).validate(content["example"])
        except jsonschema.ValidationError as error:
            pytest.fail(f"{where}: {error.json_path}: {error.message}")


def test_every_answer_says_its_form(document: Any) -> None:
    formless = [
        f"{method} {path} {status}"
        for path, method, said in operations(document)
        for status, answer in said["responses"].items()
        if status not in {"204", "304"} and not answer.get("content")
    ]
    assert formless == []


def test_every_refusal_is_a_problem(document: Any) -> None:
    for path, method, said in operations(document):
        for status, answer in said["responses"].items():
            if status >= "400" and (path, status) != ("/readyz", "503"):
                assert answer["content"] == PROBLEM, f"{method} {path} {status}"


def test_what_may_happen_at_every_address_of_a_kind_is_said_there(document: Any) -> None:
    for path, method, said in operations(document):
        answers, where = set(said["responses"]), f"{method} {path}"
        assert {"431", "500"} <= answers, where
        if "requestBody" in said:
            assert {"408", "413"} <= answers, where
        if said.get("parameters") or "schema" in said.get("requestBody", {}).get("content", {}).get(
            "application/json", {}
        ):
            assert "422" in answers, where
        if "{" in path:
            assert "404" in answers, where
        if said.get("security"):
            assert {"401", "429"} <= answers, where
        # An appliance is told so in its signed reply.
        is_keyed = path != "/v1/pos/requests" and any(
            each["name"] == "Idempotency-Key" for each in said.get("parameters", [])
        )
        if is_keyed:
            assert "409" in answers, where


def test_methods_are_the_usual_ones(document: Any) -> None:
    assert {method for each in document["paths"].values() for method in each} <= set(METHODS)


def test_every_code_is_in_the_document_with_its_status(document: Any) -> None:
    expected = {code.value: status.value for code, status in STATUS.items()}
    expected |= {code: status.value for code, status in EDGE_CODES.items()}
    assert document["x-codes"] == expected


def _rows() -> dict[str, tuple[str, str, str]]:
    """Code: status, meaning and next step, as docs/api.md has them."""
    rows: dict[str, tuple[str, str, str]] = {}
    for line in API.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and (code := re.fullmatch(r"`([a-z_]+)`", cells[0])):
            assert code[1] not in rows, f"{code[1]} stands twice"
            rows[code[1]] = (cells[1], cells[2], cells[3])
    return rows


def test_the_guide_explains_every_code_and_no_other(document: Any) -> None:
    rows = _rows()
    codes = document["x-codes"] | {code: int(row[0]) for code, row in _webhook_codes().items()}
    assert sorted(set(codes) - set(rows)) == [], "not explained in docs/api.md"
    assert sorted(set(rows) - set(codes)) == [], "explained in docs/api.md, and not there"
    wrong = {code: status for code, status in codes.items() if rows[code][0] != str(status)}
    assert wrong == {}, "docs/api.md has another status"
    assert all(meaning and next_step for _, meaning, next_step in rows.values())


def _webhook_codes() -> dict[str, tuple[str, str, str]]:
    """Of what is never believed: webhooks, and requests that no appliance signed."""
    from cloud.operations.till.opening import UnverifiedReason
    from cloud.payments.provider import WebhookRefusal

    named = {each.value for each in UnverifiedReason} | {each.value for each in WebhookRefusal}
    return {code: row for code, row in _rows().items() if code in named}


def test_the_guide_explains_why_a_signed_request_is_not_believed() -> None:
    from cloud.operations.till.opening import UnverifiedReason
    from cloud.payments.provider import WebhookRefusal

    named = {each.value for each in UnverifiedReason} | {each.value for each in WebhookRefusal}
    assert sorted(named - set(_rows())) == []
