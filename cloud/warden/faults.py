"""What keeps the warden from its work, by a name that the log and a metric show."""


class WardenFault(Exception):  # noqa: N818  # a fault of the world around it, not of ours
    """`name` is one of few; the message says what to do, and holds no secret."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
