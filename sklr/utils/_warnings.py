"""Warnings that point at the user's line, however deep they were found."""

import sys
import warnings
from types import FrameType


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn on behalf of the line that called into sklr.

    Parameters
    ----------
    message : str
        What to say.
    category : type, default=UserWarning
        Kind of the warning.
    """
    level = 1
    frame: FrameType | None = sys._getframe(0)
    inside = ("sklr", "sklearn")
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
