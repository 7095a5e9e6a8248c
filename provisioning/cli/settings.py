"""railtix-ops' own settings: which cloud, and who vouches for it."""

import tomllib
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from provisioning.cli.speaking import refuse

DEFAULT_FILE: Final = Path("/etc/railtix/ops.toml")
FILE_VARIABLE: Final = "RAILTIX_OPS_CONFIG"
CA_VARIABLE: Final = "RAILTIX_OPS_CA"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str | None = None
    """Where the cloud answers."""
    ca: str | None = None
    """A file with the authorities that vouch for it, as `ca init` writes ca.pem."""
    token_file: str | None = None
    """A program's access token; only its owner may read it."""


class Named(msgspec.Struct, frozen=True):
    """What stands before the command: it goes for every one."""

    config: Path | None = None
    ca: Path | None = None


_COMMAND: Final[ContextVar[typer.Context | None]] = ContextVar("command", default=None)
"""The command that runs now; typer keeps its own to itself."""


def named() -> Named:
    command = _COMMAND.get()
    found: object = None if command is None else command.obj
    return found if isinstance(found, Named) else Named()


def when_the_command_ends(do: Callable[[], None]) -> None:
    command = _COMMAND.get()
    if command is not None:
        command.call_on_close(do)


def read_settings() -> tuple[Settings, bool]:
    """The settings, and whether their file was named; a named one has to be there."""
    chosen = named().config
    path = chosen or DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, Settings), chosen is not None
    except FileNotFoundError:
        if chosen is None:
            return Settings(), False
        refuse(f"there is no {path}")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as why:
        refuse(f"{path}: {why}")


def before_every_command(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=FILE_VARIABLE, help=f"Settings to use instead of {DEFAULT_FILE}.", metavar="FILE"
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar=CA_VARIABLE,
            help="The authority of a cloud whose certificate is by your own: ca.pem.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """What goes for every command, and stands before it."""
    context.obj = Named(config, ca)
    _COMMAND.set(context)
