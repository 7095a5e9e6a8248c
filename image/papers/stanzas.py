"""Debian's control format (deb822): stanzas of fields, as dpkg and copyright files have it."""

from collections.abc import Iterator


def stanzas_of(text: str) -> Iterator[dict[str, str]]:
    """Each stanza's fields, names in lower case; lines that go on are joined by newlines."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower()
            if not colon:
                name = ""
                continue
            fields[name] = value.strip()
    if fields:
        yield fields
