"""What modules raise when numbers break down, so that a training loop can say why."""


class DivergedError(ValueError):
    """A matrix or an embedding inside a network is singular, or not finite.

    Before the first step that is a fault of the data, and the message says what to do about them;
    later it is mostly a learning rate that is too large, which the loop says instead.

    Parameters
    ----------
    what : str
        What happened, with numbers.
    remedy : str
        What to do where the data are the cause.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"
