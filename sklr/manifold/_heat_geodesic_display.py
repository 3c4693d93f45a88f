"""Figures of a heat-geodesic embedding; matplotlib is imported when one is drawn."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr.utils._imports import import_optional


def _new_axes(ax, feature):
    pyplot = import_optional("matplotlib.pyplot", extra="plot", feature=feature)
    if ax is None:
        _, ax = pyplot.subplots()
    return ax, ax.figure


class EmbeddingDisplay:
    """Scatter plot of an embedding.

    Use :meth:`from_estimator`; the constructor keeps what it is given, as scikit-learn's
    displays do.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, n_components)
        Positions; the first two components are drawn.
    y : ndarray of shape (n_samples,), default=None
        Numbers or labels that colour the points.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Its figure.
    scatter_ : matplotlib PathCollection or list of them
        The points; one collection for each label.

    See Also
    --------
    HeatEntropyDisplay : How the diffusion time was chosen.
    ShepardDisplay : How well distances are kept.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import make_swiss_roll
    >>> from sklr.manifold import EmbeddingDisplay, HeatGeodesicEmbedding
    >>> X, y = make_swiss_roll(200, random_state=0)
    >>> model = HeatGeodesicEmbedding(t=5.0, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(model, y=y)
    >>> plt.close(display.figure_)
    """

    def __init__(self, embedding, y=None):
        self.embedding = embedding
        self.y = y

    @classmethod
    def from_estimator(cls, estimator, X=None, y=None, *, ax=None, **scatter_kw):
        """Draw the training points of a fitted estimator, or others.

        Parameters
        ----------
        estimator : HeatGeodesicEmbedding
            Fitted; any estimator with ``embedding_`` will do.
        X : array-like of shape (n_samples, n_features), default=None
            Points that are transformed and drawn instead of the training points.
        y : array-like of shape (n_samples,), default=None
            Numbers or labels that colour the points.
        ax : matplotlib Axes, default=None
            Axes to draw in.
        **scatter_kw : dict
            Further arguments of ``Axes.scatter``.

        Returns
        -------
        display : EmbeddingDisplay
            The figure.
        """
        check_is_fitted(estimator, "embedding_")
        embedding = estimator.embedding_ if X is None else np.asarray(estimator.transform(X))
        return cls(embedding, y).plot(ax=ax, **scatter_kw)

    def plot(self, *, ax=None, **scatter_kw):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in.
        **scatter_kw : dict
            Further arguments of ``Axes.scatter``.

        Returns
        -------
        display : EmbeddingDisplay
            Itself.
        """
        ax, figure = _new_axes(ax, "EmbeddingDisplay")
        Y = np.asarray(self.embedding)
        if Y.shape[1] == 1:
            Y = np.c_[Y, np.zeros(len(Y))]
        options = {"s": max(2.0, min(20.0, 2e4 / len(Y))), "linewidths": 0} | scatter_kw
        if self.y is None:
            self.scatter_ = ax.scatter(Y[:, 0], Y[:, 1], **options)
        else:
            y = np.asarray(self.y)
            if len(y) != len(Y):
                raise ValueError(f"y has {len(y)} entries for {len(Y)} points.")
            labels = np.unique(y)
            if y.dtype.kind == "f" or (y.dtype.kind in "iu" and len(labels) > 20):
                self.scatter_ = ax.scatter(Y[:, 0], Y[:, 1], c=y, **options)
                figure.colorbar(self.scatter_, ax=ax)
            else:
                self.scatter_ = [
                    ax.scatter(*Y[y == label, :2].T, label=str(label), **options)
                    for label in labels
                ]
                ax.legend(markerscale=2, fontsize="small")
        ax.set_aspect("equal", adjustable="datalim")  # distances are what the picture is about
        ax.set(xlabel="component 1", ylabel="component 2")
        self.ax_, self.figure_ = ax, figure
        return self


class HeatEntropyDisplay:
    """Entropy of the heat kernel against the diffusion time, with the time that was chosen.

    Parameters
    ----------
    t_grid : ndarray of shape (n_times,)
        Times.
    entropy : ndarray of shape (n_times,)
        Von Neumann entropy of the heat kernel.
    t : float
        The chosen time.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Its figure.
    line_ : matplotlib Line2D
        The curve.

    See Also
    --------
    EmbeddingDisplay : The embedding itself.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import make_swiss_roll
    >>> from sklr.manifold import HeatEntropyDisplay, HeatGeodesicEmbedding
    >>> X, _ = make_swiss_roll(200, random_state=0)
    >>> display = HeatEntropyDisplay.from_estimator(HeatGeodesicEmbedding().fit(X))
    >>> plt.close(display.figure_)
    """

    def __init__(self, t_grid, entropy, t):
        self.t_grid = t_grid
        self.entropy = entropy
        self.t = t

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the curve of an estimator that was fitted with ``t="auto"``.

        Parameters
        ----------
        estimator : HeatGeodesicEmbedding
            Fitted with ``t="auto"``.
        ax : matplotlib Axes, default=None
            Axes to draw in.

        Returns
        -------
        display : HeatEntropyDisplay
            The figure.
        """
        check_is_fitted(estimator, "t_")
        if not hasattr(estimator, "entropy_"):
            raise ValueError(
                f"t={estimator.t_:.4g} was given, so there is no entropy curve; fit with t='auto'."
            )
        return cls(estimator.t_grid_, estimator.entropy_, estimator.t_).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in.

        Returns
        -------
        display : HeatEntropyDisplay
            Itself.
        """
        ax, figure = _new_axes(ax, "HeatEntropyDisplay")
        (self.line_,) = ax.plot(self.t_grid, self.entropy, marker=".")
        ax.axvline(self.t, linestyle="--", color="gray", label=f"t = {self.t:.3g}")
        ax.set(xlabel="diffusion time t", ylabel="entropy of the heat kernel (nats)")
        ax.legend()
        self.ax_, self.figure_ = ax, figure
        return self


class ShepardDisplay:
    """Shepard diagram: distances in the picture against the dissimilarities.

    Parameters
    ----------
    dissimilarity : ndarray of shape (n_pairs,)
        Heat-geodesic dissimilarities.
    distance : ndarray of shape (n_pairs,)
        Distances in the embedding.
    stress : float
        Normalised stress, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the plot.
    figure_ : matplotlib Figure
        Its figure.
    points_ : matplotlib PathCollection
        The pairs.

    See Also
    --------
    EmbeddingDisplay : The embedding itself.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import make_swiss_roll
    >>> from sklr.manifold import HeatGeodesicEmbedding, ShepardDisplay
    >>> X, _ = make_swiss_roll(200, random_state=0)
    >>> display = ShepardDisplay.from_estimator(HeatGeodesicEmbedding(t=5.0).fit(X))
    >>> plt.close(display.figure_)
    """

    def __init__(self, dissimilarity, distance, stress):
        self.dissimilarity = dissimilarity
        self.distance = distance
        self.stress = stress

    @classmethod
    def from_estimator(cls, estimator, *, n_pairs=5000, random_state=0, ax=None):
        """Draw random pairs of a fitted estimator.

        Parameters
        ----------
        estimator : HeatGeodesicEmbedding
            Fitted.
        n_pairs : int, default=5000
            How many pairs are drawn.
        random_state : int, RandomState instance or None, default=0
            Chooses them.
        ax : matplotlib Axes, default=None
            Axes to draw in.

        Returns
        -------
        display : ShepardDisplay
            The figure.
        """
        from sklearn.utils import check_random_state

        check_is_fitted(estimator, "dissimilarity_")
        rng = check_random_state(random_state)
        D, Y = estimator.dissimilarity_, estimator.graph_embedding_
        rows = rng.randint(D.shape[0], size=n_pairs)
        columns = rng.randint(D.shape[1], size=n_pairs)
        other = estimator.landmark_indices_[columns]
        kept = rows != other
        rows, columns, other = rows[kept], columns[kept], other[kept]
        distance = np.linalg.norm(Y[rows] - Y[other], axis=1)
        return cls(D[rows, columns], distance, estimator.stress_).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw in.

        Returns
        -------
        display : ShepardDisplay
            Itself.
        """
        ax, figure = _new_axes(ax, "ShepardDisplay")
        self.points_ = ax.scatter(self.dissimilarity, self.distance, s=3, alpha=0.4, linewidths=0)
        top = max(np.max(self.dissimilarity, initial=0), np.max(self.distance, initial=0))
        ax.plot([0, top], [0, top], color="gray", linestyle="--", linewidth=1)
        ax.set(
            xlabel="heat-geodesic dissimilarity",
            ylabel="distance in the embedding",
            title=f"stress {self.stress:.3f}",
        )
        self.ax_, self.figure_ = ax, figure
        return self
