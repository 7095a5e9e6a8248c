"""railtix-ops, also as `python -m provisioning`."""

import sys


def main() -> None:
    """Run the command; what the disk refuses is told in one sentence and exit code 1."""
    import msgspec
    from rich.markup import escape

    from provisioning.cli.app import app
    from provisioning.cli.speaking import err

    try:
        app()
    except OSError as fault:
        where = f": {fault.filename}" if fault.filename else ""
        err.print(f"[red]Failed:[/] {escape(f'{fault.strerror or fault}{where}')}")
        sys.exit(1)
    except msgspec.DecodeError as fault:
        err.print(f"[red]Failed:[/] the authority's register cannot be read: {escape(str(fault))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
