"""An example for each body in the OpenAPI document, put together from its fields' own."""

from collections.abc import Mapping
from typing import Any, Final, cast

Schema = Mapping[str, Any]

_BY_FORMAT: Final[Mapping[str, str]] = {
    "uuid": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
    "date-time": "2026-06-20T18:00:00Z",
    "date": "2026-06-20",
    "uri": "https://credits.example.org/",
    "email": "guest@example.org",
}
_BY_NAME: Final[Mapping[str, str]] = {
    "action": "refund_approved",
    "actor": "console:ana",
    "announced_version": "0.7.0+202611240900",
    "answers": "deduct",
    "asked_by": "console:ana",
    "badge": "eyJhbGciOiJFUzI1NiIsImtpZCI6...",
    "badge_id": "kGk9c0m0Yz2bq1Qw",
    "bearer": "rxa_8l3J...",
    "card_page": "https://pay.example.org/c/8l3J",
    "certificate_pem": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n",
    "channel": "stable",
    "checkpoint": "eyJhbGciOiJFUzI1NiIsImtpZCI6...",
    "code": "R7K2-QX",
    "compatible": "railtix-pos-debian",
    "correlation_id": "c29tZS1jb3JyZWxhdGlvbg",
    "created_by": "device:till-1",
    "currency": "EUR",
    "decided_by": "console:ben",
    "decision_reason": "Seen it myself",
    "description": "Two days at the harbour",
    "detail": "The wallet holds less than that.",
    "device_id": "till-1",
    "digits": "564955...",
    "email": "guest@example.org",
    "event_id": "harbour-festival",
    "event_name": "Harbour Festival",
    "firmware": "0.1.0",
    "idempotency_key": "b2b0c0d0e0f0a0b0c0d0",
    "image": "0.6.0+202611230215",
    "initials": "MA",
    "jws": "eyJhbGciOiJFUzI1NiIsImtpZCI6...",
    "key": "b2b0c0d0e0f0a0b0c0d0",
    "kid": "k7Qw2bq1",
    "kind": "refund",
    "link": "rxl_8l3J...",
    "locale": "en_GB",
    "message": "Done.",
    "name": "Harbour Festival",
    "next_cursor": "MDE5N2IyYzQ",
    "notes": "Receipts print twice as fast",
    "number": "4242424242424242",
    "outcome": "approved",
    "password": "correct horse battery staple",
    "paused_why": "3 of the 4 appliances that tried it went back to the version before",
    "pin": "4711",
    "place": "Bar North",
    "printer": "ok",
    "reason": "The wrong drink",
    "reference": "R7K2-QX",
    "released_by": "ops:ana",
    "replaced_by": "bar-north-2",
    "replaces": "bar-north-1",
    "request_hash": "qZk6...",
    "resolution_reason": "The guest showed the receipt",
    "resolved_by": "console:ana",
    "retired_reason": "lost at the gate",
    "root": "qZk6...",
    "second_factor": "123456",
    "serial": "10000000a1",
    "session_id": "kGk9c0m0Yz2bq1Qw",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sign_in_link": "https://credits.example.org/#sign-in=rxl_8l3J...",
    "since": "2026-06-20T18:00:00Z",
    "slot": "A",
    "spki": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE...",
    "staff": "mia",
    "staff_id": "mia",
    "stall_id": "bar-north",
    "stall_name": "Bar North",
    "stalls": "bar-north",
    "state": "open",
    "status": "pending",
    "subject": "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e",
    "timezone": "Europe/Vienna",
    "title": "Bar North",
    "token": "eyJhbGciOiJFUzI1NiIsImtpZCI6...",
    "type": "Deduct",
    "user_name": "ana",
    "version": "0.7.0+202611240900",
    "why": "",
}
_ID: Final = "0197b2c4-6f0e-7c31-9d0e-3f6a1c2b4d5e"
_DEPTH_MAX: Final = 12


class NoExampleError(LookupError):
    """The member at this path says nothing that an example could be made of."""


def example_of(
    schema: Schema, schemas: Mapping[str, Schema], path: str = "", depth: int = 0
) -> Any:
    """One value that the schema describes.

    From `examples` where there are some, else made of the members' own; a member whose name is
    usual here has a usual value. Raises NoExampleError.
    """
    if depth > _DEPTH_MAX:
        raise NoExampleError(path)
    if reference := schema.get("$ref"):
        return example_of(schemas[str(reference).rpartition("/")[2]], schemas, path, depth + 1)
    for name in ("examples", "enum"):
        if schema.get(name):
            return schema[name][0]
    for name in ("example", "const"):
        if name in schema:
            return schema[name]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return example_of(_first_of(schema[name]), schemas, path, depth + 1)
    return _by_type(schema, schemas, path, depth)


def _by_type(schema: Schema, schemas: Mapping[str, Schema], path: str, depth: int) -> Any:
    name = path.rpartition(".")[2]
    match schema.get("type"):
        case "object" if "properties" in schema:
            members = cast("Mapping[str, Schema]", schema["properties"])
            return {
                member: example_of(said, schemas, f"{path}.{member}", depth + 1)
                for member, said in members.items()
            }
        case "object":
            return {}
        case "array" if "prefixItems" in schema:
            return [example_of(each, schemas, path, depth + 1) for each in schema["prefixItems"]]
        case "array":
            least = int(schema.get("minItems", 1)) or 1
            return [example_of(schema.get("items", {}), schemas, path, depth + 1)] * least
        case "boolean":
            return True
        case "integer" | "number":
            return _number(schema, name)
        case "null":
            return None
        case "string":
            return _text(schema, name, path)
        case _:
            if "default" in schema:
                return schema["default"]
            raise NoExampleError(path)


def _text(schema: Schema, name: str, path: str) -> str:
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == "id" or name.endswith("_id"):
        return _ID
    if name.endswith("_at"):
        return _BY_FORMAT["date-time"]
    if "default" in schema:
        return str(schema["default"])
    raise NoExampleError(path)


def _number(schema: Schema, name: str) -> int:
    usual = 1_781_978_400_000 if name.endswith("_ms") else 350 if "cents" in name else 1
    least, most = schema.get("minimum", usual), schema.get("maximum", usual)
    return int(min(max(usual, least), most))


def _first_of(choices: list[Schema]) -> Schema:
    """What something is, rather than that it may be left out."""
    return next((each for each in choices if each.get("type") != "null"), choices[0])
