"""`python -m image`: build the image, its bundles, its papers."""

import argparse
import os
import signal
import sys
from pathlib import Path

from image.build.faults import BuildFault, StepFailed
from image.build.profile import DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR, Mirrors, load, names


def main(arguments: list[str]) -> int:
    # An image's files are everybody's to read, whatever whoever builds it keeps to themselves.
    os.umask(0o022)
    if arguments[:1] and arguments[0] in {"compare", "sbom", "notes"}:
        return _papers(arguments[0], arguments[1:])
    wanted = _parser().parse_args(arguments)
    try:
        match wanted.command:
            case "build" if wanted.render:
                from image.build.rendering import render

                profile = load(wanted.profile, kernel=wanted.kernel)
                render(profile, _mirrors(wanted), Path(wanted.render), wanted.version)
            case "build":
                from image.build.commands import build

                build(load(wanted.profile, kernel=wanted.kernel), _mirrors(wanted), wanted)
            case "bundle":
                from image.build.commands import bundle

                bundle(load(wanted.profile, kernel=wanted.kernel), _mirrors(wanted), wanted)
            case "tools":
                from image.build.commands import make_tools

                make_tools(_mirrors(wanted))
            case _:
                from image.build.commands import make_keys

                make_keys(wanted.out)
    except BuildFault as fault:
        _complain(fault)
        return 1
    except KeyboardInterrupt:
        print("\nStopped: nothing was built.", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno is None:
            raise
        from image.build.faults import remedy_for

        _complain(BuildFault(str(error), remedy_for(str(error))))
        return 1
    return 0


def _complain(fault: BuildFault) -> None:
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    if isinstance(fault, StepFailed) and fault.said:
        print(fault.said, file=sys.stderr)
    print(f"{red}Not built:{plain} {fault.what}", file=sys.stderr)
    print(fault.remedy, file=sys.stderr)


def _papers(name: str, arguments: list[str]) -> int:
    match name:
        case "compare":
            from image.papers.compare import main as compare

            return compare(arguments)
        case "sbom":
            from image.papers.sbom import main as sbom

            return sbom(arguments)
        case _:
            from image.papers.notes import main as notes

            return notes(arguments)


def _mirrors(wanted: argparse.Namespace) -> Mirrors:
    return Mirrors(wanted.mirror, wanted.security_mirror, wanted.archive, wanted.archive_keyring)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m image",
        description="Builds the appliance's operating system, as root on an amd64 Debian 12 or 13.",
        epilog="RAILTIX_IMAGE_FOLDER names another folder than build/image.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=does)

    build = command("build", "make an image, its bundle and its papers")
    bundle = command("bundle", "make another bundle of what the last build made")
    tools = command("tools", "make the tools tree alone, and print where it is")
    keys = command("keys", "make development keys for signing bundles")
    command("compare", "name what differs between two images")
    command("sbom", "write the bill of materials")
    command("notes", "write release notes")

    for one in (build, bundle, tools):
        one.add_argument("--mirror", default=DEBIAN_MIRROR, metavar="URL", help="Debian's mirror")
        one.add_argument(
            "--security-mirror", default=DEBIAN_SECURITY_MIRROR, metavar="URL",
            help="its security mirror",
        )  # fmt: skip
        one.add_argument("--archive", default="", metavar="URL", help="the Raspberry Pi archive")
        one.add_argument(
            "--archive-keyring", default="", metavar="FILE", help="whose signature it bears"
        )
    for one in (build, bundle):
        one.add_argument("--profile", default="debian", choices=names(), help="kind of image")
        one.add_argument("--kernel", default="", metavar="PACKAGE", help="another kernel package")
        one.add_argument("--version", default="", help="instead of the release and commit time")
        one.add_argument(
            "--signing-key", default="", metavar="FILE", help="PEM file or pkcs11: address"
        )
        one.add_argument(
            "--signing-certificate", default="", metavar="FILE", help="its certificate"
        )
        one.add_argument(
            "--keyring", default="", metavar="FILE", help="authorities whose bundles are believed"
        )
    build.add_argument(
        "--render", default="", metavar="FOLDER", help="write what would be done, and do nothing"
    )
    build.add_argument("--no-papers", action="store_true", help="leave bill of materials and notes")
    build.add_argument("--no-bundle", action="store_true", help="the image alone")
    bundle.add_argument(
        "--variant", default="", metavar="NAME", help="a word for the file's name, such as crashing"
    )
    bundle.add_argument(
        "--overlay", action="append", default=[], metavar="FOLDER",
        help="files laid over the root last (again for more)",
    )  # fmt: skip
    keys.add_argument("--out", default="", metavar="FOLDER", help="instead of build/image/keys")
    return parser


if __name__ == "__main__":
    # Both end what runs in the tools' tree, which would go on without us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
