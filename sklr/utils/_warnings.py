"""Warnings that point at the user's line, however deep they were found."""

import sys
import warnings
from types import FrameType

# Whose frames lie between a user's call and ours: wrappers of methods, loops, calls of modules.
_BETWEEN = {"sklr", "sklearn", "joblib", "torch", "functools", "contextlib", "threading"}


def warn_user(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn on behalf of the line that called into sklr.

    Parameters
    ----------
    message : str or Warning
        What to say.
    category : type, default=UserWarning
        Kind of the warning.
    """
    level = 1
    frame: FrameType | None = sys._getframe(0)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
