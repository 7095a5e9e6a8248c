"""Passwords at rest: argon2id; a long one is asked for, and its pattern is nobody's business."""

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cloud.access.refusals import PasswordNotAllowed

PASSWORD_CHARS_MIN: Final = 12
PASSWORD_CHARS_MAX: Final = 200
_DIFFERENT_MIN: Final = 5

# OWASP's first choice (Password Storage Cheat Sheet): memory rather than passes, so that an honest
# sign-in is short and a graphics card gains little.
_HASHER: Final = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)

NOBODYS_HASH: Final = _HASHER.hash("nobody has this password")
"""Compared with where there is no such person: then it takes as long."""


def hash_password(password: str, user_name: str, email: str) -> str | PasswordNotAllowed:
    """The password's hash for its row (argon2id, PHC string), or why this may be none."""
    if len(password) < PASSWORD_CHARS_MIN:
        return PasswordNotAllowed(f"{PASSWORD_CHARS_MIN} characters are the least")
    if len(password) > PASSWORD_CHARS_MAX:
        return PasswordNotAllowed(f"{PASSWORD_CHARS_MAX} characters are the most")
    if len(set(password)) < _DIFFERENT_MIN:
        return PasswordNotAllowed(f"it needs {_DIFFERENT_MIN} different characters")
    folded = password.casefold()
    mailbox = email.casefold().partition("@")[0]
    if any(len(name) > 2 and name in folded for name in (user_name.casefold(), mailbox)):
        return PasswordNotAllowed("your own name or address must not be part of it")
    return _HASHER.hash(password)


def is_password(password: str, stored_hash: str) -> bool:
    """Whether this is the password; slow on purpose: no lock may wait for it."""
    try:
        return _HASHER.verify(stored_hash, password)
    except (VerificationError, InvalidHashError):
        return False
