"""Says that there is no /data, and why: on the console, in the log, and by the lamp."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from device.hardware.build import HardwareRefusedError, open_lamp
from device.hardware.settings import HardwareSettings
from device.settings import SettingsError, load
from device.storage.deciding import Refused, Why
from device.till.signals import Light

EVERY_S: Final = 30.0
ROUNDS: Final = 20
"""Ten minutes: time to read it, then a cold start, which may help a card that was slow."""

UNKNOWN: Final = "the data partition could not be mounted"

_WHAT_TO_DO: Final = {
    Why.NOT_FOUND: "Is the card the appliance's own, and pushed in? Else flash a new one.",
    Why.UNREADABLE: "The card may be failing. Keep it: sales may be on it that the cloud lacks.",
    Why.NOTHING_THERE: "The card may be failing. Keep it: sales may be on it that the cloud lacks.",
    Why.FOREIGN: "Nothing was changed. Flash the card, if nobody misses what is on it.",
    Why.SETTING: "Mend railtix.toml on the card with a laptop. Nothing was changed.",
    Why.NO_SERIAL: 'Set encryption = "none" or "tpm" in railtix.toml. Nothing is on the card yet.',
    Why.NO_TPM: "Plug the TPM in that the card was first started with.",
    Why.OTHER_BOARD: "Put the card into the board it was first started in.",
    Why.DAMAGED: "Keep the card: sales may be on it that the cloud lacks.",
    Why.FAILED: "Keep the card, and send this message.",
}


def words_for(refused: Refused) -> str:
    """What happened and what a person can do, in a few lines."""
    detail = f" ({refused.detail})" if refused.detail else ""
    return f"{refused.why}{detail}.\n{_WHAT_TO_DO[refused.why]}"


def complain(
    said: str,
    say: Callable[[str], None],
    pause: Callable[[float], None],
    show: Callable[[ExitStack], None],
) -> None:
    """Returns when it is time to start again. A lamp that cannot be lit is said, and no more."""
    with ExitStack() as parts:
        try:
            show(parts)
        except HardwareRefusedError as error:
            say(str(error))
        for _ in range(ROUNDS):
            say(f"RAILTIX CANNOT START: {said}")
            pause(EVERY_S)


def show_fault(offered: Path, parts: ExitStack) -> None:
    """The fault light, on the pins that the boot partition's settings name, if they are any good.

    Raises HardwareRefusedError.
    """
    try:
        settings = load(offered, {}).hardware
    except SettingsError:
        settings = HardwareSettings()
    open_lamp(settings, parts).show(Light.FAULT)
