"""Figures of a heat-geodesic embedding; matplotlib is imported when one is drawn."""

import datetime
import re
from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr.utils._axes import new_axes
from sklr.utils._imports import import_optional
from sklr.utils._warnings import warn_user

_DATES = (np.datetime64, datetime.date)  # pandas' Timestamp is a datetime, and that is a date
_MICROSECONDS = 86400e6  # of a day
# A legend has no more lines; it says how many labels there are besides.
_MOST = 40


def _beside(n):
    """Offsets that draw points of one component a little apart, the same each time."""
    return 0.25 * np.random.RandomState(0).uniform(-1, 1, n)  # noqa: NPY002 (the same everywhere)


def _colours_of(y, n):
    """Say how `y` colours n points: as numbers, NaN where missing, or as labels, then -1.

    Returns
    -------
    kind : {"numbers", "dates", "labels"}
        Which of them.
    values : ndarray of shape (n,)
        Numbers, days since 1970, or positions in `labels`.
    labels : list or None
        Labels in their order: that of ordered categories, else sorted, "10" after "9".
    """
    categories = getattr(getattr(y, "cat", None), "categories", None)
    if categories is None and getattr(y, "categories", None) is not None:
        categories = y.categories
    listed = np.asarray(y, dtype=object)
    if listed.ndim == 2 and listed.shape[1] == 1:
        listed = listed[:, 0]
    if listed.ndim != 1 or len(listed) != n:
        raise ValueError(f"y has shape {listed.shape} for {n} points.")
    # Whatever is not equal to itself, None, and pandas' NA are missing.
    missing = np.array([v is None or str(v) in ("<NA>", "NaT") or v != v for v in listed], bool)
    known = listed[~missing]
    if categories is None and len(known) and all(isinstance(v, _DATES) for v in known):
        days = np.array(known.tolist(), dtype="datetime64[us]")
        values = np.full(n, np.nan)
        values[~missing] = days.astype(float) / _MICROSECONDS
        return "dates", values, None
    if categories is None:
        numbers = all(isinstance(v, Real) and not isinstance(v, (bool, np.bool_)) for v in known)
        whole = numbers and all(float(v).is_integer() for v in known)
        given = np.asarray(y).dtype.kind
        many = len({float(v) for v in known}) > 20 if numbers else False
        if numbers and (many or not whole or (given == "f" and not missing.any())):
            values = np.full(n, np.nan)
            values[~missing] = known.astype(float)
            return "numbers", values, None
        if whole:
            known = np.array([int(v) for v in known], dtype=object)
        labels = list(dict.fromkeys(known.tolist()))
        try:
            labels = sorted(sorted(labels), key=_parts)
        except TypeError:  # of several types
            labels = sorted(labels, key=lambda v: (type(v).__name__, str(v)))
    else:
        present = set(known.tolist())
        labels = [v for v in np.asarray(categories, dtype=object).tolist() if v in present]
    place = {label: k for k, label in enumerate(labels)}
    values = np.full(n, -1)
    values[~missing] = [place[v] for v in known.tolist()]
    return "labels", values, labels


def _parts(label):
    """Split a text into words and numbers, so that "cluster 10" comes after "cluster 2"."""
    if not isinstance(label, str):
        return []
    return [(0, int(v), "") if v.isdigit() else (1, 0, v) for v in re.findall(r"\d+|\D+", label)]


def _distinct_colours(n):
    """Return n colours that differ: those of the usual cycle, of a list of 20, or of a wheel."""
    colormaps = import_optional("matplotlib", extra="plot", feature="EmbeddingDisplay").colormaps
    if n <= 10:
        return list(colormaps["tab10"].colors[:n])
    if n <= 20:
        return list(colormaps["tab20"].colors[:n])
    return [colormaps["turbo"](k / (n - 1)) for k in range(n)]


class EmbeddingDisplay:
    """Scatter plot of an embedding.

    Use :meth:`from_estimator`; the constructor keeps what it is given, as scikit-learn's
    displays do.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, n_components)
        Positions. Three components are drawn in a figure of three dimensions; of more, the first
        three, with a warning. One component is drawn along a line.
    y : array-like of shape (n_samples,), default=None
        Numbers or labels that colour the points; categories keep their order, and what is
        missing is grey.
    label : str, default=None
        What `y` is, for the colour bar or the legend; by default the name of a pandas Series.

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

    def __init__(self, embedding, y=None, *, label=None):
        self.embedding = embedding
        self.y = y
        self.label = label

    @classmethod
    def from_estimator(cls, estimator, X=None, y=None, *, label=None, ax=None, **scatter_kw):
        """Draw the training points of a fitted estimator, or others.

        Parameters
        ----------
        estimator : HeatGeodesicEmbedding
            Fitted; any estimator with ``embedding_`` will do.
        X : array-like of shape (n_samples, n_features), default=None
            Points that are transformed and drawn instead of the training points.
        y : array-like of shape (n_samples,), default=None
            Numbers or labels that colour the points.
        label : str, default=None
            What `y` is, for the colour bar or the legend.
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
        return cls(embedding, y, label=label).plot(ax=ax, **scatter_kw)

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
        Y = np.asarray(self.embedding)
        own = ax is None
        if Y.ndim != 2 or not Y.shape[1]:
            raise ValueError(f"embedding must have shape (n, n_components), got {Y.shape}.")
        if Y.shape[1] == 2:
            ax, figure = new_axes(ax, "EmbeddingDisplay")
        else:
            ax, figure = self._other_axes(ax, Y.shape[1])
        if own:
            figure.set_layout_engine("constrained")  # it leaves room for legends beside the axes
        n_drawn = 3 if getattr(ax, "name", "") == "3d" else 2
        if Y.shape[1] > n_drawn:
            warn_user(
                f"The embedding has {Y.shape[1]} components; the first {n_drawn} are drawn. "
                "Distances in the figure are shorter than in the embedding."
            )
        points = Y[:, :n_drawn] if Y.shape[1] > 1 else np.c_[Y, _beside(len(Y))]
        options = {"s": max(2.0, min(20.0, 2e4 / len(Y))), "linewidths": 0} | scatter_kw
        if self.y is None:
            self.scatter_ = ax.scatter(*points.T, **options)
        else:
            self._draw_coloured(ax, figure, points, options)
        if Y.shape[1] == 1:
            ax.set(xlabel="component 1", yticks=[], ylim=(-1, 1))
        else:
            # Distances are what the picture is about.
            ax.set_aspect("equal", adjustable="datalim" if n_drawn == 2 else None)
            if n_drawn == 3:
                ax.locator_params(nbins=4)  # a flat axis has no room for more
            ax.set(
                **{f"{axis}label": f"component {k}" for k, axis in enumerate("xyz"[:n_drawn], 1)}
            )
        self.ax_, self.figure_ = ax, figure
        return self

    def _other_axes(self, ax, n_components):
        if ax is not None or n_components == 1:
            return new_axes(ax, "EmbeddingDisplay")
        pyplot = import_optional("matplotlib.pyplot", extra="plot", feature="EmbeddingDisplay")
        figure = pyplot.figure()
        return figure.add_subplot(projection="3d"), figure

    def _draw_coloured(self, ax, figure, points, options):
        kind, values, labels = _colours_of(self.y, len(points))
        missing = values < 0 if kind == "labels" else np.isnan(values)
        label = self.label if self.label is not None else getattr(self.y, "name", None)
        if missing.any():
            grey = ax.scatter(
                *points[missing].T, **{**options, "color": "0.75", "label": "missing"}
            )
        beside = {
            "loc": "upper left",
            "bbox_to_anchor": (1.02, 1.0),
            "borderaxespad": 0.0,
            "fontsize": "small",
        }
        if kind != "labels":
            known = ~missing
            self.scatter_ = ax.scatter(*points[known].T, c=values[known], **options)
            bar = figure.colorbar(self.scatter_, ax=ax, pad=0.15 if points.shape[1] == 3 else 0.05)
            bar.set_label("y" if label is None else str(label))
            if kind == "dates":
                dates = import_optional(
                    "matplotlib.dates", extra="plot", feature="EmbeddingDisplay"
                )
                locator = dates.AutoDateLocator()
                bar.ax.yaxis.set_major_locator(locator)
                bar.ax.yaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
            if missing.any():
                # Above the axes: the colour bar is beside them.
                above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0)}
                ax.legend(handles=[grey], **{**beside, **above})
            return
        colours = _distinct_colours(len(labels))
        self.scatter_ = [
            ax.scatter(
                *points[values == k].T, **{"color": [colours[k]], "label": str(name), **options}
            )
            for k, name in enumerate(labels)
        ]
        handles, texts = ax.get_legend_handles_labels()
        if len(handles) > _MOST:
            rest = len(handles) - _MOST
            handles, texts = handles[:_MOST], texts[:_MOST]
            handles.append(ax.scatter([], [], alpha=0.0))
            texts.append(f"and {rest} more")
        ax.legend(
            handles,
            texts,
            markerscale=2,
            title=None if label is None else str(label),
            ncols=1 + len(handles) // 22,
            **beside,
        )


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
        ax, figure = new_axes(ax, "HeatEntropyDisplay")
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
        ax, figure = new_axes(ax, "ShepardDisplay")
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
