"""Each route's own rule, read from its dependencies, in the OpenAPI document: who may ask, by what.

`x-roles` names who: `anyone`, `attendee`, `console` (whoever is signed in there), or roles.
`x-scope` says where a role must be theirs: `everywhere` (for every event), at the `event` or
`stall` that the path names, or `anywhere`, and then only what is theirs is shown or touched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from cloud.api.access import (
    Allowed,
    console_cookie_name,
    cookie_name,
    presented_session,
    signed_in_attendee,
    signed_in_console,
)
from cloud.api.problems import MEDIA_TYPE

ANYONE: Final = "anyone"
ATTENDEE: Final = "attendee"
CONSOLE: Final = "console"
_SAFE: Final = frozenset({"get", "head"})


@dataclass(frozen=True, slots=True)
class Rule:
    who: tuple[str, ...]
    scope: str | None = None
    """None: not a matter of roles."""


def describe_access(app: FastAPI, public_url: str) -> None:
    """Once all routes are there: what `app.openapi()` returns says each one's rule."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes.update(_schemes(public_url))
        for path, method, rule in rules_of(app):
            operation = document["paths"].get(path, {}).get(method)
            if operation is not None:
                _describe(operation, method, rule)
        return document

    app.openapi = described


def rules_of(app: FastAPI) -> Iterator[tuple[str, str, Rule]]:
    """Path, method and rule of each route that is described."""
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if isinstance(dependant, Dependant) and context.path is not None:
            for method in sorted(context.methods or ()):
                yield context.path, method.lower(), _rule(dependant, context.path)


def _rule(dependant: Dependant, path: str) -> Rule:
    found = [rule for each in _within(dependant) if (rule := _of(each.call, path)) is not None]
    assert len(found) <= 1, f"{path} has two rules: {found}"
    return found[0] if found else Rule((ANYONE,))


def _within(dependant: Dependant) -> Iterator[Dependant]:
    for each in dependant.dependencies:
        yield each
        yield from _within(each)


def _of(call: object, path: str) -> Rule | None:
    if call in {signed_in_attendee, presented_session}:
        return Rule((ATTENDEE,))
    if call is signed_in_console:
        return Rule((CONSOLE,))
    if not isinstance(call, Allowed):
        return None
    named = "stall" if "{stall_id}" in path else "event" if "{event_id}" in path else "anywhere"
    scope = "everywhere" if call.everywhere else named
    return Rule(tuple(sorted(role.value for role in call.roles)), scope)


def _describe(operation: dict[str, Any], method: str, rule: Rule) -> None:
    operation["x-roles"] = list(rule.who)
    refusals = [HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS]
    if rule.scope is not None or method not in _SAFE:
        # No such role; or a cookie, sent by another site's page.
        refusals.append(HTTPStatus.FORBIDDEN)
    match rule.who:
        case ("anyone",):
            operation["security"] = []
            refusals = []
        case ("attendee",):
            operation["security"] = [{"attendee_bearer": []}, {"attendee_cookie": []}]
        case _:
            roles = [] if rule.scope is None else list(rule.who)
            operation["security"] = [{"console_bearer": roles}, {"console_cookie": roles}]
    if rule.scope is not None:
        operation["x-scope"] = rule.scope
    for status in refusals:
        operation["responses"].setdefault(str(status.value), _problem(status))


def _problem(status: HTTPStatus) -> Mapping[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": status.phrase, "content": content}


def _schemes(public_url: str) -> Mapping[str, Any]:
    return {
        "attendee_bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An attendee's session (`rxa_...`): POST /v1/session with `bearer`.",
        },
        "attendee_cookie": {"type": "apiKey", "in": "cookie", "name": cookie_name(public_url)},
        "console_bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token (`rxo_...`: `railtix-cloud token create`), or a console"
            " session (`rxc_...`: POST /v1/console/session with `bearer`).",
        },
        "console_cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": console_cookie_name(public_url),
        },
    }
