"""Figure of the accuracy of a network that is served at several sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr.utils._axes import new_axes


class SizeCurveDisplay:
    """Accuracy against size of a classifier that is served at every size.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    n_params : array-like of shape (n_sizes,)
        Numbers of parameters.
    scores : array-like of shape (n_sizes,)
        Accuracies.
    ratio : array-like of shape (n_sizes,), default=None
        The sizes as they were asked for: shares of the parameters, or of the units.
    name : str, default=None
        What the legend says; None has no legend.

    Attributes
    ----------
    line_ : matplotlib.lines.Line2D
        The curve, once plotted.
    ax_ : matplotlib.axes.Axes
        The axes, once plotted.
    figure_ : matplotlib.figure.Figure
        The figure, once plotted.

    See Also
    --------
    MaestroClassifier : Serves shares of the parameters.
    MorphableClassifier : Serves shares of the units.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import MaestroClassifier, SizeCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MaestroClassifier(max_iter=10, random_state=0).fit(X[::2], y[::2])
    >>> display = SizeCurveDisplay.from_estimator(classifier, X[1::2], y[1::2])
    >>> display.ax_.get_xlabel()
    'parameters'
    """

    def __init__(
        self, n_params: Any, scores: Any, *, ratio: Any = None, name: str | None = None
    ) -> None:
        self.n_params = n_params
        self.scores = scores
        self.ratio = ratio
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        ratios: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> SizeCurveDisplay:
        """Score a fitted classifier at several sizes, and plot the scores.

        Parameters
        ----------
        estimator : MaestroClassifier or MorphableClassifier
            The fitted classifier.
        X : array-like of shape (n_samples, n_features)
            Samples that the fit has not seen.
        y : array-like of shape (n_samples,)
            Their labels.
        ratios : array-like of float, default=None
            The sizes; by default nine from the smallest one to 1.
        name : str, default=None
            What the legend says; None is the name of the class.
        ax : matplotlib.axes.Axes, default=None
            Where to plot; by default a new figure.
        **kwargs : dict
            Options of matplotlib's ``plot``.

        Returns
        -------
        display : SizeCurveDisplay
            What was plotted.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "size_curve"):
            raise TypeError(
                f"SizeCurveDisplay needs an estimator that serves several sizes, such as "
                f"MaestroClassifier, got {type(estimator).__name__}"
            )
        curve = estimator.size_curve(X, y, ratios)
        asked = curve["ratio" if "ratio" in curve else "width"]
        shown = type(estimator).__name__ if name is None else name
        display = cls(curve["n_params"], curve["score"], ratio=asked, name=shown)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> SizeCurveDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to plot; by default a new figure.
        **kwargs : dict
            Options of matplotlib's ``plot``.

        Returns
        -------
        display : SizeCurveDisplay
            Itself, with `line_`, `ax_` and `figure_`.
        """
        ax, figure = new_axes(ax, "SizeCurveDisplay")
        order = np.argsort(self.n_params)
        options = {"marker": "o", "label": self.name, **kwargs}
        (self.line_,) = ax.plot(
            np.asarray(self.n_params)[order], np.asarray(self.scores)[order], **options
        )
        ax.set(xscale="log", xlabel="parameters", ylabel="accuracy")
        ax.spines[["top", "right"]].set_visible(False)
        if options["label"] is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, figure
        return self
