"""Figures of spectra and dimensions; matplotlib is imported when one is drawn."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

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


class DimensionCurveDisplay:
    """Score against the number of random dimensions.

    Parameters
    ----------
    dims : ndarray of shape (n_dims,)
        Numbers of dimensions.
    scores : ndarray of shape (n_dims, n_repeats)
        Scores.
    threshold : float
        What has to be reached.
    dimension : float
        Where it is.
    baseline : float
        Score of all parameters.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes, once drawn.
    figure_ : matplotlib.figure.Figure
        The figure, once drawn.
    line_ : matplotlib.lines.Line2D
        The mean scores, once drawn.

    See Also
    --------
    IntrinsicDimension : What is drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.landscape import DimensionCurveDisplay
    >>> display = DimensionCurveDisplay(
    ...     dims=np.array([10, 20]), scores=np.array([[0.5, 0.6], [0.9, 0.8]]), threshold=0.8,
    ...     dimension=18.0, baseline=0.9)
    >>> display.plot().ax_.get_xlabel()
    'Random dimensions'
    """

    def __init__(
        self, *, dims: Any, scores: Any, threshold: float, dimension: float, baseline: float
    ) -> None:
        self.dims = dims
        self.scores = scores
        self.threshold = threshold
        self.dimension = dimension
        self.baseline = baseline

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, label: str | None = None
    ) -> "DimensionCurveDisplay":
        """Draw the curve of a fitted search.

        Parameters
        ----------
        estimator : IntrinsicDimension
            The fitted search.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None is a new figure.
        label : str or None, default=None
            Name of the curve for a legend.

        Returns
        -------
        display : DimensionCurveDisplay
            The figure's parts.
        """
        check_is_fitted(estimator)
        made = cls(
            dims=estimator.results_["dims"],
            scores=estimator.results_["scores"],
            threshold=estimator.threshold_,
            dimension=estimator.dimension_,
            baseline=estimator.baseline_score_,
        )
        return made.plot(ax=ax, label=label)

    def plot(self, *, ax: Any = None, label: str | None = None) -> "DimensionCurveDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None is a new figure.
        label : str or None, default=None
            Name of the curve for a legend.

        Returns
        -------
        self : DimensionCurveDisplay
            With the figure's parts.
        """
        self.ax_, self.figure_ = new_axes(ax, "DimensionCurveDisplay")
        scores = np.asarray(self.scores)
        (self.line_,) = self.ax_.plot(self.dims, scores.mean(axis=1), "o-", label=label)
        colour = self.line_.get_color()
        for column in scores.T:
            self.ax_.plot(self.dims, column, ".", color=colour, alpha=0.4)
        self.ax_.axhline(self.threshold, color=colour, linestyle=":", linewidth=1)
        self.ax_.axhline(self.baseline, color=colour, linewidth=1, alpha=0.5)
        if np.isfinite(self.dimension):
            self.ax_.axvline(self.dimension, color=colour, linestyle="--", linewidth=1)
        self.ax_.set_xscale("log")
        self.ax_.set_xlabel("Random dimensions")
        self.ax_.set_ylabel("Score")
        if label is not None:
            self.ax_.legend()
        return self
