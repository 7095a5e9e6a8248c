"""Which licences a Debian copyright file names, in SPDX's words where SPDX has one."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from cyclonedx.spdx import fixup_id, is_expression

from image.papers.stanzas import stanzas_of

# Debian's short names that differ from SPDX's in more than case.
_SPDX: Final = {
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "bsd-1": "BSD-1-Clause",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "bsd-4-clause-uc": "BSD-4-Clause-UC",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "mpl-2": "MPL-2.0",
    "python-2": "Python-2.0",
}
_EXCEPTIONS: Final = {
    "autoconf": {"2": "Autoconf-exception-2.0", "3": "Autoconf-exception-3.0"},
    "bison": {"2": "Bison-exception-2.2", "3": "Bison-exception-2.2"},
    "font": {"2": "Font-exception-2.0"},
    "gcc": {"2": "GCC-exception-2.0", "3": "GCC-exception-3.1"},
    "libtool": {"2": "Libtool-exception"},
    "linux-syscall-note": {"2": "Linux-syscall-note"},
}
_GNU: Final = re.compile(
    r"(?P<family>A?GPL|LGPL|GFDL)(?P<bare>-NIV)?-?v?(?P<version>\d(?:\.\d)?)(?:\.0)?(?P<later>\+?)"
    r"(?:[ -]with[ -](?P<exception>[a-z-]+?)(?:[ -]exception)?)?",
    re.IGNORECASE,
)
_FULL_TEXT: Final = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9+])")
_ANY_CASE: Final = re.IGNORECASE
_NAME_AT_MOST: Final = 80


@dataclass(frozen=True)
class Licences:
    """An SPDX expression where SPDX has every one of them; else names, some of them SPDX ids."""

    expression: str | None
    names: tuple[str, ...]
    # Of a file that only people can read: which of Debian's full texts it mentions. That is no
    # verdict: it may mention the GPL for the packaging alone.
    mentioned: tuple[str, ...] = ()


def licences_of(copyright_text: str) -> Licences:
    """Of a package's copyright file, machine-readable or free text; no names where none is told."""
    stanzas = list(stanzas_of(copyright_text))
    if stanzas and "format" in stanzas[0]:
        told = {
            " ".join(stanza["license"].split("\n")[0].split())
            for stanza in stanzas
            if "license" in stanza and "files" in stanza
        }
        return _declared(name[:_NAME_AT_MOST] for name in told if name)
    texts = {match[1] for match in _FULL_TEXT.finditer(copyright_text)}
    return Licences(None, (), tuple(sorted(texts)))


def _declared(told: Iterable[str]) -> Licences:
    names = sorted(set(told))
    clauses = {name: _clauses(name) for name in names}
    if names and all(clauses.values()):
        return Licences(_all_of({each for of_one in clauses.values() for each in of_one or ()}), ())
    given = {_all_of(found) if found else name for name, found in clauses.items()}
    return Licences(None, tuple(sorted(given)))


def _all_of(clauses: Collection[str]) -> str:
    if len(clauses) == 1:
        return next(iter(clauses))
    return " AND ".join(f"({each})" if " OR " in each else each for each in sorted(clauses))


def _clauses(name: str) -> frozenset[str] | None:
    """Of `GPL-1+ or Artistic` `GPL-1.0-or-later OR Artistic-1.0-Perl`; None for no SPDX's.

    "A or B and C" is "A or (B and C)", "A or B, and C" is "(A or B) and C"
    (copyright-format 1.0, "License specification").
    """
    clauses = [_disjunction(clause) for clause in re.split(r",\s*and ", name, flags=_ANY_CASE)]
    return frozenset(clause for clause in clauses if clause) if all(clauses) else None


def _disjunction(clause: str) -> str | None:
    alternatives = [_conjunction(part) for part in re.split(r",? or ", clause, flags=_ANY_CASE)]
    return " OR ".join(each for each in alternatives if each) if all(alternatives) else None


def _conjunction(alternative: str) -> str | None:
    atoms = [spdx_of(part) for part in re.split(" and ", alternative, flags=_ANY_CASE)]
    return " AND ".join(atom for atom in atoms if atom) if all(atoms) else None


def spdx_of(name: str) -> str | None:
    """SPDX's id of one licence, with its exception; None where SPDX has none that is this one."""
    short = name.strip()
    gnu = _GNU.fullmatch(short)
    if gnu is not None:
        return _gnu(gnu)
    if " WITH " in short and is_expression(short):
        return short
    return _SPDX.get(short.lower()) or fixup_id(short)


def _gnu(match: re.Match[str]) -> str | None:
    version = match["version"] if "." in match["version"] else match["version"] + ".0"
    bare = "-no-invariants" if match["bare"] else ""
    family = match["family"].upper()
    licence = fixup_id(f"{family}-{version}{bare}-{'or-later' if match['later'] else 'only'}")
    if licence is None or match["exception"] is None:
        return licence
    known = _EXCEPTIONS.get(match["exception"].lower(), {}).get(version[0])
    return f"{licence} WITH {known}" if known else None
