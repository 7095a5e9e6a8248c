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

class TonalBuzzer:
    def __init__(
        self, pin: int, *, mid_tone: object = ..., octaves: int = 1, pin_factory: Factory
    ) -> None: ...
    def play(self, tone: object) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
