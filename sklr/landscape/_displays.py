"""Figures of spectra and paths; matplotlib is imported when one is drawn."""

from typing import Any

import numpy as np

from sklr.landscape._spectrum import symlog_threshold
from sklr.utils._axes import new_axes


class HessianSpectrumDisplay:
    """Density of the eigenvalues of a network's Hessian, and the leading ones.

    Parameters
    ----------
    grid : ndarray of shape (n_points,)
        Eigenvalues at which the density is known.
    density : ndarray of shape (n_points,)
        Share of the eigenvalues for each unit of the axis.
    eigenvalues : ndarray of shape (k,)
        Leading eigenvalues, drawn one by one.
    threshold : float
        Up to where the axis is linear.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes, once drawn.
    figure_ : matplotlib.figure.Figure
        The figure, once drawn.
    line_ : matplotlib.lines.Line2D
        The density, once drawn.

    See Also
    --------
    HessianSpectrum : What is drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklr.landscape import HessianSpectrum, HessianSpectrumDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> spectrum = HessianSpectrum().fit(LogisticRegression(max_iter=500).fit(X, y), X, y)
    >>> display = HessianSpectrumDisplay.from_estimator(spectrum)
    >>> display.ax_.get_xlabel()
    'Eigenvalue'
    """

    def __init__(self, *, grid: Any, density: Any, eigenvalues: Any, threshold: float) -> None:
        self.grid = grid
        self.density = density
        self.eigenvalues = eigenvalues
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls, spectrum: Any, *, ax: Any = None, label: str | None = None, **kwargs: Any
    ) -> "HessianSpectrumDisplay":
        """Draw the density of a fitted spectrum.

        Parameters
        ----------
        spectrum : HessianSpectrum
            Fitted with a method that knows the density.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None is a new figure.
        label : str or None, default=None
            Name of the line for a legend.
        **kwargs : dict
            Handed on to matplotlib's plot.

        Returns
        -------
        display : HessianSpectrumDisplay
            The figure's parts.
        """
        grid, density = spectrum.density()
        made = cls(
            grid=grid,
            density=density,
            eigenvalues=spectrum.eigenvalues_,
            threshold=symlog_threshold(spectrum.nodes_),
        )
        return made.plot(ax=ax, label=label, **kwargs)

    def plot(
        self, *, ax: Any = None, label: str | None = None, **kwargs: Any
    ) -> "HessianSpectrumDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None is a new figure.
        label : str or None, default=None
            Name of the line for a legend.
        **kwargs : dict
            Handed on to matplotlib's plot.

        Returns
        -------
        self : HessianSpectrumDisplay
            With the figure's parts.
        """
        self.ax_, self.figure_ = new_axes(ax, "HessianSpectrumDisplay")
        (self.line_,) = self.ax_.plot(self.grid, self.density, label=label, **kwargs)
        # One sample in a million is below the figure.
        floor = 1e-5 * float(np.max(self.density))
        self.ax_.plot(
            self.eigenvalues,
            np.full(len(self.eigenvalues), 2 * floor),
            "|",
            color=self.line_.get_color(),
            markersize=9,
        )
        self.ax_.set_xscale("symlog", linthresh=self.threshold)
        self.ax_.set_yscale("log")
        self.ax_.set_ylim(floor, None)
        self.ax_.set_xlabel("Eigenvalue")
        self.ax_.set_ylabel("Share of eigenvalues (density)")
        if label is not None:
            self.ax_.legend()
        return self
