"""Reads what a later release journaled, as far as this one knows of it: after an update that was
taken back, the journal is still the appliance's own.

What is new to it is passed over; what it knows means what it always meant. A release that needs
the one before to understand more than that says so in the journal, and is not gone back from.
"""

from functools import cache
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import inspect

from device.till.entries import Entry

TAG: Final = "entry"


class _Tagged(msgspec.Struct, frozen=True):
    entry: str


@cache
def _known_tags() -> frozenset[str]:
    return frozenset(str(each.__struct_config__.tag) for each in get_args(Entry))


def decode_later(body: bytes) -> Entry | None:
    """An entry without the fields that are new; None for a kind that is new.

    Raises msgspec.DecodeError where the bytes are no entry of any release's.
    """
    if msgspec.json.decode(body, type=_Tagged).entry not in _known_tags():
        return None
    return decode_known(body, Entry)


def decode_known(body: bytes, kind: Any) -> Any:
    """A value of `kind`, without what a later release added to it. Raises msgspec.DecodeError."""
    return msgspec.convert(known_part(msgspec.json.decode(body), _info_of(kind)), kind, strict=True)


def known_part(raw: object, kind: inspect.Type) -> object:
    """The same JSON without the members that `kind` does not know, at any depth."""
    match kind:
        case inspect.StructType() | inspect.DataclassType() if isinstance(raw, dict):
            known = {each.encode_name: each.type for each in kind.fields}
            members = cast("dict[str, object]", raw)
            tag = getattr(kind, "tag_field", None)
            return {
                name: known_part(value, known[name]) if name in known else value
                for name, value in members.items()
                if name in known or name == tag
            }
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item) if isinstance(
            raw, list
        ):
            return [known_part(each, item) for each in cast("list[object]", raw)]
        case inspect.UnionType():
            return known_part(raw, _meant(raw, kind))
        case _:
            return raw


def _meant(raw: object, kind: inspect.UnionType) -> inspect.Type:
    """The member of a union that this is."""
    if isinstance(raw, dict):
        members = cast("dict[str, object]", raw)
        for each in _objects(kind):
            tag_field, tag = getattr(each, "tag_field", None), getattr(each, "tag", None)
            if tag_field is None or members.get(tag_field) == tag:
                return each
    return inspect.AnyType()


def _objects(kind: inspect.UnionType) -> tuple[inspect.StructType | inspect.DataclassType, ...]:
    return tuple(
        each for each in kind.types if isinstance(each, inspect.StructType | inspect.DataclassType)
    )


@cache
def _info_of(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)
