"""A Pi's pins by lgpio, whose lines can be read back while they pulse."""

import lgpio  # pyright: ignore[reportMissingModuleSource] -- on a Pi alone
from gpiozero.pins.lgpio import LGPIOFactory


class PiPins(LGPIOFactory):
    """gpiozero says of a pulsing pin what it was told; the kernel says what its line is."""

    def level(self, number: int) -> bool:
        """Whether a line is high now. Raises lgpio.error."""
        return bool(lgpio.gpio_read(self._handle, number))
