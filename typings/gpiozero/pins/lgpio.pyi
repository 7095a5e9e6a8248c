from gpiozero.pins import Factory

class LGPIOFactory(Factory):
    _handle: int
    def __init__(self, chip: int | None = None) -> None: ...
