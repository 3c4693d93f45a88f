"""Axes to draw on; matplotlib is imported when a figure is drawn."""

from typing import Any

from sklr.utils._imports import import_optional


def new_axes(ax: Any, feature: str) -> tuple[Any, Any]:
    """Return axes and their figure: those given, or new ones.

    Parameters
    ----------
    ax : matplotlib.axes.Axes or None
        Where to draw.
    feature : str
        What needs matplotlib, for the message where it is missing.
    """
    pyplot = import_optional("matplotlib.pyplot", extra="plot", feature=feature)
    if ax is None:
        _, ax = pyplot.subplots()
    return ax, ax.figure
