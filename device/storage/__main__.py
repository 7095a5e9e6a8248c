"""`python -m device.storage prepare|settings|complain`: what the image's units start, as root."""

import os
import sys
import time
from pathlib import Path
from typing import Final

RUN_FOLDER: Final = Path("/run/railtix-data")
DEVICE_LINK: Final = "device"
WHY_FILE: Final = "why"
BOOT: Final = Path("/boot/firmware")
KEPT_SETTINGS: Final = Path("/data/railtix/settings.toml")


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 -- the unit's output is the log and the console


def prepare() -> int:
    """What data.mount mounts is linked from the run folder; or why there is nothing."""
    from device.storage.boot_settings import FILE, read_boot_settings
    from device.storage.complaining import words_for
    from device.storage.deciding import Refused, Why
    from device.storage.finding import find
    from device.storage.preparing import Machine
    from device.storage.preparing import prepare as prepare_on
    from device.storage.tools import Tools, run

    def pause() -> None:
        time.sleep(1)

    place = find(Path("/proc/cmdline").read_text("utf-8"), pause)
    wanted = BOOT / FILE
    if place is None:
        outcome = Refused(Why.NOT_FOUND)
    else:
        machine = Machine(Tools(run), _serial, os.urandom, pause, say, RUN_FOLDER)
        if BOOT.is_mount():
            asked = read_boot_settings(wanted.read_bytes() if wanted.exists() else None)
        else:
            # What cannot be read may have asked for a key.
            asked = Refused(Why.SETTING, "the boot partition is not mounted")
        outcome = prepare_on(machine, place, asked)
    if isinstance(outcome, Refused):
        words = words_for(outcome)
        (RUN_FOLDER / WHY_FILE).write_text(words, "utf-8")
        say(words)
        return 1
    (RUN_FOLDER / WHY_FILE).unlink(missing_ok=True)
    link = RUN_FOLDER / DEVICE_LINK
    link.unlink(missing_ok=True)
    link.symlink_to(outcome.device)
    say(f"{outcome.device} is ready (encryption: {outcome.encryption})")
    return 0


def _serial() -> str:
    from device.identity.enrolment import serial_of

    return serial_of("")


def settings() -> int:
    from device.settings import SettingsError
    from device.storage.settings_file import FILE, take_up

    try:
        say(take_up(BOOT / FILE, KEPT_SETTINGS))
    except SettingsError as error:
        say(f"{error}; the settings stay as they were")
        return 1
    return 0


def complain() -> int:
    from device.storage.complaining import UNKNOWN, show_fault
    from device.storage.complaining import complain as complain_of
    from device.storage.settings_file import FILE

    why = RUN_FOLDER / WHY_FILE
    said = why.read_text("utf-8") if why.exists() else UNKNOWN
    complain_of(said, say, time.sleep, lambda parts: show_fault(BOOT / FILE, parts))
    return 0


COMMANDS: Final = {"prepare": prepare, "settings": settings, "complain": complain}


def main(arguments: list[str]) -> int:
    command = COMMANDS.get(arguments[0]) if len(arguments) == 1 else None
    if command is None:
        print(__doc__, file=sys.stderr)  # noqa: T201 -- usage
        return 2
    return command()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
