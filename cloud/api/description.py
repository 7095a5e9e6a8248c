"""The OpenAPI document made whole: names, examples, and the refusals common to all addresses."""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI

from cloud.api.examples import NoExampleError, example_of
from cloud.api.problems import MEDIA_TYPE, STATUS

Operation = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "patch")
JSON: Final = "application/json"

EDGE_CODES: Final[Mapping[str, HTTPStatus]] = {
    "not_http": HTTPStatus.BAD_REQUEST,
    "key_differs": HTTPStatus.BAD_REQUEST,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "checkout_unknown": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "body_too_slow": HTTPStatus.REQUEST_TIMEOUT,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "not_json": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "not_jose": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "not_a_csr": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "request_not_understood": HTTPStatus.UNPROCESSABLE_ENTITY,
    "head_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "not_known": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What no operation says, but the way to it."""

_EVERYWHERE: Final = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
_WITH_A_BODY: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_PROBLEM: Final = "#/components/schemas/Problem"
_VALIDATION: Final = ("HTTPValidationError", "ValidationError")


def describe_whole(app: FastAPI) -> None:
    """Once all else is described: `app.openapi()` returns the whole, made once."""
    plain = app.openapi
    made: dict[str, Any] = {}

    def described() -> dict[str, Any]:
        if not made:
            made.update(_completed(plain()))
        return made

    app.openapi = described


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    """Path, method, and what is said of it."""
    for path, said in document["paths"].items():
        for method in METHODS:
            if method in said:
                yield path, method, said[method]


def operation_id(method: str, path: str) -> str:
    """`get_topups_by_payment_id`: as stable as the address itself."""
    words = re.sub(r"\{(\w+)\}", r"by_\1", path.removeprefix("/v1"))
    return "_".join((method, *re.findall(r"[a-z0-9]+", words)))


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    schemas: dict[str, Any] = document["components"]["schemas"]
    for path, method, operation in operations(document):
        operation["operationId"] = operation_id(method, path)
        if description := operation.get("description"):
            operation["summary"] = _first_sentence(description)
        for status in _refusals(path, operation):
            operation["responses"].setdefault(str(status.value), _problem(status))
        for status, answer in operation["responses"].items():
            if status >= "400":
                _say_problem(answer)
        for content in _bodies(operation):
            _give_example(content, schemas)
    for name in _VALIDATION:
        # The framework's own form of a 422, which no answer here has.
        schemas.pop(name, None)
    document["x-codes"] = {
        code: status.value
        for code, status in sorted(
            {**{code.value: status for code, status in STATUS.items()}, **EDGE_CODES}.items()
        )
    }
    return document


def _refusals(path: str, operation: Operation) -> Iterator[HTTPStatus]:
    yield from _EVERYWHERE
    body = operation.get("requestBody")
    if body is not None:
        yield from _WITH_A_BODY
        if JSON in body["content"] and body["content"][JSON].get("schema"):
            yield HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    if "{" in path:
        yield HTTPStatus.NOT_FOUND
    if body is not None or operation.get("parameters"):
        yield HTTPStatus.UNPROCESSABLE_ENTITY


def _bodies(operation: Operation) -> Iterator[dict[str, Any]]:
    """What is sent, and what is answered when all went well."""
    if body := operation.get("requestBody"):
        yield from (said for kind, said in body["content"].items() if kind == JSON)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield from (
                said for kind, said in answer.get("content", {}).items() if kind.endswith("json")
            )


def _give_example(content: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    if "example" in content or "examples" in content or not content.get("schema"):
        return
    try:
        content["example"] = example_of(content["schema"], schemas)
    except NoExampleError:
        # tests/cloud/api/test_contract.py names it: a document without it is better than none.
        content.pop("example", None)


def _say_problem(answer: dict[str, Any]) -> None:
    """The framework writes each model down as plain JSON, and a 422 in a form of its own."""
    said = answer.get("content", {}).get(JSON, {}).get("schema", {})
    form = said if said and "Validation" not in str(said) else {"$ref": _PROBLEM}
    answer["content"] = {MEDIA_TYPE: {"schema": form}}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": _PROBLEM}}}
    return {"description": status.phrase, "content": content}


def _first_sentence(description: str) -> str:
    """Up to the first full stop or colon that ends something."""
    text = " ".join(description.split())
    return re.split(r"(?<=[^.])[.:;](?= |$)", text, maxsplit=1)[0]
