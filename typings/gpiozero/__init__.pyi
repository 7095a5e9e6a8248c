from gpiozero.pins import Factory

class RGBLED:
    value: tuple[float, float, float]
    def __init__(
        self,
        red: int,
        green: int,
        blue: int,
        *,
        active_high: bool = True,
        pwm: bool = True,
        pin_factory: Factory,
    ) -> None: ...
    def close(self) -> None: ...

class PWMOutputDevice:
    value: float
    frequency: float
    def __init__(self, pin: int, *, frequency: float = 100, pin_factory: Factory) -> None: ...
    def close(self) -> None: ...
